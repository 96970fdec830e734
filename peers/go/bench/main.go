// Command bench measures etcd's own Go recipes, with the workloads, options and JSON of `synod bench`,
// so that both can be run in turns on one cluster:
//
//	bench queue --case drain --addr http://127.0.0.1:2379 --fill-first 10000 --duration 3s
//
// It prints one JSON object: what ran where, and a row for each repeat. A recipe that cannot be
// cancelled and does not come back within --patience is left behind, and counts as an error.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/version"
	"google.golang.org/grpc"
)

// options are spelled as those of `synod bench`.
type options struct {
	workload, name string

	addr, kase, connections, level, output string

	producers, consumers, participants, waiters, tasks int
	items, fillFirst, valueSize, batch, priorities     int
	accounts, transfers, processes, repeats            int

	duration, warmUp, patience time.Duration

	// For the processes that this one starts.
	child   bool
	startAt int64
	prefix  string
}

// workload measures one repeat of a case.
type workload func(b *bench) (*row, error)

var workloads = map[string]map[string]workload{
	"queue": {
		"fill": queueFill, "drain": queueDrain, "transfer": queueTransfer, "idle": queueIdle,
	},
	"priority-queue": {
		"fill": queueFill, "drain": queueDrain, "transfer": queueTransfer, "idle": queueIdle,
	},
	"barrier":        {"release": barrierRelease},
	"double-barrier": {"rounds": doubleRounds},
	"lock":           {"cycle": lockCycle},
	"election":       {"cycle": electionCycle},
	"stm":            {"bank": stmBank},
	"raw":            {"put": rawPut, "get": rawGet, "txn": rawTxn, "batch": rawBatch},
}

// bench is one repeat: its options, its clients, and a prefix that no other has.
type bench struct {
	options
	shared *clientv3.Client
	own    []*clientv3.Client
	prefix string
}

func main() {
	o := parse(os.Args[1:])
	run, known := workloads[o.workload][o.kase]
	if !known {
		fail(fmt.Sprintf("etcd's Go recipes have no workload %s with a case %s", o.workload, o.kase))
	}
	shared := connect(o)
	report := map[string]interface{}{
		"format":     1,
		"program":    map[string]string{"name": "go", "version": "clientv3 " + version.Version},
		"store":      store(shared, o),
		"machine":    machine(),
		"started_at": time.Now().Unix(),
	}
	var rows []*row
	for repeat := 1; repeat <= o.repeats; repeat++ {
		b := &bench{options: o, shared: shared, prefix: o.prefix}
		if b.prefix == "" {
			b.prefix = fmt.Sprintf("bench-go-%d-%d", os.Getpid(), time.Now().UnixNano())
		}
		var done *row
		var err error
		if o.processes > 1 && !o.child {
			done, err = inProcesses(b)
		} else {
			done, err = run(b)
		}
		if err != nil {
			fail(err.Error())
		}
		done.Workload, done.Case, done.Repeat = o.workload, o.kase, repeat
		rows = append(rows, done)
		b.close()
	}
	report["rows"] = rows
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		fail(err.Error())
	}
}

func parse(args []string) options {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		fail("usage: bench WORKLOAD --case CASE --addr URL[,URL] [options]")
	}
	o := options{workload: args[0]}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&o.kase, "case", "", "what to measure of the workload")
	flags.StringVar(&o.addr, "addr", "", "the URLs of the cluster, separated by commas")
	flags.StringVar(&o.connections, "connections", "own", "own or shared: a connection for each worker or one")
	flags.StringVar(&o.level, "isolation", "serializable-snapshot", "the level of STM")
	flags.StringVar(&o.output, "output", "json", "json")
	flags.IntVar(&o.producers, "producers", 1, "how many producers")
	flags.IntVar(&o.consumers, "consumers", 1, "how many consumers")
	flags.IntVar(&o.participants, "participants", 8, "how many meet at the double barrier")
	flags.IntVar(&o.waiters, "waiters", 10, "how many wait at the barrier")
	flags.IntVar(&o.tasks, "tasks", 1, "how many contend, call or transfer")
	flags.IntVar(&o.items, "items", 0, "end after so many operations")
	flags.IntVar(&o.fillFirst, "fill-first", 0, "items in the queue before")
	flags.IntVar(&o.valueSize, "value-size", 100, "bytes of a value")
	flags.IntVar(&o.batch, "batch", 100, "puts in a Txn")
	flags.IntVar(&o.priorities, "priorities", 10, "how many priorities are drawn from")
	flags.IntVar(&o.accounts, "accounts", 5, "accounts of the bank")
	flags.IntVar(&o.transfers, "transfers", 0, "transfers of a task; 0: until the duration is over")
	flags.IntVar(&o.processes, "processes", 1, "spread the tasks over so many processes")
	flags.IntVar(&o.repeats, "repeats", 1, "how often to measure")
	flags.DurationVar(&o.duration, "duration", 5*time.Second, "how long to measure")
	flags.DurationVar(&o.warmUp, "warm-up", time.Second, "how long to run before that")
	flags.DurationVar(&o.patience, "patience", 20*time.Second, "how long a call may take")
	flags.BoolVar(&o.child, "child", false, "started by another one")
	flags.Int64Var(&o.startAt, "start-at", 0, "begin at this Unix time in nanoseconds")
	flags.StringVar(&o.prefix, "prefix", "", "the prefix of all keys")
	if err := flags.Parse(args[1:]); err != nil {
		fail(err.Error())
	}
	switch {
	case flags.NArg() > 0:
		fail("unknown argument " + flags.Arg(0))
	case o.addr == "":
		fail("--addr is missing")
	case o.output != "json":
		fail("--output json is all there is")
	case o.connections != "own" && o.connections != "shared":
		fail("--connections is own or shared")
	case o.processes > 1 && o.workload != "stm":
		fail("--processes is for stm alone")
	case o.tasks%o.processes != 0:
		fail("--tasks must spread evenly over --processes")
	}
	return o
}

func connect(o options) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(o.addr, ","),
		DialTimeout: 20 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithBlock()},
	})
	if err != nil {
		fail("cannot connect: " + err.Error())
	}
	return client
}

// client is the connection of a worker.
func (b *bench) client() *clientv3.Client {
	if b.connections == "shared" {
		return b.shared
	}
	own := connect(b.options)
	b.own = append(b.own, own)
	return own
}

func (b *bench) close() {
	for _, client := range b.own {
		client.Close()
	}
	b.own = nil
}

// bounded gives a context that ends when a call takes too long.
func (b *bench) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), b.patience)
}

// within runs what cannot be cancelled, for as long as a call may take. It goes on behind our back
// after that.
func (b *bench) within(what string, do func() error) error {
	done := make(chan error, 1)
	go func() {
		// Queue.Dequeue dereferences nil when its watch ends.
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("%s: panic: %v", what, r)
			}
		}()
		done <- do()
	}()
	timer := time.NewTimer(b.patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("%s: not within %v", what, b.patience)
	}
}

// inProcesses runs the case in several processes at once, and adds up what they say.
func inProcesses(b *bench) (*row, error) {
	if err := stmPrepare(b); err != nil {
		return nil, err
	}
	// They connect meanwhile.
	start := time.Now().Add(2 * time.Second)
	limit := b.warmUp + b.duration + 2*b.patience
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	type answer struct {
		out []byte
		err error
	}
	answers := make(chan answer, b.processes)
	for p := 0; p < b.processes; p++ {
		args := append(append([]string{}, os.Args[1:]...),
			"--child", "--repeats", "1", "--processes", "1", "--prefix", b.prefix,
			"--tasks", fmt.Sprint(b.tasks/b.processes),
			"--start-at", fmt.Sprint(start.UnixNano()))
		go func() {
			out, err := exec.CommandContext(ctx, os.Args[0], args...).Output()
			answers <- answer{out, err}
		}()
	}
	var all *row
	for p := 0; p < b.processes; p++ {
		a := <-answers
		if a.err != nil {
			return nil, fmt.Errorf("a process failed: %v", a.err)
		}
		var said struct {
			Rows []*row `json:"rows"`
		}
		if err := json.Unmarshal(a.out, &said); err != nil || len(said.Rows) != 1 {
			return nil, fmt.Errorf("a process said %q", a.out)
		}
		if all == nil {
			all = said.Rows[0]
		} else {
			all.add(said.Rows[0])
		}
	}
	all.Parameters = b.parameters("tasks", "accounts", "processes")
	all.summarize()
	return all, nil
}

var errorsSaid int32

// complain says what went wrong, on stderr, the first times.
func complain(err error) {
	if atomic.AddInt32(&errorsSaid, 1) <= 5 {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "bench: "+why)
	os.Exit(1)
}
