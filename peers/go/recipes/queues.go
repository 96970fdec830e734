package main

// The recipes Queue and PriorityQueue.

import (
	"fmt"

	recipe "go.etcd.io/etcd/contrib/recipes"
)

var queueActions = map[string]action{
	// NAME VALUE
	"queue.push": {2, func(c *call) ([]string, error) {
		return nil, recipe.NewQueue(c.peer.client, c.args[0]).Enqueue(c.args[1])
	}},
	// NAME PREFIX COUNT: pushes "PREFIX 0", "PREFIX 1" and so on.
	"queue.push-many": {3, func(c *call) ([]string, error) {
		queue := recipe.NewQueue(c.peer.client, c.args[0])
		return c.many(2, func(n int) error {
			return queue.Enqueue(fmt.Sprintf("%s %d", c.args[1], n))
		})
	}},
	// NAME: answers the value.
	"queue.pop": {1, func(c *call) ([]string, error) {
		return one(recipe.NewQueue(c.peer.client, c.args[0]).Dequeue())
	}},
	// NAME: pops as long as it can; each value is an event.
	"queue.pop-all": {1, func(c *call) ([]string, error) {
		return c.each(recipe.NewQueue(c.peer.client, c.args[0]).Dequeue)
	}},
	// NAME VALUE PRIORITY
	"pq.push": {3, func(c *call) ([]string, error) {
		priority, err := c.number(2)
		if err != nil {
			return nil, err
		}
		return nil, recipe.NewPriorityQueue(c.peer.client, c.args[0]).Enqueue(c.args[1], uint16(priority))
	}},
	// NAME PREFIX COUNT PRIORITY
	"pq.push-many": {4, func(c *call) ([]string, error) {
		priority, err := c.number(3)
		if err != nil {
			return nil, err
		}
		queue := recipe.NewPriorityQueue(c.peer.client, c.args[0])
		return c.many(2, func(n int) error {
			return queue.Enqueue(fmt.Sprintf("%s %d", c.args[1], n), uint16(priority))
		})
	}},
	// NAME: answers the value.
	"pq.pop": {1, func(c *call) ([]string, error) {
		return one(recipe.NewPriorityQueue(c.peer.client, c.args[0]).Dequeue())
	}},
	// NAME: pops as long as it can; each value is an event.
	"pq.pop-all": {1, func(c *call) ([]string, error) {
		return c.each(recipe.NewPriorityQueue(c.peer.client, c.args[0]).Dequeue)
	}},
}

func one(value string, err error) ([]string, error) {
	return []string{value}, err
}

// each reports what it gets until it gets an error.
func (c *call) each(next func() (string, error)) ([]string, error) {
	for {
		value, err := next()
		if err != nil {
			return nil, err
		}
		c.event(value)
	}
}

// many does something as often as an argument says.
func (c *call) many(index int, do func(n int) error) ([]string, error) {
	count, err := c.number(index)
	if err != nil {
		return nil, err
	}
	for n := 0; n < count; n++ {
		if err := do(n); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
