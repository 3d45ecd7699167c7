package replay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
	"weir/connector"
	"weir/connector/evidence"
	"weir/connector/transform"
	"weir/sinks"
)

// world is a topic, a group's offsets and a destination, in virtual time. They
// outlive the workers that come and go between them.
type world struct {
	t    *testing.T
	rand *rand.Rand
	plan *Plan
	logs []*partitionLog

	mu     sync.Mutex
	lists  map[int32][]byte // of gaps, as they were told
	stored map[string]int   // by topic/partition/offset: how often it was sent
	dead   map[string]bool
	sent   int
}

// partitionLog is a log and what a group has committed for it.
type partitionLog struct {
	w      *world
	origin *buffer.Origin
	slots  []slot   // by offset
	truth  []moment // the evidence of an undisturbed run up to each offset

	// Guarded by w.mu.
	start  int64 // what lies before was removed by retention
	offset int64 // committed
	note   string
}

type slot struct {
	record *buffer.Record // nil: there is none
	why    connector.GapReason
}

// moment is the evidence of an undisturbed run up to an offset.
type moment struct {
	records, gaps string
	matched       uint64
}

const testTopic = "4H2mQ0yTQvW3sE9cZbKf1A"

var (
	testFrom = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	testTo   = testFrom.Add(time.Hour)
)

// newWorld is a world of that many partitions, of about n offsets each.
func newWorld(t *testing.T, seed uint64, partitions, n int) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 1)), lists: map[int32][]byte{}, stored: map[string]int{}, dead: map[string]bool{}}
	w.plan = &Plan{Version: PlanVersion, Case: "w", Cluster: "c", From: testFrom, To: testTo, Topics: []Topic{{Name: "t", ID: testTopic}}}
	for number := range int32(partitions) {
		l := &partitionLog{w: w, origin: &buffer.Origin{Cluster: "c", Topic: "t", TopicID: testTopic, Partition: number}}
		size := n/2 + w.rand.IntN(n)
		for at := range size {
			l.slots = append(l.slots, w.slot(l.origin, int64(at)))
		}
		first := w.rand.IntN(size/4 + 1)
		p := Partition{Number: number, First: int64(first), End: int64(first + w.rand.IntN(size-first+1)), Found: FoundIndex}
		if w.rand.IntN(3) == 0 && first > 0 {
			p.Taken = &Span{To: p.First}
		}
		w.plan.Topics[0].Partitions = append(w.plan.Topics[0].Partitions, p)
		l.offset = p.First
		w.logs = append(w.logs, l)
	}
	if _, err := w.plan.Encode(); err != nil {
		t.Fatal(err)
	}
	for i, l := range w.logs {
		l.undisturbed(&w.plan.Topics[0].Partitions[i])
	}
	return w
}

func (w *world) slot(o *buffer.Origin, at int64) slot {
	switch w.rand.IntN(20) {
	case 0:
		return slot{why: connector.GapControl}
	case 1:
		return slot{why: connector.GapAborted}
	case 2:
		return slot{}
	}
	r := &buffer.Record{Origin: o, Offset: at, Time: testFrom.Add(time.Duration(w.rand.IntN(90)-15) * time.Minute), Value: fmt.Appendf(nil, `{"n":%d,"p":%d}`, at, o.Partition)}
	switch w.rand.IntN(6) {
	case 0:
		r.Key = []byte{}
	case 1:
		r.Key, r.Value = []byte("k"), nil
	case 2:
		r.Headers = []buffer.Header{{Key: "a", Value: nil}, {Key: "a", Value: []byte{}}}
	}
	return slot{record: r}
}

func inRange(r *buffer.Record) bool { return !r.Time.Before(testFrom) && r.Time.Before(testTo) }

// undisturbed works out what the evidence must be, without any of the code under
// test but the trees.
func (l *partitionLog) undisturbed(p *Partition) {
	var records evidence.Tree
	var gaps evidence.Gaps
	enc := evidence.NewEncoder(l.origin)
	matched := uint64(0)
	if p.Taken != nil {
		must(l.w.t, gaps.Add(enc, evidence.Gap{From: 0, To: p.First, Class: evidence.Retention}))
	}
	l.truth = make([]moment, len(l.slots)+1)
	for at := p.First; ; at++ {
		closed := gaps.Closed(enc)
		l.truth[at] = moment{records.Root().String(), closed.Root().String(), matched}
		if at == p.End {
			return
		}
		switch s := l.slots[at]; {
		case s.record == nil:
			class := map[connector.GapReason]evidence.Class{connector.GapControl: evidence.Control, connector.GapAborted: evidence.Aborted}[s.why]
			must(l.w.t, gaps.Add(enc, evidence.Gap{From: at, To: at + 1, Class: class}))
		case inRange(s.record):
			records.Append(enc.Record(s.record))
			matched++
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// commitLag is how long a commit is on its way: until then a crash loses it.
const commitLag = 200 * time.Millisecond

// upstream is a log as one worker reads it.
type upstream struct {
	l         *partitionLog
	dead      func() bool // its process has crashed
	start, at int64
	note      string
	rand      *rand.Rand
}

func (l *partitionLog) open(dead func() bool) *upstream {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return &upstream{l: l, dead: dead, start: l.offset, at: l.offset, note: l.note, rand: rand.New(rand.NewPCG(l.w.rand.Uint64(), 2))}
}

func (u *upstream) Start() int64                         { return u.start }
func (u *upstream) End() int64                           { return int64(len(u.l.slots)) }
func (u *upstream) Mark() string                         { return "weir1 " + u.l.origin.TopicID }
func (u *upstream) Note(context.Context) (string, error) { return u.note, nil }
func (u *upstream) Commit(connector.Progress)            { u.l.w.t.Error("a commit without evidence") }

func (u *upstream) Next(ctx context.Context) (connector.Run, error) {
	select {
	case <-time.After(time.Duration(u.rand.IntN(3)) * time.Millisecond):
	case <-ctx.Done():
		return connector.Run{}, ctx.Err()
	}
	if u.at >= u.End() {
		<-ctx.Done() // a live log
		return connector.Run{}, ctx.Err()
	}
	u.l.w.mu.Lock()
	start := u.l.start
	u.l.w.mu.Unlock()
	if u.at < start {
		run := connector.Run{Next: start, Gaps: []connector.Gap{{From: u.at, To: start, Why: connector.GapRetention}}}
		u.at = start
		return run, nil
	}
	run := connector.Run{Next: min(u.at+1+u.rand.Int64N(40), u.End())}
	for ; u.at < run.Next; u.at++ {
		if s := u.l.slots[u.at]; s.record != nil {
			run.Records = append(run.Records, *s.record)
		} else {
			run.Gaps = append(run.Gaps, connector.Gap{From: u.at, To: u.at + 1, Why: s.why})
		}
	}
	return run, nil
}

// CommitNote is where it is judged.
func (u *upstream) CommitNote(next int64, note string) {
	l, w := u.l, u.l.w
	w.mu.Lock()
	l.judge(next, u.Mark(), note)
	w.mu.Unlock()
	time.AfterFunc(commitLag/2, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !u.dead() && next >= l.offset {
			l.offset, l.note = next, note
		}
	})
}

// judge checks what a commit says against what is so. Under w.mu.
func (l *partitionLog) judge(next int64, mark, note string) {
	t, w := l.w.t, l.w
	p, err := DecodeNote(mark, note)
	if err != nil {
		t.Errorf("partition %d: a note that cannot be read: %v", l.origin.Partition, err)
		return
	}
	_, plan := w.plan.Partition("t", l.origin.Partition)
	explained := int64(0)
	for _, n := range p.Gaps().Offsets {
		explained += int64(n)
	}
	begin := plan.First
	if plan.Taken != nil {
		begin = plan.Taken.From
	}
	c := &p.Counts
	switch {
	case p.Next != next || next > plan.End:
		t.Errorf("partition %d: committed %d with the evidence up to %d, the plan ends at %d", l.origin.Partition, next, p.Next, plan.End)
	case c.Read != c.Matched+c.Outside+c.Filtered:
		t.Errorf("partition %d at %d: %+v does not add up", l.origin.Partition, next, *c)
	case c.Settled() != c.Matched:
		t.Errorf("partition %d at %d: %d matched and %d settled", l.origin.Partition, next, c.Matched, c.Settled())
	case int64(c.Read)+explained != next-begin:
		t.Errorf("partition %d at %d: %d records and %d offsets in gaps are not the %d offsets there are", l.origin.Partition, next, c.Read, explained, next-begin)
	}
	if l.start == 0 { // else retention took some, by chance
		closed := p.Gaps().Closed(evidence.NewEncoder(l.origin))
		if got, want := (moment{p.Records().Root().String(), closed.Root().String(), c.Matched}), l.truth[next]; got != want {
			t.Errorf("partition %d at %d: %+v, an undisturbed run has %+v", l.origin.Partition, next, got, want)
		}
		for at := plan.First; at < next; at++ {
			if r := l.slots[at].record; r != nil && inRange(r) && w.stored[address(r)] == 0 && !w.dead[address(r)] {
				t.Errorf("offset %d is passed over at %d and is nowhere", at, next)
			}
		}
	}
}

func address(r *buffer.Record) string { return fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset) }

// Deliver implements sinks.Sink.
func (w *world) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	w.mu.Lock()
	wait, late := time.Duration(1+w.rand.IntN(60))*time.Millisecond, w.rand.IntN(2) == 0
	fails, torn := w.rand.IntN(12) == 0, w.rand.IntN(12) == 0
	w.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		if !late {
			return nil, ctx.Err()
		}
		// It was received all the same, and nobody is there for the answer.
	}
	if fails {
		return nil, &sinks.RequestError{Status: 503}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]sinks.Outcome, len(b.Records))
	for i, r := range b.Records {
		w.sent++
		switch at := address(r); {
		case r.Offset%50 == 7:
			out[i] = sinks.Outcome{Verdict: sinks.Reject, Status: 400}
		case r.Offset%31 == 3 && w.rand.IntN(2) == 0:
			out[i] = sinks.Outcome{Verdict: sinks.Retry, Status: 429, Note: sinks.Overloaded}
		default:
			out[i].Verdict = sinks.Ack
			if w.stored[at] > 0 {
				out[i].Note = sinks.Duplicate
			}
			w.stored[at]++
		}
	}
	if torn {
		return nil, errors.New("the answer was lost")
	}
	return out, ctx.Err()
}

// cemetery takes dead letters.
type cemetery struct{ w *world }

func (c cemetery) Deliver(_ context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	out := make([]sinks.Outcome, len(b.Records))
	for i, r := range b.Records {
		c.w.dead[address(r)] = true
		out[i].Verdict = sinks.Ack
	}
	return out, nil
}

func (w *world) job(mark string) *Job {
	decode, err := transform.Decode("json")
	must(w.t, err)
	return New(Config{Plan: w.plan, Mark: mark, Gaps: w.told, Deliver: connector.Options{
		Name: "weir.rehydrate.w", BatchRecords: 25, BatchBytes: 1 << 20, Linger: 10 * time.Millisecond, InFlightMin: 1, InFlightMax: 4,
		RetryInitial: 10 * time.Millisecond, RetryMax: time.Second, Drain: 2 * time.Second,
		Sink: w, DeadLetter: cemetery{w}, Budget: buffer.NewBudget(1 << 20),
		Transforms: []connector.Transform{decode}, Log: slog.New(slog.DiscardHandler),
	}})
}

func (w *world) told(_ string, partition int32, gaps []evidence.Gap) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range gaps {
		w.lists[partition] = evidence.AppendGap(w.lists[partition], g)
	}
	return nil
}

var testMark = Mark(sha256.Sum256([]byte("plan")), "")

// undone are the partitions that are not at their end.
func (w *world) undone() (all []*partitionLog) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.logs {
		if l.note == "" || l.offset < w.plan.Topics[0].Partitions[i].End {
			all = append(all, l)
		}
	}
	return all
}

// session shares what is not done among some workers, and ends each of them in a
// way of its own after a while: in order, at once, by a crash, or when it is done.
func (w *world) session(calm bool) {
	workers := 1 + w.rand.IntN(3)
	shares := make([][]*partitionLog, workers)
	for _, l := range w.undone() {
		i := w.rand.IntN(workers)
		shares[i] = append(shares[i], l)
	}
	var all sync.WaitGroup
	for _, share := range shares {
		w.mu.Lock()
		after, how := time.Duration(w.rand.IntN(1500))*time.Millisecond, w.rand.IntN(3)
		w.mu.Unlock()
		all.Go(func() {
			var mu sync.Mutex
			crashed := false
			dead := func() bool { mu.Lock(); defer mu.Unlock(); return crashed }
			j := w.job(testMark)
			defer j.Close()
			ctx, cancel := context.WithCancel(w.t.Context())
			defer cancel()
			if !calm {
				defer time.AfterFunc(after, func() {
					switch how {
					case 0: // SIGTERM: a drain
						cancel()
					case 1: // SIGTERM twice
						cancel()
						j.Kill()
					default: // SIGKILL: what is on its way to the group is lost
						mu.Lock()
						crashed = true
						mu.Unlock()
						cancel()
						j.Kill()
					}
				}).Stop()
			}
			var lanes sync.WaitGroup
			for _, l := range share {
				lanes.Go(func() {
					err := j.Lane(ctx, l.origin, l.open(dead))
					if _, no := errors.AsType[*MismatchError](err); no {
						w.t.Error(err)
					}
				})
			}
			lanes.Wait()
		})
	}
	all.Wait()
	time.Sleep(commitLag) // the last commits arrive, virtually
}

// Workers die in the middle, in every way and all the time, and others go on: the
// roots at every commit are those of an undisturbed run, nothing that matched is
// nowhere, and the counts add up.
func TestAnyNumberOfDeathsLeavesTheSameEvidence(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, 1+int(seed%5), 400)
			deaths := 0
			for ; len(w.undone()) > 0; deaths++ {
				if deaths > 500 {
					t.Fatalf("seed %d: it never comes to its end", seed)
				}
				w.session(deaths > 20)
			}
			if t.Failed() {
				t.Fatalf("seed %d, %d sessions", seed, deaths)
			}
			w.wantAll()
		})
	}
}

// wantAll checks the destination at the end: what matched and nothing else.
func (w *world) wantAll() {
	w.t.Helper()
	want := map[string]bool{}
	for i, l := range w.logs {
		p := &w.plan.Topics[0].Partitions[i]
		for at := p.First; at < p.End; at++ {
			if r := l.slots[at].record; r != nil && inRange(r) && at >= l.start {
				want[address(r)] = true
			}
		}
	}
	for at := range want {
		if (w.stored[at] > 0) == w.dead[at] {
			w.t.Errorf("%s: stored %d times, dead-lettered %v", at, w.stored[at], w.dead[at])
		}
	}
	for i, l := range w.logs {
		end := w.plan.Topics[0].Partitions[i].End
		if head, err := evidence.GapTree(l.origin, w.lists[l.origin.Partition]); err != nil || head.Root.String() != l.truth[end].gaps {
			w.t.Errorf("partition %d: the list of gaps that was told is not that of an undisturbed run: %v", i, err)
		}
	}
	for at := range w.stored {
		if !want[at] {
			w.t.Errorf("%s is in the destination, and is not of the range", at)
		}
	}
}

// Retention that overtakes the replay is a gap of its own, and all offsets are
// accounted for.
func TestRetentionThatOvertakesIsRecorded(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, 2, 400)
			w.mu.Lock()
			for i, l := range w.logs {
				p := &w.plan.Topics[0].Partitions[i]
				l.start = p.First + w.rand.Int64N(int64(len(l.slots))-p.First+1)
			}
			w.mu.Unlock()
			for n := 0; len(w.undone()) > 0; n++ {
				if n > 500 {
					t.Fatalf("seed %d: it never comes to its end", seed)
				}
				w.session(n > 10)
			}
			for i, l := range w.logs {
				p := &w.plan.Topics[0].Partitions[i]
				e, err := DecodeNote("weir1 "+testTopic, l.note)
				must(t, err)
				gone := max(min(l.start, p.End)-p.First, 0)
				if p.Taken != nil {
					gone += p.Taken.To - p.Taken.From
				}
				if got := int64(e.Gaps().Offsets[evidence.Retention]); got != gone {
					t.Errorf("seed %d, partition %d: %d offsets taken by retention, want %d", seed, i, got, gone)
				}
			}
		})
	}
}

// What is not of the plan is refused before anything is read.
func TestWhatDoesNotFitThePlanIsRefused(t *testing.T) {
	for name, alter := range map[string]func(w *world, l *partitionLog) (mark string){
		"another topic of the name": func(_ *world, l *partitionLog) string {
			o := *l.origin
			o.TopicID = "another"
			l.origin = &o
			return testMark
		},
		"another cluster": func(_ *world, l *partitionLog) string {
			o := *l.origin
			o.Cluster = "another"
			l.origin = &o
			return testMark
		},
		"another plan or filter": func(*world, *partitionLog) string { return Mark(sha256.Sum256([]byte("plan")), "offset > 3") },
		"an offset that somebody set": func(_ *world, l *partitionLog) string {
			l.offset++
			return testMark
		},
		"evidence that somebody altered": func(_ *world, l *partitionLog) string {
			b := []byte(l.note)
			b[len(b)/2] ^= 1
			l.note = string(b)
			return testMark
		},
		"an offset without evidence": func(_ *world, l *partitionLog) string {
			l.note = ""
			l.offset++
			return testMark
		},
		"a partition that was added": func(_ *world, l *partitionLog) string {
			o := *l.origin
			o.Partition = 17
			l.origin = &o
			return testMark
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3, 1, 400)
				l := w.logs[0]
				w.session(true)
				w.mu.Lock()
				sent := w.sent
				mark := alter(w, l)
				w.mu.Unlock()
				j := w.job(mark)
				defer j.Close()
				err := j.Lane(t.Context(), l.origin, l.open(func() bool { return false }))
				if _, no := errors.AsType[*MismatchError](err); !no {
					t.Errorf("error %v", err)
				}
				if w.sent != sent {
					t.Errorf("%d records were sent all the same", w.sent-sent)
				}
			})
		})
	}
}

// A sink that takes nothing must not make a source remember more and more.
func TestEvidenceThatWaitsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1, 100)
		l := w.logs[0]
		l.slots = nil
		for at := range int64(200_000) {
			r := &buffer.Record{Origin: l.origin, Offset: at, Time: testFrom.Add(-time.Hour), Value: []byte("x")}
			if at == 10 {
				r.Time = testFrom
			}
			l.slots = append(l.slots, slot{record: r})
		}
		w.plan.Topics[0].Partitions[0] = Partition{End: int64(len(l.slots)), Found: FoundStart}
		l.offset = 0
		held := 0
		j := New(Config{Plan: w.plan, Mark: testMark, Deliver: connector.Options{
			Name: "n", BatchRecords: 10, BatchBytes: 1 << 20, InFlightMin: 1, InFlightMax: 1, RetryInitial: time.Second, RetryMax: time.Second,
			Drain: time.Second, Sink: nobody{}, Budget: buffer.NewBudget(1 << 20), Log: slog.New(slog.DiscardHandler),
		}})
		defer j.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		up := &upstream{l: l, dead: func() bool { return true }, rand: rand.New(rand.NewPCG(1, 1))}
		done := make(chan error, 1)
		go func() { done <- j.Lane(ctx, l.origin, quiet{up}) }()
		time.Sleep(time.Hour)
		j.mu.Lock()
		for _, s := range j.sources {
			s.mu.Lock()
			held = len(s.pending)
			s.mu.Unlock()
		}
		j.mu.Unlock()
		if held == 0 || held > maxPending {
			t.Errorf("%d runs wait, want 1 to %d", held, maxPending)
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("a lane that was stopped in the middle says that all is done")
		}
	})
}

// quiet is an upstream whose commits nobody judges.
type quiet struct{ *upstream }

func (quiet) CommitNote(int64, string) {}

// nobody takes nothing.
type nobody struct{}

func (nobody) Deliver(context.Context, *buffer.Batch, func(sinks.Note)) ([]sinks.Outcome, error) {
	return nil, &sinks.RequestError{Status: 503}
}
