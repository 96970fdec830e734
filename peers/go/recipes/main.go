// Command recipes does what it is told with etcd's own Go recipes, concurrency package and RPC
// clients, so that tests can put Go programs and Rust programs on the same keys.
//
// It is started with the endpoints, separated by commas. Each line of its input is a request,
//
//	{"id": 1, "words": ["queue.push", "q", "hello"]}
//
// and each request runs at once, beside those that still run. Each line of its output is about one
// of them: {"id": 1, "event": ["..."]} any number of times, then {"id": 1, "done": ["..."]} or
// {"id": 1, "error": "..."}. The actions are listed in the maps of the files beside this one.
//
// The recipes cannot be cancelled, so a request that takes too long is answered with an error and
// left behind. At the end of its input the program waits for what still runs, and ends; in any case it
// ends after its lifetime.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	"google.golang.org/grpc"
)

type request struct {
	ID    int64    `json:"id"`
	Words []string `json:"words"`
}

type answer struct {
	ID    int64    `json:"id"`
	Event []string `json:"event,omitempty"`
	Done  []string `json:"done,omitempty"`
	Error string   `json:"error,omitempty"`
}

// call is a request that runs: its arguments, and where its events go.
type call struct {
	peer *peer
	id   int64
	args []string
}

// action has a number of arguments and what to do with them.
type action struct {
	args int
	run  func(c *call) ([]string, error)
}

// peer is this program: one client, and what its requests have made.
type peer struct {
	client *clientv3.Client
	limit  time.Duration

	output sync.Mutex
	json   *json.Encoder

	mutex    sync.Mutex
	sessions map[string]*concurrency.Session
	// Barriers, locks and elections remember their own key: by session, kind and name.
	objects map[string]interface{}
}

func main() {
	limit := flag.Duration("limit", time.Minute, "how long a request may take")
	life := flag.Duration("life", 10*time.Minute, "how long the program may live")
	flag.Parse()
	if flag.NArg() != 1 {
		fail("usage: recipes [-limit DURATION] [-life DURATION] ENDPOINTS")
	}
	time.AfterFunc(*life, func() { fail("the program has lived for long enough") })

	client, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(flag.Arg(0), ","),
		DialTimeout: 20 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithBlock()},
	})
	if err != nil {
		fail("cannot connect: " + err.Error())
	}
	p := &peer{
		client:   client,
		limit:    *limit,
		json:     json.NewEncoder(os.Stdout),
		sessions: map[string]*concurrency.Session{},
		objects:  map[string]interface{}{},
	}
	actions := map[string]action{}
	for _, some := range []map[string]action{
		sessionActions, queueActions, barrierActions, lockActions, electionActions, stmActions, rpcActions,
	} {
		for name, does := range some {
			actions[name] = does
		}
	}

	var running sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || len(r.Words) == 0 {
			fail("not a request: " + lines.Text())
		}
		does, known := actions[r.Words[0]]
		switch {
		case !known:
			p.answer(answer{ID: r.ID, Error: "no action " + r.Words[0]})
		case len(r.Words)-1 != does.args:
			p.answer(answer{ID: r.ID, Error: fmt.Sprintf("%s takes %d arguments", r.Words[0], does.args)})
		default:
			running.Add(1)
			go func() {
				defer running.Done()
				p.run(does, &call{peer: p, id: r.ID, args: r.Words[1:]})
			}()
		}
	}
	running.Wait()
}

// run does one action, within the limit, and answers.
func (p *peer) run(does action, c *call) {
	done := make(chan answer, 1)
	go func() {
		// A recipe may dereference nil (Queue.Dequeue does when its watch ends): say so and live.
		defer func() {
			if r := recover(); r != nil {
				done <- answer{ID: c.id, Error: fmt.Sprintf("panic: %v", r)}
			}
		}()
		words, err := does.run(c)
		if err != nil {
			done <- answer{ID: c.id, Error: err.Error()}
			return
		}
		if len(words) == 0 {
			words = []string{""}
		}
		done <- answer{ID: c.id, Done: words}
	}()
	select {
	case a := <-done:
		p.answer(a)
	case <-time.After(p.limit):
		p.answer(answer{ID: c.id, Error: fmt.Sprintf("not within %v", p.limit)})
	}
}

func (p *peer) answer(a answer) {
	p.output.Lock()
	defer p.output.Unlock()
	if err := p.json.Encode(a); err != nil {
		fail("nobody listens: " + err.Error())
	}
}

// event reports something while the request goes on.
func (c *call) event(words ...string) {
	c.peer.answer(answer{ID: c.id, Event: words})
}

// number reads an argument.
func (c *call) number(index int) (int, error) {
	return strconv.Atoi(c.args[index])
}

// object is the one that was made before for this session, kind and name, or a new one.
func (p *peer) object(session, kind, name string, make func(*concurrency.Session) interface{}) (interface{}, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	key := session + "\x00" + kind + "\x00" + name
	if found, ok := p.objects[key]; ok {
		return found, nil
	}
	s, ok := p.sessions[session]
	if !ok {
		return nil, fmt.Errorf("no session %s", session)
	}
	made := make(s)
	p.objects[key] = made
	return made, nil
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "recipes: "+why)
	os.Exit(1)
}
