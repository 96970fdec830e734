package main

// The recipes Barrier and DoubleBarrier.

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	recipe "go.etcd.io/etcd/contrib/recipes"
)

// gathering is how long the waiters get until all of them wait: a watch that was opened in the past
// stands at the server's next tick of 100 ms.
const gathering = 250 * time.Millisecond

func barrierRelease(b *bench) (*row, error) {
	clients := make([]*clientv3.Client, b.waiters)
	for i := range clients {
		clients[i] = b.client()
	}
	r := b.start()
	for round := 0; !r.over(); round++ {
		// A new key each round, of the same length: a barrier of this version is blocked by keys that
		// begin with its own.
		key := fmt.Sprintf("%s/%09d", b.prefix, round)
		holder := recipe.NewBarrier(b.shared, key)
		if err := b.within("hold", holder.Hold); err != nil {
			return nil, err
		}
		done := make(chan error, b.waiters)
		for _, client := range clients {
			barrier := recipe.NewBarrier(client, key)
			go func() { done <- b.within("wait", barrier.Wait) }()
		}
		time.Sleep(gathering)
		began := time.Now()
		if err := b.within("release", holder.Release); err != nil {
			return nil, err
		}
		failed := false
		for range clients {
			if err := <-done; err != nil {
				r.failed(err)
				failed = true
			}
		}
		if failed {
			break
		}
		r.done(began, 1)
	}
	return r.finish(b, "rounds", false, "waiters"), nil
}

// doubleRounds uses a new key for each round: used again, the recipe hangs with more than a few.
func doubleRounds(b *bench) (*row, error) {
	sessions := make([]*concurrency.Session, b.participants)
	for i := range sessions {
		session, err := concurrency.NewSession(b.client(), concurrency.WithTTL(60))
		if err != nil {
			return nil, err
		}
		sessions[i] = session
	}
	r := b.start()
	for round := 0; !r.over(); round++ {
		key := fmt.Sprintf("%s/%09d", b.prefix, round)
		done := make(chan error, b.participants)
		began := time.Now()
		for _, session := range sessions {
			barrier := recipe.NewDoubleBarrier(session, key, b.participants)
			go func() {
				err := b.within("enter", barrier.Enter)
				if err == nil {
					err = b.within("leave", barrier.Leave)
				}
				done <- err
			}()
		}
		failed := false
		for range sessions {
			if err := <-done; err != nil {
				r.failed(err)
				failed = true
			}
		}
		if failed {
			r.count("hung_rounds", 1)
			break
		}
		r.done(began, 1)
	}
	for _, session := range sessions {
		session.Orphan()
	}
	done := r.finish(b, "rounds", r.errors > 0, "participants")
	done.Parameters["new_key_each_round"] = true
	return done, nil
}
