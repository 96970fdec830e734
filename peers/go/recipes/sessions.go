package main

// Sessions of the concurrency package, and what several actions use.

import (
	"fmt"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

var sessionActions = map[string]action{
	// NAME SECONDS: a session for later requests; answers its lease.
	"session.open": {2, func(c *call) ([]string, error) {
		seconds, err := c.number(1)
		if err != nil {
			return nil, err
		}
		s, err := concurrency.NewSession(c.peer.client, concurrency.WithTTL(seconds))
		if err != nil {
			return nil, err
		}
		c.peer.mutex.Lock()
		defer c.peer.mutex.Unlock()
		// What was made for the old one would go on with it.
		if _, taken := c.peer.sessions[c.args[0]]; taken {
			return nil, fmt.Errorf("there was a session %s before", c.args[0])
		}
		c.peer.sessions[c.args[0]] = s
		return []string{fmt.Sprintf("%x", int64(s.Lease()))}, nil
	}},
	// NAME: revokes its lease, so that its keys are gone.
	"session.close": {1, func(c *call) ([]string, error) {
		s, err := c.session()
		if err != nil {
			return nil, err
		}
		return nil, s.Close()
	}},
	// NAME: ends when the session has.
	"session.done": {1, func(c *call) ([]string, error) {
		s, err := c.session()
		if err != nil {
			return nil, err
		}
		<-s.Done()
		return nil, nil
	}},
}

// session is the one that the first argument names.
func (c *call) session() (*concurrency.Session, error) {
	c.peer.mutex.Lock()
	defer c.peer.mutex.Unlock()
	s, ok := c.peer.sessions[c.args[0]]
	if !ok {
		return nil, fmt.Errorf("no session %s", c.args[0])
	}
	return s, nil
}

// commit is one transaction of If, Then; whether the comparisons held.
func (c *call) commit(cmps []clientv3.Cmp, ops ...clientv3.Op) (bool, error) {
	answer, err := c.peer.client.Txn(c.peer.client.Ctx()).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return false, err
	}
	return answer.Succeeded, nil
}
