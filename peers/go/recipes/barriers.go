package main

// The recipes Barrier and DoubleBarrier.

import (
	"go.etcd.io/etcd/clientv3/concurrency"
	recipe "go.etcd.io/etcd/contrib/recipes"
)

var barrierActions = map[string]action{
	// NAME
	"barrier.hold": {1, func(c *call) ([]string, error) {
		return nil, recipe.NewBarrier(c.peer.client, c.args[0]).Hold()
	}},
	// NAME
	"barrier.release": {1, func(c *call) ([]string, error) {
		return nil, recipe.NewBarrier(c.peer.client, c.args[0]).Release()
	}},
	// NAME
	"barrier.wait": {1, func(c *call) ([]string, error) {
		return nil, recipe.NewBarrier(c.peer.client, c.args[0]).Wait()
	}},
	// SESSION NAME COUNT
	"double.enter": {3, func(c *call) ([]string, error) {
		count, err := c.number(2)
		if err != nil {
			return nil, err
		}
		b, err := c.double(count)
		if err != nil {
			return nil, err
		}
		return nil, b.Enter()
	}},
	// SESSION NAME, entered before
	"double.leave": {2, func(c *call) ([]string, error) {
		b, err := c.double(0)
		if err != nil {
			return nil, err
		}
		return nil, b.Leave()
	}},
}

func (c *call) double(count int) (*recipe.DoubleBarrier, error) {
	made, err := c.peer.object(c.args[0], "double", c.args[1], func(s *concurrency.Session) interface{} {
		return recipe.NewDoubleBarrier(s, c.args[1], count)
	})
	if err != nil {
		return nil, err
	}
	return made.(*recipe.DoubleBarrier), nil
}
