package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"weir/testbed/bridge"
)

// members are the weir processes of a round, in places 0 to 3.
type members struct {
	r *round

	mu      sync.Mutex
	started int
	procs   [maxMembers]*bridge.Process
	peak    int64 // resident memory of any of them, in bytes
	held    float64
}

const (
	maxMembers = 4
	drain      = 5 * time.Second
	// stopWithin is how long an end in order may take: the drain, 10 s for the last
	// commit and the farewell where the broker does not answer, and as much again for
	// a machine that is busy.
	stopWithin = 2 * (drain + 10*time.Second)
)

// start starts the member at place i if it does not run.
func (m *members) start(i int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.procs[i] != nil || m.r.replay.over() {
		return nil
	}
	if m.started++; m.started > m.r.plan.members {
		m.r.disrupted(false) // one more joins
	}
	p, err := m.r.launch(i, m.started)
	if err != nil {
		return err
	}
	m.procs[i] = p
	// It ends when it is told to, and never by itself.
	go func() {
		<-p.Exited()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.procs[i] != p {
			return
		}
		m.procs[i] = nil
		switch {
		case m.r.replay.mayEnd(p):
		case m.r.replay.mayFail(p):
			time.AfterFunc(time.Second, func() { _ = m.start(i) })
		default:
			m.r.violation("weir %d ended by itself: %s", i+1, lastLines(p.Log(), 5))
		}
	}()
	return nil
}

// launch starts a weir.
func (r *round) launch(place, process int) (*bridge.Process, error) {
	cfg := r.config(place, process)
	if r.replay != nil {
		return r.replay.launch(place, cfg)
	}
	return bridge.Start(r.bed.bin, r.dir, fmt.Sprintf("weir-%d", place+1), cfg)
}

// take removes the member at place i from those that run; nil: none does.
func (m *members) take(i int) *bridge.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.procs[i]
	m.procs[i] = nil
	return p
}

// kill ends a member with SIGKILL; false: it does not run.
func (m *members) kill(i int) bool {
	p := m.take(i)
	if p == nil {
		return false
	}
	m.measure(p)
	p.Kill()
	m.r.disrupted(true)
	return true
}

// stop ends a member in order and judges how it ended; false: it does not run.
func (m *members) stop(i int) bool {
	p := m.take(i)
	if p == nil {
		return false
	}
	m.measure(p)
	ctx, cancel := context.WithTimeout(context.Background(), 2*stopWithin)
	defer cancel()
	// A process that was started a moment ago does not listen to signals yet.
	for !m.listens(ctx, p) && sleep(ctx, 20*time.Millisecond) {
	}
	ctx, cancel = context.WithTimeout(ctx, stopWithin)
	defer cancel()
	began := time.Now()
	code, err := p.Terminate(ctx)
	m.r.disrupted(false)
	if m.r.replay.mayEnd(p) || m.r.replay != nil && (code == interrupted || m.r.replay.mayFail(p)) {
		return true
	}
	if err != nil || code != 0 {
		m.r.violation("weir %d: SIGTERM: exit code %d after %s (%v): %s", i+1, code, time.Since(began).Round(time.Millisecond), err, lastLines(p.Log(), 5))
	}
	return true
}

// listens reports whether p takes signals, or has ended.
func (m *members) listens(ctx context.Context, p *bridge.Process) bool {
	if m.r.replay != nil {
		return m.r.replay.begun(p)
	}
	_, err := p.Alive(ctx)
	return err == nil
}

// running are the places of those that run.
func (m *members) running() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var at []int
	for i, p := range m.procs {
		if p != nil {
			at = append(at, i)
		}
	}
	return at
}

// one is the place of one that runs; false: none does.
func (m *members) one(rng *rand.Rand) (int, bool) {
	at := m.running()
	if len(at) == 0 {
		return 0, false
	}
	return at[rng.IntN(len(at))], true
}

// roll starts and stops members one by one until n run, and returns how many it did.
func (m *members) roll(ctx context.Context, n int) (rolled int64, err error) {
	for ctx.Err() == nil && !m.r.replay.over() {
		at := m.running()
		switch {
		case len(at) < n:
			for i := range maxMembers {
				if m.procAt(i) == nil {
					if err := m.start(i); err != nil {
						return rolled, err
					}
					rolled++
					break
				}
			}
		case len(at) > n:
			if m.stop(at[0]) {
				rolled++
			}
		default:
			return rolled, nil
		}
		sleep(ctx, 700*time.Millisecond)
	}
	return rolled, ctx.Err()
}

func (m *members) procAt(i int) *bridge.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.procs[i]
}

// endAll ends what still runs, in order or not.
func (m *members) endAll(kill bool) {
	var wg sync.WaitGroup
	for i := range maxMembers {
		wg.Go(func() {
			if kill {
				if p := m.take(i); p != nil {
					p.Kill()
				}
				return
			}
			m.stop(i)
		})
	}
	wg.Wait()
}

// watch measures the members until ctx is done.
func (m *members) watch(ctx context.Context) {
	for sleep(ctx, 400*time.Millisecond) {
		for _, i := range m.running() {
			if p := m.procAt(i); p != nil {
				m.measure(p)
			}
		}
	}
}

// measure notes a member's memory. One that is ending answers no more: that is
// no violation.
func (m *members) measure(p *bridge.Process) {
	rss, err := p.PeakRSS()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	metrics, err := p.Metrics(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if rss > m.r.plan.memoryBound() && m.peak <= m.r.plan.memoryBound() {
		m.r.violation("resident memory of %d MiB, more than %d MiB", rss>>20, m.r.plan.memoryBound()>>20)
	}
	m.peak = max(m.peak, rss)
	if err != nil {
		return
	}
	held, most := metrics.Sum(bridge.BudgetHeld), metrics.Sum(bridge.Budget)
	if held > most {
		m.r.violation("%.0f bytes held, of a budget of %.0f", held, most)
	}
	m.held = max(m.held, held)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
