package connector

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// TestContract runs the bridge through hundreds of random worlds: requests that
// fail before or after storing, refusals of single records, rejects, a
// dead-letter sink that fails, late acknowledgements, filters, gaps, and lanes
// that are revoked and go on elsewhere. Whatever happens: nothing unsettled is
// committed past (safety, judged at every commit), all is settled in the end
// (progress), and memory and time stay within their bounds.
func TestContract(t *testing.T) {
	seeds := 400
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomWorld(t, uint64(seed)) })
		})
	}
}

func randomWorld(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	rng := w.rng
	for p := range int32(1 + rng.IntN(6)) {
		w.write(p, rng.IntN(1500), rng.IntN(20))
	}
	chance := func(percent int) bool { return rng.IntN(100) < percent }
	slow := time.Duration(1+rng.IntN(100)) * time.Millisecond
	w.latency = func() time.Duration { return time.Duration(rng.Int64N(int64(slow))) }
	fail, lose, refuse, poison, split, deadFail := rng.IntN(40), rng.IntN(20), rng.IntN(20), rng.IntN(10), 1+rng.IntN(200), rng.IntN(60)
	w.request = func(b *buffer.Batch) error {
		switch {
		case len(b.Records) > split:
			return &sinks.RequestError{Status: 413, Split: true}
		case chance(fail):
			return []error{
				errReset,
				&sinks.RequestError{Status: 503, RetryAfter: 300 * time.Millisecond},
				&sinks.RequestError{Status: 429},
				&sinks.RequestError{Status: 500},
				&sinks.RequestError{Status: 401, Misconfigured: true},
			}[rng.IntN(5)]
		}
		return nil
	}
	w.lost = func() error {
		if chance(lose) {
			return errReset
		}
		return nil
	}
	w.verdict = func(r *buffer.Record) sinks.Outcome {
		// Poison is a property of the record, refusal one of the moment.
		if int(r.Offset*7+int64(r.Partition)*3)%100 < poison {
			return sinks.Outcome{Verdict: sinks.Reject, Status: 400}
		}
		if chance(refuse) {
			return []sinks.Outcome{{}, {Status: 429, Note: sinks.Overloaded}, {Status: 403, Note: sinks.Misconfigured}}[rng.IntN(3)]
		}
		return sinks.Outcome{Verdict: sinks.Ack, Status: 201}
	}
	w.deadFail = func() error {
		if chance(deadFail) {
			return errReset
		}
		return nil
	}
	late := chance(30)
	if late {
		w.late = func() time.Duration { return time.Duration(rng.IntN(400)) * time.Millisecond }
	}
	opt := w.options()
	opt.Ordered = chance(25)
	opt.BatchRecords = 1 + rng.IntN(300)
	opt.InFlightMax = 1 + rng.IntN(8)
	opt.Budget = buffer.NewBudget(int64(8+rng.IntN(120)) << 10)
	if chance(50) {
		opt.Transforms = []Transform{func(r *buffer.Record) (bool, error) {
			k := key{r.Partition, r.Offset}
			switch {
			case r.Offset%11 == 3:
				w.mu.Lock()
				w.filtered[k] = true
				w.mu.Unlock()
				return false, nil
			case r.Offset%97 == 5:
				return false, errors.New("cannot be decoded")
			}
			return true, nil
		}}
	}

	// Lanes are revoked now and then and go on where the commits say, as if by
	// another member; some are cut off, which is what kill -9 looks like from the
	// outside.
	for round := 0; ; round++ {
		if round == 1000 {
			t.Fatal("no end in sight")
		}
		ctx, cancel := context.WithCancel(t.Context())
		c := New(opt)
		ends := round < 5 && chance(60)
		if ends {
			life, kill := time.Duration(rng.IntN(3000))*time.Millisecond, chance(30)
			go func() {
				select {
				case <-time.After(life):
					cancel()
					if kill {
						c.Kill()
					}
				case <-ctx.Done():
				}
			}()
		}
		watch := make(chan struct{})
		go watchBounds(t, c, ctx, watch)
		w.run(ctx, c, true)
		cancel()
		c.Close()
		<-watch
		if held, _ := opt.Budget.Held(); held != 0 {
			t.Fatalf("%d bytes of the budget were never given back", held)
		}
		opt.Budget = buffer.NewBudget(int64(8+rng.IntN(120)) << 10)
		if !ends {
			break
		}
	}
	w.complete()
	if !late && w.most > opt.InFlightMax {
		t.Errorf("%d requests in flight, at most %d allowed", w.most, opt.InFlightMax)
	}
}

// watchBounds looks at the budget and the window while the bridge runs.
func watchBounds(t *testing.T, c *Connector, ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for ctx.Err() == nil {
		s := c.Stats()
		if s.BytesHeld > s.BytesMax {
			t.Errorf("%d bytes held of %d", s.BytesHeld, s.BytesMax)
		}
		if s.InFlight > s.WindowMax {
			t.Errorf("%d in flight, at most %d", s.InFlight, s.WindowMax)
		}
		select {
		case <-time.After(7 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
