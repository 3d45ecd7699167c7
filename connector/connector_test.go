package connector

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// live starts the bridge on unbounded lanes and returns a func that ends it and
// waits for it.
func (w *world) live(c *Connector) (stop func() map[int32]error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan map[int32]error)
	go func() { done <- w.run(ctx, c, false) }()
	return func() map[int32]error {
		cancel()
		errs := <-done
		c.Close()
		return errs
	}
}

// pass lets d of virtual time go by and everything settle that is due by then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (c *Connector) laneStats(partition int32) LaneStats {
	for _, l := range c.Stats().Lanes {
		if l.Partition == partition {
			return l
		}
	}
	return LaneStats{}
}

func TestOutageHoldsWithinBudgetAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(4) {
			w.write(p, 20000, 0)
		}
		down, attempts := true, 0
		began := time.Now()
		w.request = func(*buffer.Batch) error {
			if down {
				attempts++
				if w.inFlight > 1 && time.Since(began) > time.Minute {
					t.Errorf("%d requests at a time to a sink that is down", w.inFlight)
				}
				return &sinks.RequestError{Endpoint: "http://siem", Err: errReset}
			}
			return nil
		}
		opt := w.options()
		opt.InFlightMin = 3
		c := New(opt)
		stop := w.live(c)
		pass(10 * time.Minute)
		s := c.Stats()
		if s.Down == nil || !strings.Contains(s.Down.Error(), "http://siem") {
			t.Errorf("down for ten minutes, and the status says %v", s.Down)
		}
		if s.BytesHeld > s.BytesMax {
			t.Errorf("%d bytes held of %d", s.BytesHeld, s.BytesMax)
		}
		if n := len(w.commits); n != 0 {
			t.Errorf("%d partitions committed while nothing was delivered", n)
		}
		w.mu.Lock()
		if attempts > 2000 || attempts < 300 {
			t.Errorf("%d attempts in ten minutes with a pause of at most 1 s", attempts)
		}
		down = false
		w.mu.Unlock()
		pass(2 * time.Minute)
		if s := c.Stats(); s.Down != nil {
			t.Errorf("the sink is back and the status says %v", s.Down)
		}
		w.complete()
		for p, err := range stop() {
			if err != nil {
				t.Errorf("partition %d: %v", p, err)
			}
		}
	})
}

func TestRejectWithoutDeadLetterStopsItsLaneOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(3) {
			w.write(p, 5000, 0)
		}
		mended := false
		w.verdict = func(r *buffer.Record) sinks.Outcome {
			if r.Partition == 1 && r.Offset == 700 && !mended {
				return sinks.Outcome{Verdict: sinks.Reject, Status: 400, Reason: "mapper_parsing_exception"}
			}
			return sinks.Outcome{Verdict: sinks.Ack}
		}
		opt := w.options()
		opt.DeadLetter = nil
		c := New(opt)
		stop := w.live(c)
		pass(5 * time.Minute)
		for _, p := range []int32{0, 2} {
			if w.commits[p] != w.ends[p] {
				t.Errorf("partition %d stands at %d of %d because of another one", p, w.commits[p], w.ends[p])
			}
		}
		if w.commits[1] != 700 {
			t.Errorf("the poisoned partition committed to %d, want 700", w.commits[1])
		}
		l := c.laneStats(1)
		if l.Position > 3000 {
			t.Errorf("a lane that stands still at 700 took records up to %d", l.Position)
		}
		if l.Blocked == nil || !strings.Contains(l.Blocked.Error(), "mapper_parsing_exception") || !strings.Contains(l.Blocked.Error(), "dead_letter") {
			t.Errorf("blocked for %v", l.Blocked)
		}
		w.mu.Lock()
		mended = true
		w.mu.Unlock()
		pass(time.Minute)
		w.complete()
		if l := c.laneStats(1); l.Blocked != nil {
			t.Errorf("mended, and still blocked: %v", l.Blocked)
		}
		stop()
	})
}

func TestForbiddenIndexStopsItsLaneOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(3) {
			w.write(p, 20000, 0)
		}
		forbidden := true
		w.verdict = func(r *buffer.Record) sinks.Outcome {
			if r.Partition == 1 && forbidden {
				return sinks.Outcome{Status: 403, Note: sinks.Misconfigured, Reason: "security_exception"}
			}
			return sinks.Outcome{Verdict: sinks.Ack}
		}
		c := New(w.options())
		stop := w.live(c)
		pass(10 * time.Minute)
		for _, p := range []int32{0, 2} {
			if w.commits[p] != w.ends[p] {
				t.Errorf("partition %d stands at %d of %d because of another one", p, w.commits[p], w.ends[p])
			}
		}
		if l := c.laneStats(1); l.Blocked == nil || !strings.Contains(l.Blocked.Error(), "403") {
			t.Errorf("blocked for %v", l.Blocked)
		}
		w.mu.Lock()
		forbidden = false
		w.mu.Unlock()
		pass(time.Minute)
		w.complete()
		stop()
	})
}

func TestDeadLetterThatRefusesBlocksItsLaneAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(3) {
			w.write(p, 3000, 0)
		}
		refuses := true
		w.deadFail = func() error {
			if refuses {
				return errors.New("topic authorization failed")
			}
			return nil
		}
		w.verdict = func(r *buffer.Record) sinks.Outcome {
			if r.Partition == 2 && r.Offset%1000 == 999 {
				return sinks.Outcome{Verdict: sinks.Reject, Status: 400}
			}
			return sinks.Outcome{Verdict: sinks.Ack}
		}
		c := New(w.options())
		stop := w.live(c)
		pass(5 * time.Minute)
		if w.commits[0] != w.ends[0] || w.commits[1] != w.ends[1] {
			t.Errorf("partitions 0 and 1 stand at %d and %d because of another one", w.commits[0], w.commits[1])
		}
		if w.commits[2] != 999 {
			t.Errorf("committed to %d, the record at 999 is nowhere", w.commits[2])
		}
		if l := c.laneStats(2); l.Blocked == nil || !strings.Contains(l.Blocked.Error(), "topic authorization failed") {
			t.Errorf("blocked for %v", l.Blocked)
		}
		w.mu.Lock()
		refuses = false
		w.mu.Unlock()
		pass(2 * time.Minute)
		w.complete()
		if n := c.laneStats(2).Counts.DeadLettered; n != 3 {
			t.Errorf("%d dead letters counted, want 3", n)
		}
		stop()
	})
}

func TestWrongNumberOfOutcomesSettlesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.write(0, 300, 0)
		opt := w.options()
		short := &shortSink{w: w}
		short.on.Store(true)
		opt.Sink = short
		c := New(opt)
		stop := w.live(c)
		pass(time.Minute)
		if n, ok := w.commits[0]; ok {
			t.Errorf("committed to %d on answers that lack a record", n)
		}
		short.on.Store(false)
		pass(time.Minute)
		w.complete()
		stop()
	})
}

// shortSink answers with one outcome too few.
type shortSink struct {
	w  *world
	on atomic.Bool
}

func (s *shortSink) Deliver(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	out, err := s.w.Deliver(ctx, b, answered)
	if err == nil && s.on.Load() {
		out = out[1:]
	}
	return out, err
}

func TestTooLargeIsSplitDownToTheOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.write(0, 1000, 0)
		w.request = func(b *buffer.Batch) error {
			for _, r := range b.Records {
				if r.Offset == 555 {
					return &sinks.RequestError{Status: 413, Split: true}
				}
			}
			return nil
		}
		c := New(w.options())
		stop := w.live(c)
		pass(time.Minute)
		w.complete()
		if len(w.dead) != 1 || w.dead[key{0, 555}] != 1 {
			t.Errorf("dead letters %v, want the one record that is too large, once", w.dead)
		}
		if n := w.stored[key{0, 556}]; n != 1 {
			t.Errorf("its neighbour was stored %d times", n)
		}
		stop()
	})
}

func TestRetryAfterIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.write(0, 5000, 0)
		var refused time.Time
		w.latency = func() time.Duration { return time.Millisecond }
		w.request = func(*buffer.Batch) error {
			if refused.IsZero() {
				refused = time.Now()
				return &sinks.RequestError{Status: 429, RetryAfter: 30 * time.Second}
			}
			if d := time.Since(refused); d < 30*time.Second {
				t.Errorf("asked again after %v, the sink wanted 30 s", d)
			}
			return nil
		}
		opt := w.options()
		opt.InFlightMax = 1
		c := New(opt)
		stop := w.live(c)
		pass(5 * time.Minute)
		w.complete()
		stop()
	})
}

func TestDrainEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.write(0, 5000, 0)
		w.latency = func() time.Duration { return time.Hour }
		c := New(w.options())
		stop := w.live(c)
		pass(time.Second)
		began := time.Now()
		errs := stop()
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("drained for %v, the limit is 5 s", d)
		}
		if errs[0] == nil || !strings.Contains(errs[0].Error(), "not settled") {
			t.Errorf("ended with %v while records were in flight", errs[0])
		}
	})
}

// A lane that waits for a place in a batch when it is told to end has tracked more
// records than it handed over: nobody will settle those.
func TestDrainDoesNotWaitForRecordsThatWereNotHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(3) {
			w.write(p, 5000, 0)
		}
		w.latency = func() time.Duration { return time.Second }
		opt := w.options()
		opt.InFlightMax = 1
		opt.Transforms = []Transform{func(r *buffer.Record) (bool, error) {
			if r.Offset%3 == 0 {
				w.mu.Lock()
				w.filtered[key{r.Partition, r.Offset}] = true
				w.mu.Unlock()
				return false, nil
			}
			return true, nil
		}}
		c := New(opt)
		stop := w.live(c)
		pass(10500 * time.Millisecond) // one request in flight, a full batch and an open one wait
		began := time.Now()
		errs := stop()
		if d := time.Since(began); d >= opt.Drain {
			t.Errorf("drained for %v though the window is free every second", d)
		}
		for p, err := range errs {
			if err != nil {
				t.Errorf("partition %d: %v", p, err)
			}
		}
		if held, _ := opt.Budget.Held(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
		w.run(t.Context(), New(w.options()), true)
		w.complete()
	})
}

func TestDrainDeliversWhatWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.write(0, 30, 0)
		opt := w.options()
		opt.Linger = time.Minute // a lane that ends does not wait for it
		c := New(opt)
		stop := w.live(c)
		pass(time.Second)
		began := time.Now()
		if errs := stop(); errs[0] != nil {
			t.Error(errs[0])
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("took %v to deliver 30 records", d)
		}
		w.complete()
	})
}

func TestKillReturnsAtOnceAndCommitsNothingUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.write(0, 5000, 0)
		w.latency = func() time.Duration { return time.Hour }
		opt := w.options()
		c := New(opt)
		stop := w.live(c)
		pass(time.Second)
		began := time.Now()
		c.Kill()
		stop()
		if d := time.Since(began); d > time.Millisecond {
			t.Errorf("took %v", d)
		}
		if held, _ := opt.Budget.Held(); held != 0 {
			t.Errorf("%d bytes never given back", held)
		}
	})
}

func TestQuietPartitionsShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		requests := 0
		w.request = func(*buffer.Batch) error { requests++; return nil }
		for p := range int32(48) {
			w.write(p, 2, 0)
		}
		c := New(w.options())
		stop := w.live(c)
		pass(time.Minute)
		w.complete()
		if requests > 2 {
			t.Errorf("%d requests for 96 records of 48 partitions that came at once", requests)
		}
		stop()
	})
}

func TestOrderedSendsNothingWhileAnEarlierRecordIsUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for p := range int32(4) {
			w.write(p, 2000, 0)
		}
		settledTo := map[int32]int64{}
		w.latency = func() time.Duration { return time.Duration(w.rng.IntN(40)) * time.Millisecond }
		w.request = func(b *buffer.Batch) error {
			for _, r := range b.Records {
				if w.busy[r.Partition] > 1 {
					t.Errorf("two requests at a time hold records of partition %d", r.Partition)
				}
				if r.Offset < settledTo[r.Partition] {
					t.Errorf("record %d/%d sent after a later one was settled", r.Partition, r.Offset)
				}
			}
			if w.rng.IntN(5) == 0 {
				return errReset
			}
			return nil
		}
		w.verdict = func(r *buffer.Record) sinks.Outcome {
			settledTo[r.Partition] = r.Offset + 1
			return sinks.Outcome{Verdict: sinks.Ack}
		}
		opt := w.options()
		opt.Ordered = true
		c := New(opt)
		stop := w.live(c)
		pass(30 * time.Minute)
		w.complete()
		stop()
	})
}

func TestRecordLargerThanTheBudgetPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(6) {
			w.write(p, 500, 0)
		}
		opt := w.options()
		opt.Budget = buffer.NewBudget(32 << 10)
		opt.Transforms = []Transform{func(r *buffer.Record) (bool, error) {
			if r.Partition == 3 && r.Offset == 250 {
				r.Value = make([]byte, 1<<20)
			}
			return true, nil
		}}
		c := New(opt)
		stop := w.live(c)
		pass(time.Minute)
		w.complete()
		stop()
	})
}

// A backend that serves four requests at a time and refuses the rest: the window
// has to find that out and to use it, without running into refusals all the time.
func TestWindowFindsTheCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(6) {
			w.write(p, 20000, 0)
		}
		capacity, serving := 4, 0
		var requests, refused int
		var busy time.Duration
		sink := sinkFunc(func(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
			w.mu.Lock()
			requests++
			if serving == capacity {
				refused++
				w.mu.Unlock()
				return nil, &sinks.RequestError{Status: 429}
			}
			serving++
			w.mu.Unlock()
			cost := time.Duration(len(b.Records)) * 100 * time.Microsecond
			if err := sleep(ctx, cost); err != nil {
				return nil, err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			serving--
			busy += cost
			out := make([]sinks.Outcome, len(b.Records))
			for i, r := range b.Records {
				w.stored[key{r.Partition, r.Offset}]++
				out[i].Verdict = sinks.Ack
			}
			return out, nil
		})
		opt := w.options()
		opt.Sink = sink
		opt.InFlightMax = 8
		opt.Budget = buffer.NewBudget(64 << 20)
		began := time.Now()
		c := New(opt)
		w.run(t.Context(), c, true)
		took := time.Since(began)
		c.Close()
		w.complete()
		used := float64(busy) / float64(took) / float64(capacity)
		share := float64(refused) / float64(requests)
		t.Logf("%.1f %% of the capacity used, %d of %d requests (%.1f %%) refused", 100*used, refused, requests, 100*share)
		if used < 0.95 {
			t.Errorf("%.1f %% of the capacity used, want 95", 100*used)
		}
		if share > 0.05 {
			t.Errorf("%.1f %% of requests refused, want at most 5", 100*share)
		}
	})
}

type sinkFunc func(context.Context, *buffer.Batch, func(sinks.Note)) ([]sinks.Outcome, error)

func (f sinkFunc) Deliver(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	return f(ctx, b, answered)
}

// Acknowledgements that come a minute after the answer hold memory, but no place
// in the window: with four places and a minute's wait the stream must not stop.
func TestLateAcknowledgementHoldsNoPlaceInTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.write(0, 10000, 0)
		w.late = func() time.Duration { return time.Minute }
		opt := w.options()
		opt.Budget = buffer.NewBudget(64 << 20)
		c := New(opt)
		stop := w.live(c)
		pass(70 * time.Second)
		w.complete()
		stop()
	})
}

// What waits for the window is Kafka's to keep: a large budget is no reason to
// fill it behind a sink that is slow.
func TestBacklogIsNotHoardedBehindAFullWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(4) {
			w.write(p, 20000, 0)
		}
		w.latency = func() time.Duration { return time.Hour }
		opt := w.options()
		opt.Budget = buffer.NewBudget(64 << 20)
		c := New(opt)
		stop := w.live(c)
		pass(time.Minute)
		taken := int64(0)
		for p := range int32(4) {
			taken += c.laneStats(p).Counts.Read
		}
		// One in flight, one that waits, one that is open, and a chunk a lane.
		if most := int64(3*opt.BatchRecords + 4*chunkRecords); taken > most {
			t.Errorf("%d records taken while one request is answered, want at most %d", taken, most)
		}
		stop()
	})
}

// With a budget that is smaller than a batch, a lane that waits for room has to
// send off what there is: no more will come, and the linger may be long.
func TestWaitingForRoomDoesNotWaitForTheLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(3) {
			w.write(p, 2000, 0)
		}
		opt := w.options()
		opt.BatchRecords, opt.Linger = 5000, time.Hour
		opt.Budget = buffer.NewBudget(64 << 10)
		c := New(opt)
		began := time.Now()
		w.run(t.Context(), c, true)
		if d := time.Since(began); d > time.Minute {
			t.Errorf("took %v", d)
		}
		c.Close()
		w.complete()
	})
}

// A commit that is slow must not swallow the last one.
func TestLastCommitIsMadeThoughTheOneBeforeIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(20) {
			w.write(p, 500, 0)
		}
		w.commit = func() { time.Sleep(time.Second) }
		c := New(w.options())
		w.run(t.Context(), c, true)
		c.Close()
		w.complete()
	})
}

// A sink that serves four requests and refuses the others at once is not down,
// however many it refuses in a row while it is busy.
func TestRefusalsOfABusySinkAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(4) {
			w.write(p, 5000, 0)
		}
		serving := 0
		opt := w.options()
		opt.InFlightMin, opt.InFlightMax = 8, 8
		opt.Sink = sinkFunc(func(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
			w.mu.Lock()
			if serving == 4 {
				w.mu.Unlock()
				return nil, &sinks.RequestError{Status: 429}
			}
			serving++
			w.mu.Unlock()
			err := sleep(ctx, 10*time.Second)
			w.mu.Lock()
			defer w.mu.Unlock()
			serving--
			out := make([]sinks.Outcome, len(b.Records))
			for i, r := range b.Records {
				w.stored[key{r.Partition, r.Offset}]++
				out[i].Verdict = sinks.Ack
			}
			return out, err
		})
		c := New(opt)
		stop := w.live(c)
		for range 60 {
			pass(time.Second)
			if s := c.Stats(); s.Down != nil {
				t.Fatalf("down: %v", s.Down)
			}
		}
		c.Kill()
		stop()
	})
}

// One busy shard of several refuses a few records of each request: they are sent
// again, and the others' requests go on as many at a time as before.
// A sink that refuses requests at random, however few are in flight: what is lost
// by that is little more than the work that was refused.
func TestRandomRefusalsCostLittleMoreThanTheRefusedWork(t *testing.T) {
	took := func(percent int) (mean time.Duration) {
		const seeds = 60
		for seed := range uint64(seeds) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed)
				for p := range int32(6) {
					w.write(p, 5000, 0)
				}
				w.latency = func() time.Duration { return 500 * time.Millisecond }
				w.request = func(*buffer.Batch) error {
					if w.rng.IntN(100) < percent {
						return &sinks.RequestError{Status: 429}
					}
					return nil
				}
				opt := w.options()
				opt.InFlightMax, opt.Budget = 8, buffer.NewBudget(16<<20)
				began := time.Now()
				w.run(t.Context(), New(opt), true)
				mean += time.Since(began) / seeds
				w.complete()
			})
		}
		return mean
	}
	all := took(0)
	for percent, most := range map[int]float64{5: 1.1, 20: 1.25} {
		expected := float64(all) / (1 - float64(percent)/100)
		if got := float64(took(percent)); got > most*expected {
			t.Errorf("%d %% refused: took %.2f times as long as without, the refused work explains %.2f", percent, got/float64(all), expected/float64(all))
		} else {
			t.Logf("%d %% refused: took %.2f times as long as without, the refused work explains %.2f", percent, got/float64(all), expected/float64(all))
		}
	}
}

// What is sent again after an answer that was lost may be there twice; what was
// refused before it was stored may not.
func TestRecordsThatMayBeThereTwiceAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.write(0, 100, 0)
		refuse, lose := 2, 3
		w.request = func(*buffer.Batch) error {
			if refuse--; refuse >= 0 {
				return &sinks.RequestError{Status: 503}
			}
			return nil
		}
		w.lost = func() error {
			if lose--; lose >= 0 {
				return errReset
			}
			return nil
		}
		opt := w.options()
		c := New(opt)
		w.run(t.Context(), c, true)
		w.complete()
		n := c.laneStats(0).Counts
		if twice := int64(w.stored[key{0, 0}] - 1); n.InDoubt != 100*twice || twice != 3 || n.Retried != 500 {
			t.Errorf("%d in doubt, %d sent again; each was stored %d times more than once", n.InDoubt, n.Retried, twice)
		}
	})
}

func TestFewRefusedRecordsDoNotShrinkTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for p := range int32(4) {
			w.write(p, 10000, 0)
		}
		w.verdict = func(*buffer.Record) sinks.Outcome {
			if w.rng.IntN(20) == 0 {
				return sinks.Outcome{Status: 429, Note: sinks.Overloaded}
			}
			return sinks.Outcome{Verdict: sinks.Ack}
		}
		opt := w.options()
		opt.Budget = buffer.NewBudget(16 << 20)
		c := New(opt)
		stop := w.live(c)
		pass(300 * time.Millisecond)
		for range 20 { // it stays open, and is not open by luck
			if s := c.Stats(); s.Window != s.WindowMax {
				t.Errorf("window %d of %d while one record in twenty is refused", s.Window, s.WindowMax)
			}
			pass(10 * time.Millisecond)
		}
		pass(time.Minute)
		w.complete()
		stop()
	})
}

// Records that wait to be sent again hold their own memory and not that of all they
// were read with, so that a sink that refuses one in twenty is still kept busy.
func TestFewRefusedRecordsHoldTheirOwnMemoryOnly(t *testing.T) {
	took := func(percent int) time.Duration {
		var d time.Duration
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1)
			for p := range int32(2) {
				w.write(p, 20000, 0)
			}
			w.verdict = func(*buffer.Record) sinks.Outcome {
				if w.rng.IntN(100) < percent {
					return sinks.Outcome{Status: 429, Note: sinks.Overloaded}
				}
				return sinks.Outcome{Verdict: sinks.Ack}
			}
			w.latency = func() time.Duration { return 100 * time.Millisecond }
			opt := w.options()
			opt.BatchRecords, opt.RetryInitial = 1000, time.Second
			opt.Budget = buffer.NewBudget(512 << 10)
			began := time.Now()
			w.run(t.Context(), New(opt), true)
			d = time.Since(began)
			w.complete()
			if held, _ := opt.Budget.Held(); held != 0 {
				t.Errorf("%d bytes held after the end", held)
			}
		})
		return d
	}
	none, few := took(0), took(5)
	// The last ones refused wait for some pauses in any case.
	if few > 2*none+8*time.Second {
		t.Errorf("%v with one record in twenty refused, %v without", few, none)
	}
	t.Logf("%v with one record in twenty refused, %v without", few, none)
}

// A sink that took everything and says that it is close to its limit, before its
// acknowledgement or with it, is asked for less, and nothing is sent twice.
func TestCrowdedSinkIsAskedForLess(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1)
			for p := range int32(4) {
				w.write(p, 10000, 0)
			}
			opt := w.options()
			opt.Budget = buffer.NewBudget(16 << 20)
			most, sent := 0, map[key]int{}
			opt.Sink = sinkFunc(func(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
				if err := sleep(ctx, 10*time.Millisecond); err != nil {
					return nil, err
				}
				w.mu.Lock()
				note := sinks.Plain
				if len(sent) > 20000 {
					note = sinks.Crowded
				}
				out := make([]sinks.Outcome, len(b.Records))
				for i, r := range b.Records {
					sent[key{r.Partition, r.Offset}]++
					w.stored[key{r.Partition, r.Offset}]++
					out[i] = sinks.Outcome{Verdict: sinks.Ack}
					if !late {
						out[i].Note = note
					}
				}
				w.mu.Unlock()
				if late {
					answered(note)
				}
				return out, nil
			})
			c := New(opt)
			stop := w.live(c)
			for range 1000 {
				pass(10 * time.Millisecond)
				most = max(most, c.Stats().Window)
			}
			if s := c.Stats(); most != s.WindowMax || s.Window != 1 {
				t.Errorf("window of at most %d, then %d, at a sink that is crowded from the middle on; want %d, then 1", most, s.Window, s.WindowMax)
			}
			w.complete()
			for k, n := range sent {
				if n > 1 {
					t.Errorf("record %v was sent %d times", k, n)
				}
			}
			stop()
		})
	}
}
