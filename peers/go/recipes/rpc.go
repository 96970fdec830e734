package main

// The server's own Lock and Election services, asked by etcd's generated clients.

import (
	"fmt"
	"io"
	"strconv"

	"go.etcd.io/etcd/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/etcdserver/api/v3lock/v3lockpb"
)

var rpcActions = map[string]action{
	// SECONDS: answers the lease, which nobody keeps alive.
	"lease.grant": {1, func(c *call) ([]string, error) {
		seconds, err := c.number(0)
		if err != nil {
			return nil, err
		}
		lease, err := c.peer.client.Grant(c.peer.client.Ctx(), int64(seconds))
		if err != nil {
			return nil, err
		}
		return []string{strconv.FormatInt(int64(lease.ID), 10)}, nil
	}},
	// NAME LEASE: answers the key.
	"rpc.lock": {2, func(c *call) ([]string, error) {
		lease, err := strconv.ParseInt(c.args[1], 10, 64)
		if err != nil {
			return nil, err
		}
		locks := v3lockpb.NewLockClient(c.peer.client.ActiveConnection())
		held, err := locks.Lock(c.peer.client.Ctx(), &v3lockpb.LockRequest{
			Name: []byte(c.args[0]), Lease: lease,
		})
		if err != nil {
			return nil, err
		}
		return []string{string(held.Key)}, nil
	}},
	// KEY
	"rpc.unlock": {1, func(c *call) ([]string, error) {
		locks := v3lockpb.NewLockClient(c.peer.client.ActiveConnection())
		_, err := locks.Unlock(c.peer.client.Ctx(), &v3lockpb.UnlockRequest{Key: []byte(c.args[0])})
		return nil, err
	}},
	// NAME LEASE VALUE: answers what stands for the leadership: name, key, revision, lease.
	"rpc.campaign": {3, func(c *call) ([]string, error) {
		lease, err := strconv.ParseInt(c.args[1], 10, 64)
		if err != nil {
			return nil, err
		}
		won, err := c.elections().Campaign(c.peer.client.Ctx(), &v3electionpb.CampaignRequest{
			Name: []byte(c.args[0]), Lease: lease, Value: []byte(c.args[2]),
		})
		if err != nil {
			return nil, err
		}
		leader := won.Leader
		return []string{
			string(leader.Name), string(leader.Key),
			strconv.FormatInt(leader.Rev, 10), strconv.FormatInt(leader.Lease, 10),
		}, nil
	}},
	// NAME KEY REVISION LEASE VALUE
	"rpc.proclaim": {5, func(c *call) ([]string, error) {
		leader, err := c.leader()
		if err != nil {
			return nil, err
		}
		_, err = c.elections().Proclaim(c.peer.client.Ctx(), &v3electionpb.ProclaimRequest{
			Leader: leader, Value: []byte(c.args[4]),
		})
		return nil, err
	}},
	// NAME KEY REVISION LEASE
	"rpc.resign": {4, func(c *call) ([]string, error) {
		leader, err := c.leader()
		if err != nil {
			return nil, err
		}
		_, err = c.elections().Resign(c.peer.client.Ctx(), &v3electionpb.ResignRequest{Leader: leader})
		return nil, err
	}},
	// NAME: answers the leader's key and value.
	"rpc.leader": {1, func(c *call) ([]string, error) {
		found, err := c.elections().Leader(c.peer.client.Ctx(), &v3electionpb.LeaderRequest{
			Name: []byte(c.args[0]),
		})
		if err != nil {
			return nil, err
		}
		return []string{string(found.Kv.Key), string(found.Kv.Value)}, nil
	}},
	// NAME: each leader's key and value is an event.
	"rpc.observe": {1, func(c *call) ([]string, error) {
		seen, err := c.elections().Observe(c.peer.client.Ctx(), &v3electionpb.LeaderRequest{
			Name: []byte(c.args[0]),
		})
		if err != nil {
			return nil, err
		}
		for {
			next, err := seen.Recv()
			if err == io.EOF {
				return nil, fmt.Errorf("the observation ended")
			}
			if err != nil {
				return nil, err
			}
			c.event(string(next.Kv.Key), string(next.Kv.Value))
		}
	}},
}

func (c *call) elections() v3electionpb.ElectionClient {
	return v3electionpb.NewElectionClient(c.peer.client.ActiveConnection())
}

func (c *call) leader() (*v3electionpb.LeaderKey, error) {
	revision, err := strconv.ParseInt(c.args[2], 10, 64)
	if err != nil {
		return nil, err
	}
	lease, err := strconv.ParseInt(c.args[3], 10, 64)
	if err != nil {
		return nil, err
	}
	return &v3electionpb.LeaderKey{
		Name: []byte(c.args[0]), Key: []byte(c.args[1]), Rev: revision, Lease: lease,
	}, nil
}
