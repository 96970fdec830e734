package main

// The concurrency package's STM: a bank.

import (
	"fmt"
	"math/rand"
	"strconv"
	"sync"

	"go.etcd.io/etcd/clientv3/concurrency"
)

var levels = map[string]concurrency.Isolation{
	"serializable-snapshot": concurrency.SerializableSnapshot,
	"serializable":          concurrency.Serializable,
	"repeatable-reads":      concurrency.RepeatableReads,
	"read-committed":        concurrency.ReadCommitted,
}

var stmActions = map[string]action{
	// LEVEL PREFIX ACCOUNTS TASKS TRANSFERS: each task moves half of one account's balance to
	// another, so many times.
	"stm.bank": {5, func(c *call) ([]string, error) {
		level, known := levels[c.args[0]]
		if !known {
			return nil, fmt.Errorf("no level %s", c.args[0])
		}
		accounts, err := c.number(2)
		if err != nil {
			return nil, err
		}
		tasks, err := c.number(3)
		if err != nil {
			return nil, err
		}
		errs := make(chan error, tasks)
		var all sync.WaitGroup
		for task := 0; task < tasks; task++ {
			all.Add(1)
			chance := rand.New(rand.NewSource(int64(task)))
			go func() {
				defer all.Done()
				_, err := c.many(4, func(int) error {
					from, to := chance.Intn(accounts), chance.Intn(accounts)
					return c.transfer(level, c.account(from), c.account(to))
				})
				if err != nil {
					errs <- err
				}
			}()
		}
		all.Wait()
		close(errs)
		return nil, <-errs
	}},
}

func (c *call) account(number int) string {
	return c.args[1] + strconv.Itoa(number)
}

func (c *call) transfer(level concurrency.Isolation, from, to string) error {
	_, err := concurrency.NewSTM(c.peer.client, func(stm concurrency.STM) error {
		have, err := strconv.Atoi(stm.Get(from))
		if err != nil {
			return err
		}
		if from == to {
			return nil
		}
		other, err := strconv.Atoi(stm.Get(to))
		if err != nil {
			return err
		}
		stm.Put(from, strconv.Itoa(have-have/2))
		stm.Put(to, strconv.Itoa(other+have/2))
		return nil
	}, concurrency.WithIsolation(level))
	return err
}
