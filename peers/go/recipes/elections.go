package main

// The concurrency package's Election.

import (
	"fmt"
	"strconv"

	"go.etcd.io/etcd/clientv3/concurrency"
)

var electionActions = map[string]action{
	// SESSION NAME VALUE: answers the key and its create revision.
	"election.campaign": {3, func(c *call) ([]string, error) {
		e, err := c.election()
		if err != nil {
			return nil, err
		}
		if err := e.Campaign(c.peer.client.Ctx(), c.args[2]); err != nil {
			return nil, err
		}
		return []string{e.Key(), strconv.FormatInt(e.Rev(), 10)}, nil
	}},
	// SESSION NAME VALUE
	"election.proclaim": {3, func(c *call) ([]string, error) {
		e, err := c.election()
		if err != nil {
			return nil, err
		}
		return nil, e.Proclaim(c.peer.client.Ctx(), c.args[2])
	}},
	// SESSION NAME
	"election.resign": {2, func(c *call) ([]string, error) {
		e, err := c.election()
		if err != nil {
			return nil, err
		}
		return nil, e.Resign(c.peer.client.Ctx())
	}},
	// SESSION NAME: answers the leader's key and value.
	"election.leader": {2, func(c *call) ([]string, error) {
		e, err := c.election()
		if err != nil {
			return nil, err
		}
		found, err := e.Leader(c.peer.client.Ctx())
		if err != nil {
			return nil, err
		}
		return []string{string(found.Kvs[0].Key), string(found.Kvs[0].Value)}, nil
	}},
	// SESSION NAME: each leader's key and value is an event.
	"election.observe": {2, func(c *call) ([]string, error) {
		e, err := c.election()
		if err != nil {
			return nil, err
		}
		for seen := range e.Observe(c.peer.client.Ctx()) {
			c.event(string(seen.Kvs[0].Key), string(seen.Kvs[0].Value))
		}
		return nil, fmt.Errorf("the observation ended")
	}},
}

func (c *call) election() (*concurrency.Election, error) {
	made, err := c.peer.object(c.args[0], "election", c.args[1], func(s *concurrency.Session) interface{} {
		return concurrency.NewElection(s, c.args[1])
	})
	if err != nil {
		return nil, err
	}
	return made.(*concurrency.Election), nil
}
