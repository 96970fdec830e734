package main

// The recipes Queue and PriorityQueue. They have no call that takes or puts several.

import (
	"fmt"
	"math/rand"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	recipe "go.etcd.io/etcd/contrib/recipes"
)

// lane is how a worker uses the queue: its own handle, its own choice of priorities.
type lane struct {
	enqueue func(value string) error
	dequeue func() (string, error)
}

func (b *bench) lane(client *clientv3.Client, worker int) lane {
	if b.workload == "queue" {
		queue := recipe.NewQueue(client, b.prefix)
		return lane{queue.Enqueue, queue.Dequeue}
	}
	queue := recipe.NewPriorityQueue(client, b.prefix)
	chance := rand.New(rand.NewSource(int64(worker)))
	return lane{
		func(value string) error { return queue.Enqueue(value, uint16(chance.Intn(b.priorities))) },
		queue.Dequeue,
	}
}

// lanes connects so many workers.
func (b *bench) lanes(n int) []lane {
	lanes := make([]lane, n)
	for i := range lanes {
		lanes[i] = b.lane(b.client(), i)
	}
	return lanes
}

// fill puts items under the recipe's own keys, many in a Txn.
func (b *bench) fill() error {
	const atOnce = 100
	var next int64 = -1
	key := func(n int) string {
		if b.workload == "queue" {
			return fmt.Sprintf("%s/%d", b.prefix, 1_000_000_000_000_000_000+n)
		}
		return fmt.Sprintf("%s/%05d/%016d", b.prefix, n%b.priorities, n/b.priorities)
	}
	if b.workload == "priority-queue" && b.fillFirst > 0 {
		for p := 0; p < b.priorities; p++ {
			ctx, cancel := b.bounded()
			_, err := b.shared.Put(ctx, fmt.Sprintf("__%s/%05d", b.prefix, p), "")
			cancel()
			if err != nil {
				return err
			}
		}
	}
	value := b.value()
	failed := make(chan error, 8)
	for w := 0; w < cap(failed); w++ {
		go func() {
			for {
				first := int(atomic.AddInt64(&next, 1)) * atOnce
				if first >= b.fillFirst {
					failed <- nil
					return
				}
				var ops []clientv3.Op
				for n := first; n < first+atOnce && n < b.fillFirst; n++ {
					ops = append(ops, clientv3.OpPut(key(n), value))
				}
				ctx, cancel := b.bounded()
				_, err := b.shared.Txn(ctx).Then(ops...).Commit()
				cancel()
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	var first error
	for w := 0; w < cap(failed); w++ {
		if err := <-failed; err != nil {
			first = err
		}
	}
	return first
}

func (b *bench) queueParameters() []string {
	names := []string{"producers", "consumers", "fill_first", "value_size"}
	if b.workload == "priority-queue" {
		names = append(names, "priorities")
	}
	return names
}

func (b *bench) produce(r *run, lane lane) {
	value := b.value()
	for !r.over() {
		began := time.Now()
		if err := lane.enqueue(value); err != nil {
			r.failed(err)
			continue
		}
		if b.kase == "fill" {
			r.done(began, 1)
		}
	}
}

func queueFill(b *bench) (*row, error) {
	if err := b.fill(); err != nil {
		return nil, err
	}
	lanes := b.lanes(b.producers)
	r := b.start()
	b.workers(r, b.producers, func(worker int) { b.produce(r, lanes[worker]) })
	return r.finish(b, "items", false, b.queueParameters()...), nil
}

func queueDrain(b *bench) (*row, error) {
	if err := b.fill(); err != nil {
		return nil, err
	}
	lanes := b.lanes(b.consumers)
	r := b.start()
	// Nobody asks for an item that is not there, as nobody could stop waiting for it.
	left := int64(b.fillFirst)
	b.workers(r, b.consumers, func(worker int) {
		for !r.over() && atomic.AddInt64(&left, -1) >= 0 {
			began := time.Now()
			if _, err := lanes[worker].dequeue(); err != nil {
				r.failed(err)
				continue
			}
			r.done(began, 1)
		}
	})
	return r.finish(b, "items", left < 0, b.queueParameters()...), nil
}

func queueTransfer(b *bench) (*row, error) {
	if err := b.fill(); err != nil {
		return nil, err
	}
	producers, consumers := b.lanes(b.producers), b.lanes(b.consumers)
	r := b.start()
	for i := range consumers {
		lane := consumers[i]
		go func() {
			defer func() {
				if r := recover(); r != nil {
					complain(fmt.Errorf("dequeue: panic: %v", r))
				}
			}()
			for !r.over() {
				began := time.Now()
				if _, err := lane.dequeue(); err != nil {
					if !r.over() {
						r.failed(err)
					}
					continue
				}
				r.done(began, 1)
			}
		}()
	}
	// The consumers may wait for ever at the end, and end with their clients.
	b.workers(r, b.producers, func(worker int) { b.produce(r, producers[worker]) })
	return r.finish(b, "items", false, b.queueParameters()...), nil
}

// longestPause is the longest time until the next item for a consumer that waits. The pause is drawn at
// random: a watch that was opened in the past stands at the server's next tick of 100 ms, which pauses of
// one length would always meet at the same distance.
const longestPause = 100 * time.Millisecond

func queueIdle(b *bench) (*row, error) {
	producer, consumer := b.lane(b.client(), 0), b.lane(b.client(), 1)
	arrived := make(chan time.Time, 1)
	ask := make(chan bool)
	failed := make(chan error, 1)
	go func() {
		for range ask {
			if _, err := consumer.dequeue(); err != nil {
				failed <- err
				return
			}
			arrived <- time.Now()
		}
	}()
	defer close(ask)
	value := b.value()
	chance := rand.New(rand.NewSource(1))
	r := b.start()
	for !r.over() {
		ask <- true
		time.Sleep(2*time.Millisecond + time.Duration(chance.Int63n(int64(longestPause))))
		began := time.Now()
		if err := producer.enqueue(value); err != nil {
			return nil, err
		}
		select {
		case at := <-arrived:
			r.took(at.Sub(began), 1)
		case err := <-failed:
			return nil, err
		case <-time.After(b.patience):
			return nil, fmt.Errorf("an item did not arrive within %v", b.patience)
		}
	}
	return r.finish(b, "items", false, "value_size"), nil
}
