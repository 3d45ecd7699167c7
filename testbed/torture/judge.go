package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/testbed/torture/account"
	"weir/testbed/torture/front"
	"weir/testbed/torture/proxy"
)

// mood is how the backend behaves while it lasts.
type mood struct {
	share float64 // of the requests, or of the documents for item
	plan  front.Plan
	acks  bool           // of the questions for acknowledgements, not of what brings events
	item  account.Status // not Stored: what single documents are answered
	met   *atomic.Int64  // the requests or documents that it was felt by
}

// judge plays the backend: it decides what to do with each request and keeps the
// account, while the front, a process that can be killed, speaks the protocol.
type judge struct {
	protocol front.Protocol
	dir      string
	sock     string
	addr     string // of the front
	proxy    *proxy.Proxy

	mu    sync.Mutex
	acct  *account.Account // of the round; nil: it is over
	moods map[*mood]struct{}
	rng   *rand.Rand
	allow func(credentials string) bool // nil: everybody

	front    *exec.Cmd
	stdin    io.Closer
	listener net.Listener // for the front
}

// startJudge plays protocol for one round. place says which of the round's backends
// it is. Which requests are treated badly is drawn from the seed, as long as they come
// in the same order.
func startJudge(protocol front.Protocol, a *account.Account, dir string, base ports, place int, seed uint64) (*judge, error) {
	j := &judge{
		rng:      rand.New(rand.NewPCG(seed, uint64(place))),
		protocol: protocol, acct: a, dir: dir, addr: base.addr(portFront + 2*place),
		sock:  filepath.Join(dir, fmt.Sprintf("judge-%d.sock", place)),
		moods: map[*mood]struct{}{},
	}
	var err error
	if j.listener, err = front.Listen(j.sock, j); err != nil {
		return nil, err
	}
	if err := j.startFront(); err != nil {
		return nil, err
	}
	j.proxy, err = proxy.Start(base.addr(portSinkProxy+2*place), j.addr)
	return j, err
}

// feel adds a mood until over is called. met is how many requests or documents felt
// it so far.
func (j *judge) feel(m mood) (met func() int64, over func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m.met = new(atomic.Int64)
	j.moods[&m] = struct{}{}
	well := j.acct.Ill()
	return m.met.Load, func() {
		well()
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.moods, &m)
	}
}

// Plan implements front.Account.
func (j *judge) Plan(q front.Request) (front.Plan, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := front.Plan{Late: time.Duration(j.rng.Int64N(int64(front.Indexing))), Index: j.rng.IntN(2) == 0}
	if j.allow != nil && !j.allow(q.Credentials) {
		p.Before = front.Forbidden
		return p, nil
	}
	for m := range j.moods {
		if m.item != account.Stored || m.acks != q.Acks || j.rng.Float64() >= m.share {
			continue
		}
		m.met.Add(1)
		p.Wait += m.plan.Wait
		if m.plan.Wait > 0 {
			p.Wait += time.Duration(j.rng.Int64N(int64(m.plan.Wait)))
		}
		p.Lose = p.Lose || m.plan.Lose
		if m.plan.Late > 0 {
			p.Late += time.Duration(j.rng.Int64N(int64(m.plan.Late)))
		}
		if m.plan.Before != front.Well {
			p.Before = m.plan.Before
		}
		if m.plan.After != front.Well {
			p.After = m.plan.After
		}
	}
	return p, nil
}

// Store implements front.Account.
func (j *judge) Store(d account.Delivery) ([]account.Status, int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acct == nil {
		return nil, 0, errOver
	}
	answers, receipt := j.acct.Store(d, func() account.Status {
		for m := range j.moods {
			if m.item != account.Stored && j.rng.Float64() < m.share {
				m.met.Add(1)
				return m.item
			}
		}
		return account.Stored
	})
	return answers, receipt, nil
}

// Accept implements front.Account.
func (j *judge) Accept(d account.Delivery) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acct == nil {
		return 0, errOver
	}
	return j.acct.Accept(d), nil
}

// Index implements front.Account.
func (j *judge) Index(receipt int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acct == nil {
		return errOver
	}
	j.acct.Index(receipt)
	return nil
}

// Doubt implements front.Account.
func (j *judge) Doubt(channel string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acct != nil {
		j.acct.Doubt(channel)
	}
	return nil
}

// Answered implements front.Account.
func (j *judge) Answered(receipt int64, ok bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acct != nil {
		j.acct.Answered(receipt, ok)
	}
	return nil
}

var errOver = errors.New("the round is over")

// startFront starts the process that speaks the protocol and waits until it
// listens.
func (j *judge) startFront() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "front", "-protocol", j.protocol.Name, "-listen", j.addr, "-account", j.sock, "-dir", j.dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // it ends when this process does
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	j.front, j.stdin = cmd, stdin
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", j.addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the front does not listen: %w", err)
		}
	}
}

// killFront ends it with SIGKILL.
func (j *judge) killFront() {
	_ = j.front.Process.Kill()
	_ = j.front.Wait()
	_ = j.stdin.Close()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acct != nil {
		j.acct.FrontDied()
	}
}

// freeze stops the front's process without ending it: connections are taken by
// the kernel and nobody answers.
func (j *judge) freeze(on bool) error {
	if on {
		return j.front.Process.Signal(syscall.SIGSTOP)
	}
	return j.front.Process.Signal(syscall.SIGCONT)
}

func (j *judge) close() {
	j.mu.Lock()
	j.acct = nil
	j.mu.Unlock()
	j.killFront()
	_ = j.proxy.Close()
	_ = j.listener.Close()
}

// runFront is the front's process: it ends when its standard input does.
func runFront(protocol, listen, socket, dir string) error {
	p, err := front.Find(protocol)
	if err != nil {
		return err
	}
	a, err := front.Dial(socket)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if l, err = front.Secure(l, dir); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return p.Serve(l, a)
}
