package redrive

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
	"weir/connector"
	"weir/sinks"
)

// letterOf is the record of a dead-letter log that weir writes for r.
func letterOf(connector string, r buffer.Record, status int, reason string) buffer.Record {
	h := func(key, value string) buffer.Header { return buffer.Header{Key: key, Value: []byte(value)} }
	at := ""
	if !r.Time.IsZero() {
		at = r.Time.UTC().Format(timeLayout)
	}
	return buffer.Record{Key: r.Key, Value: r.Value, Headers: append(r.Headers[:len(r.Headers):len(r.Headers)],
		h("weir.connector", connector), h("weir.topic", r.Topic), h("weir.topic_id", r.TopicID),
		h("weir.partition", fmt.Sprint(r.Partition)), h("weir.offset", fmt.Sprint(r.Offset)), h("weir.timestamp", at),
		h("weir.status", fmt.Sprint(status)), h("weir.reason", reason), h("weir.failed_at", "2026-02-03T04:05:06.789Z"))}
}

const (
	ours    = "edr-to-elastic"
	topicID = "Jb3KpkzXQ7qFbOQ1Cq9wMA"
)

// refused is the n-th record that our sink refused.
func refused(n int) buffer.Record {
	return buffer.Record{
		Origin: &buffer.Origin{Cluster: "c", Topic: "edr", TopicID: topicID, Partition: int32(n % 3)},
		Offset: int64(n), Value: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

// world is a dead-letter log of one partition and a sink, in virtual time, which
// outlive the jobs that run between them.
type world struct {
	t       *testing.T
	log     []buffer.Record // by offset; without headers: no record there
	origin  buffer.Origin
	verdict func(n int64) sinks.Outcome // on the record at an offset of its own log
	latency func() time.Duration

	mu       sync.Mutex
	sent     map[string]int // by address of the original record
	stored   map[string]bool
	position int64
	note     string
	commits  int
}

func newWorld(t *testing.T, letters ...buffer.Record) *world {
	w := &world{t: t, origin: buffer.Origin{Cluster: "c", Topic: "weir.dlq", Partition: 1}, sent: map[string]int{}, stored: map[string]bool{}}
	w.verdict = func(int64) sinks.Outcome { return sinks.Outcome{Verdict: sinks.Ack} }
	w.latency = func() time.Duration { return 5 * time.Millisecond }
	for i, r := range letters {
		r.Origin, r.Offset = &w.origin, int64(i)
		w.log = append(w.log, r)
	}
	return w
}

// letters are n of ours.
func letters(n int) (all []buffer.Record) {
	for i := range n {
		all = append(all, letterOf(ours, refused(i), 400, "mapper_parsing_exception: some text"))
	}
	return all
}

// source is the log as one lane reads it.
type source struct {
	w         *world
	start, at int64
}

func (s *source) Start() int64                         { return s.start }
func (s *source) End() int64                           { return int64(len(s.w.log)) }
func (s *source) Note(context.Context) (string, error) { return s.w.note, nil }
func (s *source) Commit(p connector.Progress)          { s.CommitNote(p.Next, "") }

func (s *source) Next(ctx context.Context) (connector.Run, error) {
	end := min(s.at+17, s.End())
	if s.at == end { // a live log: nothing comes any more
		<-ctx.Done()
		return connector.Run{}, ctx.Err()
	}
	var run connector.Run
	for _, r := range s.w.log[s.at:end] {
		if r.Headers != nil || r.Value != nil {
			run.Records = append(run.Records, r)
		}
	}
	s.at, run.Next = end, end
	return run, nil
}

// CommitNote is where it is judged: whatever the position and its note pass over
// is stored, or was no letter of ours.
func (s *source) CommitNote(next int64, note string) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits++
	if next < w.position {
		w.t.Errorf("the position went back from %d to %d", w.position, next)
	}
	if len(note) > maxNote {
		w.t.Errorf("a note of %d bytes", len(note))
	}
	spans := ParseNote(next, note)
	if note != "" && len(spans) == 0 {
		w.t.Errorf("note %q cannot be read", note)
	}
	for i := range w.log {
		if at := int64(i); (at < next || In(spans, at)) && !w.settled(at) {
			w.t.Errorf("letter %d is passed over at %d with %q, and its record is not stored", at, next, note)
		}
	}
	w.position, w.note = next, note
}

func (w *world) settled(at int64) bool {
	l, err := Parse(&w.log[at])
	return err != nil || l.Connector != ours || w.stored[Address(&l.Record)]
}

// remaining counts our letters that are not stored.
func (w *world) remaining() (n int) {
	for i := range w.log {
		if !w.settled(int64(i)) {
			n++
		}
	}
	return n
}

// Deliver implements sinks.Sink.
func (w *world) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	w.mu.Lock()
	wait := w.latency()
	w.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]sinks.Outcome, len(b.Records))
	for i, r := range b.Records {
		out[i] = w.verdict(r.Offset)
		w.sent[Address(r)]++
		if out[i].Verdict == sinks.Ack {
			if w.stored[Address(r)] {
				out[i].Note = sinks.Duplicate
			}
			w.stored[Address(r)] = true
		}
	}
	return out, nil
}

func (w *world) job(f Filter) *Job {
	return New(Config{Connector: ours, Filter: f, Deliver: connector.Options{
		Name: ours, BatchRecords: 10, BatchBytes: 1 << 20, Linger: 10 * time.Millisecond, InFlightMin: 1, InFlightMax: 4,
		RetryInitial: 10 * time.Millisecond, RetryMax: time.Second, Drain: 5 * time.Second,
		Sink: w, Budget: buffer.NewBudget(1 << 20), Log: slog.New(slog.DiscardHandler),
	}})
}

// redrive runs a job over the whole log, until ctx is done or it is through.
func (w *world) redrive(ctx context.Context, f Filter) (Report, error) {
	j := w.job(f)
	defer j.Close()
	err := j.Lane(ctx, &w.origin, &source{w: w, start: w.position, at: w.position}, int64(len(w.log)))
	return j.Report(), err
}

func (w *world) mustRedrive(f Filter) Report {
	w.t.Helper()
	r, err := w.redrive(context.Background(), f)
	if err != nil {
		w.t.Error(err)
	}
	return r
}

func reject(n int64) sinks.Outcome {
	return sinks.Outcome{Verdict: sinks.Reject, Status: 400, Reason: fmt.Sprintf("parsing: record %d", n)}
}

func TestEverythingIsSentOnceAndThenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, letters(100)...)
		if r := w.mustRedrive(Filter{}); r.Delivered != 100 || r.Duplicates != 0 || r.Ahead != 0 {
			t.Errorf("report %+v", r)
		}
		if w.position != 100 || w.note != "" || w.remaining() != 0 {
			t.Errorf("position %d %q, %d remain", w.position, w.note, w.remaining())
		}
		if r := w.mustRedrive(Filter{}); r.Selected != 0 {
			t.Errorf("sent again: %+v", r)
		}
	})
}

// The letters that are refused again stay, the others are not sent a second time,
// though the position cannot pass the first that stays.
func TestHalfRefusedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 400
		w := newWorld(t, letters(n)...)
		odd := func(at int64) bool { return at%20 >= 10 }
		w.verdict = func(at int64) sinks.Outcome {
			if odd(at) {
				return reject(at)
			}
			return sinks.Outcome{Verdict: sinks.Ack}
		}
		r := w.mustRedrive(Filter{})
		if r.Delivered != n/2 || r.Refused != n/2 {
			t.Errorf("report %+v", r)
		}
		if all, rest := r.Reasons.All(); len(all) != 1 || rest != 0 || all[0].Count != n/2 || all[0].String() != "status 400, parsing" {
			t.Errorf("reasons %v and %d", all, rest)
		}
		if w.position != 10 || w.remaining() != n/2 {
			t.Errorf("position %d, %d remain", w.position, w.remaining())
		}
		if r := w.mustRedrive(Filter{}); r.Refused != n/2 || r.Before != n/2-10 || r.Delivered != 0 {
			t.Errorf("the second time: %+v", r)
		}
		w.verdict = func(int64) sinks.Outcome { return sinks.Outcome{Verdict: sinks.Ack} }
		if r := w.mustRedrive(Filter{}); r.Delivered != n/2 || r.Refused != 0 || w.position != n {
			t.Errorf("once the sink takes them: %+v, position %d", r, w.position)
		}
		for address, times := range w.sent {
			var p, at int64
			if _, err := fmt.Sscanf(address, "edr/%d/%d", &p, &at); err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{false: 1, true: 3}[odd(at)]; times != want {
				t.Errorf("%s was sent %d times, want %d", address, times, want)
			}
		}
	})
}

// So many ranges that no note holds them: what is forgotten is sent again, and
// nothing that was refused is forgotten.
func TestMoreRangesThanANoteHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5000
		w := newWorld(t, letters(n)...)
		w.verdict = func(at int64) sinks.Outcome {
			if at%2 == 0 {
				return reject(at)
			}
			return sinks.Outcome{Verdict: sinks.Ack}
		}
		w.mustRedrive(Filter{})
		w.verdict = func(int64) sinks.Outcome { return sinks.Outcome{Verdict: sinks.Ack} }
		r := w.mustRedrive(Filter{})
		if w.remaining() != 0 || w.position != n || r.Before == 0 || r.Duplicates == 0 {
			t.Errorf("%d remain, position %d, report %+v", w.remaining(), w.position, r)
		}
	})
}

// What came after the start is the next redrive's: a bridge that goes on refusing
// must not keep one busy for ever.
func TestWhatCameSinceIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, letters(100)...)
		j := w.job(Filter{})
		defer j.Close()
		if err := j.Lane(t.Context(), &w.origin, &source{w: w}, 40); err != nil {
			t.Error(err)
		}
		if len(w.stored) != 40 || w.position != 40 {
			t.Errorf("%d stored, position %d", len(w.stored), w.position)
		}
	})
}

func TestFilterLeavesTheRestWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, letters(90)...)
		one := int32(1)
		r := w.mustRedrive(Filter{Partition: &one, Offsets: &Span{30, 60}})
		if r.Delivered != 10 || r.Filtered != 80 || w.position != 0 || w.remaining() != 80 {
			t.Errorf("report %+v, position %d, %d remain", r, w.position, w.remaining())
		}
		if r := w.mustRedrive(Filter{}); r.Delivered != 80 || r.Before != 10 || r.Duplicates != 0 || w.position != 90 {
			t.Errorf("then the rest: %+v, position %d", r, w.position)
		}
	})
}

// Whoever may write to the topic must not be able to hold up the position, and
// the letters of others are theirs.
func TestForeignAndOthersAreNeitherSentNorWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forged := letterOf(ours, refused(1), 400, "")
		forged.Headers[4].Value = []byte("-1")
		w := newWorld(t,
			buffer.Record{Value: []byte("not ours")},
			letterOf("another", refused(7), 400, ""),
			letterOf(ours, refused(8), 400, ""),
			forged,
			buffer.Record{}, // a gap
			letterOf("another", refused(9), 400, ""),
		)
		r := w.mustRedrive(Filter{})
		if r.Delivered != 1 || r.Others != 2 || r.Foreign != 2 || w.position != 6 || len(w.sent) != 1 || !w.stored["edr/2/8"] {
			t.Errorf("report %+v, position %d, sent %v", r, w.position, w.sent)
		}
	})
}

// A letter whose record is sent is the record: coordinates, time, key and headers.
func TestSinkGetsTheRecordAndNotTheLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refused(5)
		r.Time, r.Key = time.UnixMilli(1715937693518).UTC(), []byte("k")
		r.Headers = []buffer.Header{{Key: "weir.offset", Value: []byte("99")}, {Key: "a"}}
		w := newWorld(t, letterOf(ours, r, 400, ""))
		j := w.job(Filter{})
		var got *buffer.Record
		j.cfg.Deliver.Sink = sinkFunc(func(b *buffer.Batch) []sinks.Outcome {
			c := buffer.NewChunk([]buffer.Record{*b.Records[0]}, 0).Records[0]
			got = &c
			w.stored[Address(got)] = true
			return []sinks.Outcome{{Verdict: sinks.Ack}}
		})
		j = New(j.cfg)
		defer j.Close()
		if err := j.Lane(t.Context(), &w.origin, &source{w: w}, 1); err != nil {
			t.Fatal(err)
		}
		if got == nil || *got.Origin != *r.Origin || got.Offset != r.Offset || !got.Time.Equal(r.Time) || string(got.Key) != "k" ||
			string(got.Value) != string(r.Value) || len(got.Headers) != 2 || string(got.Headers[0].Value) != "99" {
			t.Errorf("the sink got %+v", got)
		}
	})
}

type sinkFunc func(*buffer.Batch) []sinks.Outcome

func (f sinkFunc) Deliver(_ context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	return f(b), nil
}

// Interrupted: what was taken is settled and noted, the rest is for the next.
func TestInterruptedGoesOnLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, letters(1000)...)
		w.latency = func() time.Duration { return time.Second }
		ctx, stop := context.WithTimeout(t.Context(), 5500*time.Millisecond)
		defer stop()
		r, err := w.redrive(ctx, Filter{})
		if err == nil || r.Delivered == 0 || r.Delivered == 1000 || r.Ahead == 0 {
			t.Fatalf("the test hit nothing: %+v, %v", r, err)
		}
		if int64(len(w.stored)) != w.position {
			t.Errorf("%d stored, position %d", len(w.stored), w.position)
		}
		if r := w.mustRedrive(Filter{}); r.Duplicates != 0 || w.remaining() != 0 || w.position != 1000 {
			t.Errorf("then: %+v, position %d", r, w.position)
		}
	})
}

// Random worlds: refusals, failures, filters, and jobs that are killed at any
// moment. CommitNote judges each position; in the end all is stored.
func TestRandomWorldsLoseNothing(t *testing.T) {
	worlds := 60
	if testing.Short() {
		worlds = 20
	}
	for seed := range worlds {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 7))
			moods := rand.New(rand.NewPCG(uint64(seed), 8)) // used while jobs run
			var log []buffer.Record
			for i := range 50 + rng.IntN(400) {
				switch rng.IntN(10) {
				case 0:
					log = append(log, buffer.Record{Value: []byte("x")})
				case 1:
					log = append(log, buffer.Record{})
				case 2:
					log = append(log, letterOf("another", refused(i), 400, ""))
				default:
					log = append(log, letterOf(ours, refused(i), 400+rng.IntN(2), "why"))
				}
			}
			w := newWorld(t, log...)
			bad := rng.IntN(100)
			w.latency = func() time.Duration { return time.Duration(moods.IntN(300)) * time.Millisecond }
			w.verdict = func(at int64) sinks.Outcome {
				switch n := moods.IntN(100); {
				case n < bad:
					return reject(at)
				case n < bad+10:
					return sinks.Outcome{}
				}
				return sinks.Outcome{Verdict: sinks.Ack}
			}
			for range 6 {
				var f Filter
				if status := 400 + rng.IntN(4); status < 402 {
					f.Status = &status
				}
				j := w.job(f)
				ctx, stop := context.WithCancel(context.Background())
				end := make(chan struct{})
				go func() {
					defer close(end)
					_ = j.Lane(ctx, &w.origin, &source{w: w, start: w.position, at: w.position}, int64(len(w.log))) // killed
				}()
				time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
				if rng.IntN(2) == 0 {
					stop()
				} else {
					j.Kill()
				}
				<-end
				stop()
				j.Close()
			}
			bad = -10
			w.mustRedrive(Filter{})
			if w.remaining() != 0 || w.position != int64(len(w.log)) {
				t.Errorf("world %d: %d remain, position %d of %d with %q", seed, w.remaining(), w.position, len(w.log), w.note)
			}
		})
	}
}

// The engine may hand a late refusal to the lane that has the partition now.
func TestLateRefusalDoesNotMoveThePositionBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, letters(20)...)
		for i := range 20 {
			r := refused(i)
			w.stored[Address(&r)] = true
		}
		l := &lane{job: w.job(Filter{}), src: &source{w: w}, end: 20, hold: -1}
		l.Commit(connector.Progress{Next: 15})
		l.keep(3)
		l.Commit(connector.Progress{Next: 20})
		if w.position != 20 {
			t.Errorf("position %d", w.position)
		}
	})
}
