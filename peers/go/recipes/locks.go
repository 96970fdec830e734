package main

// The concurrency package's Mutex and the recipe RWMutex, and the ground on which their holders work.

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	recipe "go.etcd.io/etcd/contrib/recipes"
)

var lockActions = map[string]action{
	// SESSION NAME: answers the key and its create revision.
	"mutex.lock": {2, func(c *call) ([]string, error) {
		m, err := c.lock()
		if err != nil {
			return nil, err
		}
		if err := m.Lock(c.peer.client.Ctx()); err != nil {
			return nil, err
		}
		token, err := c.created(m.Key())
		return []string{m.Key(), strconv.FormatInt(token, 10)}, err
	}},
	// SESSION NAME MILLISECONDS: gives up after this time, with an error. (This version of the
	// package has no TryLock.)
	"mutex.lock-within": {3, func(c *call) ([]string, error) {
		millis, err := c.number(2)
		if err != nil {
			return nil, err
		}
		m, err := c.lock()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(c.peer.client.Ctx(), time.Duration(millis)*time.Millisecond)
		defer cancel()
		return nil, m.Lock(ctx)
	}},
	// SESSION NAME
	"mutex.unlock": {2, func(c *call) ([]string, error) {
		m, err := c.lock()
		if err != nil {
			return nil, err
		}
		return nil, m.Unlock(c.peer.client.Ctx())
	}},
	// SESSION NAME GROUND TIMES: locks, works on the ground and unlocks.
	"mutex.work": {4, func(c *call) ([]string, error) {
		m, err := c.lock()
		if err != nil {
			return nil, err
		}
		return c.many(3, func(int) error {
			if err := m.Lock(c.peer.client.Ctx()); err != nil {
				return err
			}
			token, err := c.created(m.Key())
			if err != nil {
				return err
			}
			if err := c.write(c.args[2], token); err != nil {
				return err
			}
			return m.Unlock(c.peer.client.Ctx())
		})
	}},
	// SESSION NAME
	"rw.rlock": {2, func(c *call) ([]string, error) {
		m, err := c.rwlock()
		if err != nil {
			return nil, err
		}
		return nil, m.RLock()
	}},
	// SESSION NAME
	"rw.runlock": {2, func(c *call) ([]string, error) {
		m, err := c.rwlock()
		if err != nil {
			return nil, err
		}
		return nil, m.RUnlock()
	}},
	// SESSION NAME
	"rw.lock": {2, func(c *call) ([]string, error) {
		m, err := c.rwlock()
		if err != nil {
			return nil, err
		}
		return nil, m.Lock()
	}},
	// SESSION NAME
	"rw.unlock": {2, func(c *call) ([]string, error) {
		m, err := c.rwlock()
		if err != nil {
			return nil, err
		}
		return nil, m.Unlock()
	}},
	// SESSION NAME GROUND TIMES: reads twice for each time that it writes.
	"rw.work": {4, func(c *call) ([]string, error) {
		m, err := c.rwlock()
		if err != nil {
			return nil, err
		}
		return c.many(3, func(int) error {
			for i := 0; i < 2; i++ {
				if err := m.RLock(); err != nil {
					return err
				}
				if err := c.read(c.args[2], c.args[0]); err != nil {
					return err
				}
				if err := m.RUnlock(); err != nil {
					return err
				}
			}
			if err := m.Lock(); err != nil {
				return err
			}
			if err := c.write(c.args[2], 0); err != nil {
				return err
			}
			return m.Unlock()
		})
	}},
}

func (c *call) lock() (*concurrency.Mutex, error) {
	made, err := c.peer.object(c.args[0], "mutex", c.args[1], func(s *concurrency.Session) interface{} {
		return concurrency.NewMutex(s, c.args[1])
	})
	if err != nil {
		return nil, err
	}
	return made.(*concurrency.Mutex), nil
}

func (c *call) rwlock() (*recipe.RWMutex, error) {
	made, err := c.peer.object(c.args[0], "rw", c.args[1], func(s *concurrency.Session) interface{} {
		return recipe.NewRWMutex(s, c.args[1])
	})
	if err != nil {
		return nil, err
	}
	return made.(*recipe.RWMutex), nil
}

// created is the create revision of a key: a lock's fencing token.
func (c *call) created(key string) (int64, error) {
	found, err := c.peer.client.Get(c.peer.client.Ctx(), key)
	if err != nil {
		return 0, err
	}
	if len(found.Kvs) != 1 {
		return 0, fmt.Errorf("there is no key %s", key)
	}
	return found.Kvs[0].CreateRevision, nil
}

// The ground is where holders of a lock show that they are alone. A writer creates GROUND/writer and
// a reader GROUND/readers/NAME while they are inside; GROUND/count holds how often it was written,
// and the token of the last writer. Nothing but the lock keeps two writers from writing the same
// count. The Rust side of the tests does the same.

// write adds one to the count, alone, with a token above the one before (0 for none).
func (c *call) write(ground string, token int64) error {
	alone := []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(ground+"/writer"), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(ground+"/readers/"), "=", 0).WithPrefix(),
	}
	if ok, err := c.commit(alone, clientv3.OpPut(ground+"/writer", "Go")); err != nil || !ok {
		return fault(err, "a writer found somebody inside")
	}
	count, last, err := c.count(ground)
	if err != nil {
		return err
	}
	if token != 0 && token <= last {
		return fmt.Errorf("token %d came after %d", token, last)
	}
	if token == 0 {
		token = last
	}
	next := fmt.Sprintf("%d %d", count+1, token)
	if _, err := c.peer.client.Put(c.peer.client.Ctx(), ground+"/count", next); err != nil {
		return err
	}
	return c.leave(ground + "/writer")
}

// read sees that the count stays while it is inside.
func (c *call) read(ground, name string) error {
	key := ground + "/readers/" + name
	unwritten := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(ground+"/writer"), "=", 0)}
	if ok, err := c.commit(unwritten, clientv3.OpPut(key, "Go")); err != nil || !ok {
		return fault(err, "a reader found a writer inside")
	}
	before, _, err := c.count(ground)
	if err != nil {
		return err
	}
	after, _, err := c.count(ground)
	if err != nil || before != after {
		return fault(err, fmt.Sprintf("a reader saw the count go from %d to %d", before, after))
	}
	return c.leave(key)
}

func (c *call) leave(key string) error {
	gone, err := c.peer.client.Delete(c.peer.client.Ctx(), key)
	if err != nil || gone.Deleted != 1 {
		return fault(err, key+" was gone before it was deleted")
	}
	return nil
}

func (c *call) count(ground string) (count, token int64, err error) {
	found, err := c.peer.client.Get(c.peer.client.Ctx(), ground+"/count")
	if err != nil || len(found.Kvs) == 0 {
		return 0, 0, err
	}
	_, err = fmt.Sscanf(string(found.Kvs[0].Value), "%d %d", &count, &token)
	return count, token, err
}

func fault(err error, what string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%s", what)
}
