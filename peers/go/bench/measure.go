package main

// What is measured: operations between the end of the warm-up and the end of the duration, and how long
// each took.

import (
	"context"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
)

type row struct {
	Workload   string                 `json:"workload"`
	Case       string                 `json:"case"`
	Repeat     int                    `json:"repeat"`
	Parameters map[string]interface{} `json:"parameters"`
	Operations int64                  `json:"operations"`
	Seconds    float64                `json:"seconds"`
	PerSecond  float64                `json:"per_second"`
	Unit       string                 `json:"unit"`
	Errors     int64                  `json:"errors"`
	Latency    latency                `json:"latency_us"`
	Counters   map[string]int64       `json:"counters"`
	Series     []int64                `json:"series"`
	// Only between processes.
	Samples []float64 `json:"samples,omitempty"`
}

type latency struct {
	Count int     `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// run is a measurement that is going on.
type run struct {
	from, to time.Time

	mutex    sync.Mutex
	samples  []float64
	series   [10]int64
	counters map[string]int64

	operations, errors int64
	last               int64 // nanoseconds after from
	stopped            int32
}

// start begins a measurement now, or when all processes do.
func (b *bench) start() *run {
	if b.startAt != 0 {
		time.Sleep(time.Until(time.Unix(0, b.startAt)))
	}
	from := time.Now().Add(b.warmUp)
	return &run{from: from, to: from.Add(b.duration), counters: map[string]int64{}}
}

// over tells a worker to end.
func (r *run) over() bool {
	return atomic.LoadInt32(&r.stopped) != 0 || !time.Now().Before(r.to)
}

func (r *run) stop() { atomic.StoreInt32(&r.stopped, 1) }

// done counts an operation, or several that were one call, which began then and ended now.
func (r *run) done(began time.Time, operations int64) { r.took(time.Since(began), operations) }

// took counts operations that ended now.
func (r *run) took(duration time.Duration, operations int64) {
	now := time.Now()
	if now.Before(r.from) || now.After(r.to) {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.operations += operations
	r.samples = append(r.samples, float64(duration)/float64(time.Microsecond))
	tenth := int(10 * now.Sub(r.from) / r.to.Sub(r.from))
	if tenth > 9 {
		tenth = 9
	}
	r.series[tenth] += operations
	r.last = int64(now.Sub(r.from))
}

// failed counts an error, and says it.
func (r *run) failed(err error) {
	complain(err)
	if atomic.AddInt64(&r.errors, 1) >= 100 {
		r.stop()
	}
}

func (r *run) count(name string, n int64) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.counters[name] += n
}

// counting is whether what happens now is measured.
func (r *run) counting() bool {
	now := time.Now()
	return now.After(r.from) && now.Before(r.to)
}

// workers runs so many workers to their end. Those that hang are left behind, and reported.
func (b *bench) workers(r *run, n int, work func(worker int)) {
	done := make(chan bool, n)
	for i := 0; i < n; i++ {
		worker := i
		go func() {
			defer func() { done <- true }()
			work(worker)
		}()
	}
	b.await(r, done, n)
}

func (b *bench) await(r *run, done chan bool, n int) {
	late := time.NewTimer(time.Until(r.to) + b.patience)
	defer late.Stop()
	for i := 0; i < n; i++ {
		select {
		case <-done:
		case <-late.C:
			r.count("hung", int64(n-i))
			r.errors += int64(n - i)
			return
		}
	}
}

// finish makes the row. The time ends with the last operation when all was done before the duration.
func (r *run) finish(b *bench, unit string, early bool, names ...string) *row {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	seconds := b.duration.Seconds()
	if early && r.last > 0 {
		seconds = float64(r.last) / float64(time.Second)
	}
	done := &row{
		Parameters: b.parameters(names...),
		Operations: r.operations,
		Seconds:    seconds,
		Unit:       unit,
		Errors:     atomic.LoadInt64(&r.errors),
		Counters:   r.counters,
		Series:     r.series[:],
		Samples:    r.samples,
	}
	if !b.child {
		done.summarize()
	}
	return done
}

// add adds what another process did at the same time.
func (r *row) add(other *row) {
	r.Operations += other.Operations
	r.Errors += other.Errors
	if other.Seconds > r.Seconds {
		r.Seconds = other.Seconds
	}
	r.Samples = append(r.Samples, other.Samples...)
	for i := range r.Series {
		r.Series[i] += other.Series[i]
	}
	for name, n := range other.Counters {
		r.Counters[name] += n
	}
}

// summarize turns samples into what is printed.
func (r *row) summarize() {
	samples := r.Samples
	r.Samples = nil
	sort.Float64s(samples)
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Operations) / r.Seconds
	}
	if len(samples) == 0 {
		return
	}
	sum := 0.0
	for _, sample := range samples {
		sum += sample
	}
	at := func(share float64) float64 { return samples[int(share*float64(len(samples)-1))] }
	r.Latency = latency{
		Count: len(samples), Mean: sum / float64(len(samples)),
		P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1),
	}
}

func (b *bench) parameters(names ...string) map[string]interface{} {
	all := map[string]interface{}{
		"connections": b.connections, "producers": b.producers, "consumers": b.consumers,
		"participants": b.participants, "waiters": b.waiters, "tasks": b.tasks, "items": b.items,
		"fill_first": b.fillFirst, "value_size": b.valueSize, "batch": b.batch,
		"priorities": b.priorities, "accounts": b.accounts, "transfers": b.transfers,
		"processes": b.processes, "isolation": b.level,
	}
	chosen := map[string]interface{}{"connections": b.connections}
	for _, name := range names {
		chosen[name] = all[name]
	}
	chosen["duration_seconds"] = b.duration.Seconds()
	chosen["warm_up_seconds"] = b.warmUp.Seconds()
	return chosen
}

// value is of the size that was asked for.
func (b *bench) value() string { return strings.Repeat("v", b.valueSize) }

func store(client *clientv3.Client, o options) map[string]interface{} {
	ctx, cancel := context.WithTimeout(context.Background(), o.patience)
	defer cancel()
	status, err := client.Status(ctx, client.Endpoints()[0])
	if err != nil {
		fail("cannot ask " + o.addr + ": " + err.Error())
	}
	return map[string]interface{}{
		"address": o.addr, "server": "etcd " + status.Version, "nodes": len(client.Endpoints()),
	}
}

func machine() map[string]interface{} {
	word := func(file string) string {
		text, _ := os.ReadFile(file)
		return strings.TrimSpace(string(text))
	}
	var memory int64
	for _, line := range strings.Split(word("/proc/meminfo"), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			memory = kib << 10
		}
	}
	return map[string]interface{}{
		"cpus": runtime.NumCPU(), "memory_bytes": memory, "file_system": nil,
		"os": word("/proc/sys/kernel/ostype") + " " + word("/proc/sys/kernel/osrelease"),
	}
}
