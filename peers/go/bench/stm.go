package main

// The concurrency package's STM: a bank.

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

var levels = map[string]concurrency.Isolation{
	"serializable-snapshot": concurrency.SerializableSnapshot,
	"serializable":          concurrency.Serializable,
	"repeatable-reads":      concurrency.RepeatableReads,
	"read-committed":        concurrency.ReadCommitted,
}

func (b *bench) account(n int) string { return fmt.Sprintf("%s/%d", b.prefix, n) }

// stmPrepare opens the accounts.
func stmPrepare(b *bench) error {
	for n := 0; n < b.accounts; n++ {
		ctx, cancel := b.bounded()
		_, err := b.shared.Put(ctx, b.account(n), "1000")
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func stmBank(b *bench) (*row, error) {
	level, known := levels[b.level]
	if !known {
		return nil, fmt.Errorf("no level %s", b.level)
	}
	if !b.child {
		if err := stmPrepare(b); err != nil {
			return nil, err
		}
	}
	clients := make([]*clientv3.Client, b.tasks)
	for i := range clients {
		clients[i] = b.client()
	}
	var attempts int64
	r := b.start()
	b.workers(r, b.tasks, func(task int) {
		chance := rand.New(rand.NewSource(int64(task) + int64(os.Getpid())<<16))
		for n := 0; (b.transfers == 0 || n < b.transfers) && !r.over(); n++ {
			from := chance.Intn(b.accounts)
			to := (from + 1 + chance.Intn(b.accounts-1)) % b.accounts
			began := time.Now()
			err := b.within("transfer", func() error {
				return b.transfer(clients[task], level, from, to, r, &attempts)
			})
			if err != nil {
				r.failed(err)
				continue
			}
			r.done(began, 1)
		}
	})
	r.count("attempts", atomic.LoadInt64(&attempts))
	return r.finish(b, "transfers", b.transfers > 0, "tasks", "accounts", "transfers", "isolation"), nil
}

func (b *bench) transfer(client *clientv3.Client, level concurrency.Isolation, from, to int, r *run, attempts *int64) error {
	_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
		if r.counting() {
			atomic.AddInt64(attempts, 1)
		}
		have, err := strconv.Atoi(stm.Get(b.account(from)))
		if err != nil {
			return err
		}
		other, err := strconv.Atoi(stm.Get(b.account(to)))
		if err != nil {
			return err
		}
		stm.Put(b.account(from), strconv.Itoa(have-have/2))
		stm.Put(b.account(to), strconv.Itoa(other+have/2))
		return nil
	}, concurrency.WithIsolation(level))
	return err
}
