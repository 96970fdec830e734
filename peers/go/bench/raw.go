package main

// etcd's own calls, without a recipe.

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// raw lets each task make calls one after another.
func raw(b *bench, unit string, each int64, call func(ctx context.Context, c *clientv3.Client, task, n int) error) (*row, error) {
	clients := make([]*clientv3.Client, b.tasks)
	for i := range clients {
		clients[i] = b.client()
	}
	r := b.start()
	b.workers(r, b.tasks, func(task int) {
		for n := 0; !r.over(); n++ {
			began := time.Now()
			ctx, cancel := b.bounded()
			err := call(ctx, clients[task], task, n)
			cancel()
			if err != nil {
				r.failed(err)
				continue
			}
			r.done(began, each)
		}
	})
	return r.finish(b, unit, false, "tasks", "value_size", "batch"), nil
}

func rawPut(b *bench) (*row, error) {
	value := b.value()
	return raw(b, "puts", 1, func(ctx context.Context, c *clientv3.Client, task, n int) error {
		_, err := c.Put(ctx, fmt.Sprintf("%s/%d/%d", b.prefix, task, n), value)
		return err
	})
}

func rawGet(b *bench) (*row, error) {
	key := b.prefix + "/get"
	ctx, cancel := b.bounded()
	defer cancel()
	if _, err := b.shared.Put(ctx, key, b.value()); err != nil {
		return nil, err
	}
	return raw(b, "gets", 1, func(ctx context.Context, c *clientv3.Client, _, _ int) error {
		_, err := c.Get(ctx, key)
		return err
	})
}

func rawTxn(b *bench) (*row, error) {
	value := b.value()
	return raw(b, "txns", 1, func(ctx context.Context, c *clientv3.Client, task, n int) error {
		key := fmt.Sprintf("%s/%d/%d", b.prefix, task, n)
		done, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "=", 0)).
			Then(clientv3.OpPut(key, value)).Commit()
		if err == nil && !done.Succeeded {
			err = fmt.Errorf("%s was there", key)
		}
		return err
	})
}

func rawBatch(b *bench) (*row, error) {
	value := b.value()
	return raw(b, "puts", int64(b.batch), func(ctx context.Context, c *clientv3.Client, task, n int) error {
		ops := make([]clientv3.Op, b.batch)
		for i := range ops {
			ops[i] = clientv3.OpPut(fmt.Sprintf("%s/%d/%d/%d", b.prefix, task, n, i), value)
		}
		_, err := c.Txn(ctx).Then(ops...).Commit()
		return err
	})
}
