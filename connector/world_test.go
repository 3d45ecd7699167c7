package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// world is a log, a sink and a dead-letter sink that keep account, in virtual
// time: the bridge runs between them and is judged by what they saw.
type world struct {
	t   *testing.T
	mu  sync.Mutex
	rng *rand.Rand

	logs map[int32][]int64 // partition: the offsets that hold a record, ascending
	ends map[int32]int64   // partition: the offset behind its last one

	stored   map[key]int // what the sink holds, and how often it was sent
	dead     map[key]int
	filtered map[key]bool
	commits  map[int32]int64

	inFlight, most int
	busy           map[int32]int // partition: requests in flight that hold records of it

	// The moods; each is asked under mu.
	latency  func() time.Duration
	request  func(b *buffer.Batch) error // before anything is stored
	lost     func() error                // after everything was stored
	verdict  func(r *buffer.Record) sinks.Outcome
	deadFail func() error
	late     func() time.Duration // the acknowledgement comes that much later than the answer
	commit   func()               // before a commit is noted, not under mu
}

type key struct {
	partition int32
	offset    int64
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)),
		logs: map[int32][]int64{}, ends: map[int32]int64{},
		stored: map[key]int{}, dead: map[key]int{}, filtered: map[key]bool{}, commits: map[int32]int64{},
		busy:     map[int32]int{},
		latency:  func() time.Duration { return 10 * time.Millisecond },
		request:  func(*buffer.Batch) error { return nil },
		lost:     func() error { return nil },
		verdict:  func(*buffer.Record) sinks.Outcome { return sinks.Outcome{Verdict: sinks.Ack} },
		deadFail: func() error { return nil },
		late:     func() time.Duration { return 0 },
	}
}

// write appends n records to a partition, gap of a hundred offsets being holes.
func (w *world) write(partition int32, n, gap int) {
	at := w.ends[partition]
	for range n {
		for w.rng.IntN(100) < gap {
			at++
		}
		w.logs[partition] = append(w.logs[partition], at)
		at++
	}
	w.ends[partition] = at + int64(w.rng.IntN(3)) // control markers at the end
}

// settled reports whether a record may be committed past.
func (w *world) settled(k key) bool {
	return w.stored[k] > 0 || w.dead[k] > 0 || w.filtered[k]
}

// source reads a partition from its last commit on.
type source struct {
	w         *world
	partition int32
	start     int64
	at        int64
	bounded   bool
	returned  bool           // Lane returned: no commit may come any more
	ends      map[int64]bool // of the runs handed out
}

func (w *world) source(partition int32, bounded bool) *source {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := w.commits[partition]
	return &source{w: w, partition: partition, start: from, at: from, bounded: bounded, ends: map[int64]bool{}}
}

func (s *source) Start() int64 { return s.start }

func (s *source) End() int64 {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.ends[s.partition]
}

func (s *source) Next(ctx context.Context) (Run, error) {
	s.w.mu.Lock()
	wait := time.Duration(s.w.rng.IntN(5)) * time.Millisecond
	n := 1 + s.w.rng.IntN(400)
	var run Run
	for _, o := range s.w.logs[s.partition] {
		if o >= s.at && len(run.Records) < n {
			run.Records = append(run.Records, buffer.Record{Offset: o, Value: fmt.Appendf(nil, `{"n":%d}`, o)})
		}
	}
	if len(run.Records) < n {
		run.Next = s.w.ends[s.partition]
	} else {
		run.Next = run.Records[n-1].Offset + 1
	}
	atEnd := s.at >= s.w.ends[s.partition]
	s.w.mu.Unlock()
	if atEnd && s.bounded {
		return Run{}, io.EOF
	}
	if atEnd {
		<-ctx.Done()
		return Run{}, ctx.Err()
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return Run{}, ctx.Err()
	}
	s.at = run.Next
	s.w.mu.Lock()
	s.ends[run.Next] = true
	s.w.mu.Unlock()
	return run, nil
}

// Commit is where the contract is judged: everything below next is settled.
func (s *source) Commit(p Progress) {
	next := p.Next
	if s.w.commit != nil {
		s.w.commit()
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.returned {
		s.w.t.Errorf("partition %d: commit of %d after Lane returned", s.partition, next)
	}
	if next < s.w.commits[s.partition] {
		s.w.t.Errorf("partition %d: commit went back from %d to %d", s.partition, s.w.commits[s.partition], next)
	}
	for _, o := range s.w.logs[s.partition] {
		if o >= s.w.commits[s.partition] && o < next && !s.w.settled(key{s.partition, o}) {
			s.w.t.Errorf("partition %d: committed %d past the unsettled record at %d", s.partition, next, o)
			break
		}
	}
	s.w.commits[s.partition] = next
	s.w.judgeTally(s, p)
}

// judgeTally counts what the world knows about the records up to p.Mark.
func (w *world) judgeTally(s *source, p Progress) {
	if p.Mark > p.Next || p.Mark < s.start {
		w.t.Errorf("partition %d: mark %d is not within %d and %d", s.partition, p.Mark, s.start, p.Next)
	}
	if p.Mark != s.start && !s.ends[p.Mark] {
		w.t.Errorf("partition %d: mark %d is no end of a run", s.partition, p.Mark)
	}
	var want int64
	for _, o := range w.logs[s.partition] {
		if o >= s.start && o < p.Mark {
			want++
		}
	}
	if got := p.Tally.Delivered + p.Tally.DeadLettered + p.Tally.Filtered; got != want {
		w.t.Errorf("partition %d: the tally has %d of the %d records from %d to %d", s.partition, got, want, s.start, p.Mark)
	}
	if p.Tally.Duplicates > p.Tally.Delivered {
		w.t.Errorf("partition %d: %d duplicates of %d delivered", s.partition, p.Tally.Duplicates, p.Tally.Delivered)
	}
}

// Deliver implements sinks.Sink for the SIEM.
func (w *world) Deliver(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	w.mu.Lock()
	w.inFlight++
	w.most = max(w.most, w.inFlight)
	seen := map[int32]int64{}
	for _, r := range b.Records {
		if last, ok := seen[r.Partition]; !ok {
			w.busy[r.Partition]++
		} else if r.Offset <= last && w.busy[r.Partition] == 1 {
			// Several leftovers may be merged out of order, but never twice one.
			if r.Offset == last {
				w.t.Errorf("record %d/%d twice in one batch", r.Partition, r.Offset)
			}
		}
		seen[r.Partition] = r.Offset
	}
	wait, late := w.latency(), w.late()
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.inFlight--
		for p := range seen {
			w.busy[p]--
		}
	}()
	if err := sleep(ctx, wait); err != nil {
		return nil, err
	}
	w.mu.Lock()
	if err := w.request(b); err != nil {
		w.mu.Unlock()
		return nil, err
	}
	out := make([]sinks.Outcome, len(b.Records))
	for i, r := range b.Records {
		out[i] = w.verdict(r)
		if out[i].Verdict == sinks.Ack {
			k := key{r.Partition, r.Offset}
			if w.stored[k] > 0 {
				out[i].Note = sinks.Duplicate
			}
			w.stored[k]++
		}
	}
	err := w.lost()
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if late > 0 {
		answered(sinks.Plain)
		if err := sleep(ctx, late); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// morgue is the world's dead-letter sink.
type morgue struct{ w *world }

func (m morgue) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	if err := sleep(ctx, 3*time.Millisecond); err != nil {
		return nil, err
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if err := m.w.deadFail(); err != nil {
		return nil, err
	}
	out := make([]sinks.Outcome, len(b.Records))
	for i, r := range b.Records {
		m.w.dead[key{r.Partition, r.Offset}]++
		out[i].Verdict = sinks.Ack
	}
	return out, nil
}

func (w *world) options() Options {
	return Options{
		Name:         "test",
		BatchRecords: 100, BatchBytes: 1 << 20, Linger: 50 * time.Millisecond,
		InFlightMin: 1, InFlightMax: 4,
		RetryInitial: 20 * time.Millisecond, RetryMax: time.Second,
		Drain:      5 * time.Second,
		Sink:       w,
		DeadLetter: morgue{w},
		Budget:     buffer.NewBudget(256 << 10),
		Log:        slog.New(slog.DiscardHandler),
	}
}

// run runs one lane a partition until all have ended, and returns their errors.
func (w *world) run(ctx context.Context, c *Connector, bounded bool) map[int32]error {
	var wg sync.WaitGroup
	errs := map[int32]error{}
	var mu sync.Mutex
	for p := range w.logs {
		wg.Go(func() {
			s := w.source(p, bounded)
			err := c.Lane(ctx, &buffer.Origin{Topic: "t", Partition: p}, s)
			w.mu.Lock()
			s.returned = true
			w.mu.Unlock()
			mu.Lock()
			errs[p] = err
			mu.Unlock()
		})
	}
	wg.Wait()
	return errs
}

// complete fails unless every record is settled and every partition committed to
// its end.
func (w *world) complete() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, offsets := range w.logs {
		for _, o := range offsets {
			if !w.settled(key{p, o}) {
				w.t.Errorf("record %d/%d is lost", p, o)
				return
			}
		}
		if w.commits[p] != w.ends[p] {
			w.t.Errorf("partition %d committed to %d, its end is %d", p, w.commits[p], w.ends[p])
		}
	}
}

var errReset = errors.New("connection reset")
