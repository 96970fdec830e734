package main

// Mutex and Election of the concurrency package.

import (
	"context"
	"time"

	"go.etcd.io/etcd/clientv3/concurrency"
)

// cycles lets each contender take and give back, over and over. What is timed is the taking.
func cycles(b *bench, contend func(s *concurrency.Session) (take, give func(context.Context) error)) (*row, error) {
	sessions := make([]*concurrency.Session, b.tasks)
	for i := range sessions {
		session, err := concurrency.NewSession(b.client(), concurrency.WithTTL(60))
		if err != nil {
			return nil, err
		}
		sessions[i] = session
	}
	r := b.start()
	b.workers(r, b.tasks, func(task int) {
		take, give := contend(sessions[task])
		for !r.over() {
			began := time.Now()
			ctx, cancel := b.bounded()
			err := take(ctx)
			took := time.Since(began)
			if err == nil {
				err = give(ctx)
			}
			cancel()
			if err != nil {
				r.failed(err)
				continue
			}
			r.took(took, 1)
		}
	})
	for _, session := range sessions {
		session.Close()
	}
	return r.finish(b, "cycles", false, "tasks"), nil
}

func lockCycle(b *bench) (*row, error) {
	return cycles(b, func(s *concurrency.Session) (take, give func(context.Context) error) {
		mutex := concurrency.NewMutex(s, b.prefix)
		return mutex.Lock, mutex.Unlock
	})
}

func electionCycle(b *bench) (*row, error) {
	return cycles(b, func(s *concurrency.Session) (take, give func(context.Context) error) {
		election := concurrency.NewElection(s, b.prefix)
		campaign := func(ctx context.Context) error { return election.Campaign(ctx, "leader") }
		return campaign, election.Resign
	})
}
