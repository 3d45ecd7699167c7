package sinktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// Subject is a kind of sink as Conform tests it.
type Subject struct {
	// Open starts a destination and a sink that sends to it; both end with t.
	Open func(t *testing.T) Place
	// Once: what is sent twice is there once (grade A).
	Once bool
}

// Place is one destination with its sink.
type Place struct {
	Sink sinks.Sink
	// Stored is how often each of the suite's records is there for good, by its
	// number: see Numbers.
	Stored func() map[int]int
	// Break has something go wrong with one of the next requests; nil: nothing can.
	Break func(*rand.Rand)
	// Stalled gets a value when a request hangs: the suite then ends its context.
	// Nil: none ever does.
	Stalled <-chan struct{}
	// Poison makes the destination refuse record n for ever; nil: it looks at no
	// record.
	Poison func(n int)
}

var recordNumber = regexp.MustCompile(`"conform_n":\s*(\d+)`)

// Numbers counts the suite's records in texts that a destination holds, by their
// numbers.
func Numbers(texts ...[]byte) map[int]int {
	seen := map[int]int{}
	for _, text := range texts {
		for _, m := range recordNumber.FindAllSubmatch(text, -1) {
			n, _ := strconv.Atoi(string(m[1]))
			seen[n]++
		}
	}
	return seen
}

// Conform tests what the connector relies upon in every sink: above all, that
// nothing is acknowledged that the destination does not hold.
func Conform(t *testing.T, s Subject) {
	t.Run("everything is acknowledged and there", func(t *testing.T) {
		c := s.open(t)
		c.deliver(t, c.batch(500, 100))
		c.check(t)
	})
	t.Run("an empty batch is nothing to do", func(t *testing.T) {
		c := s.open(t)
		out, err := c.place.Sink.Deliver(t.Context(), new(buffer.Batch), func(sinks.Note) {})
		if err != nil || len(out) != 0 {
			t.Errorf("%v, %v", out, err)
		}
	})
	t.Run("values of any form", func(t *testing.T) {
		c := s.open(t)
		b := c.batch(6, 0)
		b.Records[0].Value, b.Records[0].Shape = []byte(`{"conform_n":0,`+"\n\r\n"+`"x":"\u2028\\"}`), buffer.ShapeObject|buffer.ShapeLineBreak
		b.Records[1].Value, b.Records[1].Shape = []byte("plain text, \"conform_n\": 1 \x00\xff\n{\"create\":{}}\n"), 0
		b.Records[2].Value, b.Records[2].Shape = []byte(`[{"conform_n":2}]`), 0
		b.Records[3].Key = []byte("k\x00\n")
		b.Records[4].Headers = []buffer.Header{{Key: "h\r\n", Value: nil}, {Key: "", Value: []byte("\n")}}
		b.Records[5].Time = time.Time{}
		// What becomes of text is the sink's matter, so only that it is taken.
		c.settle(t, b)
		for n := 3; n < 6; n++ {
			if !c.acked[n] && !c.rejected[n] {
				t.Errorf("record %d is neither acknowledged nor rejected", n)
			}
		}
	})
	t.Run("several at a time", func(t *testing.T) {
		c := s.open(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					c.settle(t, c.batch(50, 50))
				}
			})
		}
		wg.Wait()
		c.check(t)
	})
	t.Run("a context that has ended", func(t *testing.T) {
		c := s.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b := c.batch(10, 10)
		out, err := c.place.Sink.Deliver(ctx, b, func(sinks.Note) {})
		c.judge(t, b, out, err)
		c.deliver(t, b)
		c.check(t)
	})
	t.Run("what was sent again", func(t *testing.T) {
		c := s.open(t)
		b := c.batch(100, 10)
		c.deliver(t, b)
		c.deliver(t, b)
		c.check(t)
	})
	t.Run("nothing is read of a record after the return", func(t *testing.T) {
		c := s.open(t)
		b := c.batch(16, 256<<10)
		c.settle(t, b)
		for _, r := range b.Records { // the race detector is the judge
			clear(r.Value)
			r.Offset = -1
		}
	})
	t.Run("a poisoned record takes no other with it", func(t *testing.T) {
		c := s.open(t)
		if c.place.Poison == nil {
			t.Skip("this destination looks at no record")
		}
		b := c.batch(64, 10)
		for _, n := range []int{0, 17, 18, 63} {
			c.place.Poison(n)
		}
		c.settle(t, b)
		for n := range 64 {
			if want := n == 0 || n == 17 || n == 18 || n == 63; c.rejected[n] != want || c.acked[n] == want {
				t.Errorf("record %d: rejected %t, acknowledged %t", n, c.rejected[n], c.acked[n])
			}
		}
	})
	t.Run("whatever goes wrong", func(t *testing.T) {
		for seed := range uint64(12) {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				c := s.open(t)
				if c.place.Break == nil {
					t.Skip("nothing can go wrong here")
				}
				rng := rand.New(rand.NewPCG(seed, 7))
				for range 10 {
					for range rng.IntN(3) {
						c.place.Break(rng)
					}
					c.deliver(t, c.batch(1+rng.IntN(60), rng.IntN(200)))
				}
				c.check(t)
			})
		}
	})
}

// conformance is one run of the suite on one place.
type conformance struct {
	Subject
	place Place

	mu              sync.Mutex
	next            int
	acked, rejected map[int]bool
}

func (s Subject) open(t *testing.T) *conformance {
	t.Helper()
	return &conformance{Subject: s, place: s.Open(t), acked: map[int]bool{}, rejected: map[int]bool{}}
}

var conformOrigins = []*buffer.Origin{
	{Cluster: "cluster", Topic: "conform.events", TopicID: "AAAAAAAAAAAAAAAAAAAAAA", Partition: 0},
	{Cluster: "cluster", Topic: "conform.events", TopicID: "AAAAAAAAAAAAAAAAAAAAAA", Partition: 7},
}

// batch is n records that were not there before, of about pad bytes.
func (c *conformance) batch(n, pad int) *buffer.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := new(buffer.Batch)
	text := string(slices.Repeat([]byte("x"), pad))
	for range n {
		b.Add(&buffer.Record{
			Origin: conformOrigins[c.next%2], Offset: int64(c.next), Time: time.UnixMilli(1_700_000_000_000 + int64(c.next)),
			Value: fmt.Appendf(nil, `{"conform_n":%d,"message":%q}`, c.next, text), Shape: buffer.ShapeObject,
		})
		c.next++
	}
	return b
}

// judge fails where a record is acknowledged that is not there.
func (c *conformance) judge(t *testing.T, b *buffer.Batch, out []sinks.Outcome, err error) {
	t.Helper()
	if err != nil {
		return
	}
	if len(out) != len(b.Records) {
		t.Fatalf("%d outcomes for %d records", len(out), len(b.Records))
	}
	stored := c.place.Stored()
	for i, r := range b.Records {
		if n := int(r.Offset); out[i].Verdict == sinks.Ack && stored[n] == 0 && r.Shape.Has(buffer.ShapeObject) {
			t.Errorf("record %d is acknowledged, and not there", n)
		}
	}
}

// attempts is far more than any script has faults.
const attempts = 1000

// settle does as the connector does, without its pauses: what is to be retried
// is, what is to be split is halved, until each record is acknowledged or
// rejected.
func (c *conformance) settle(t *testing.T, b *buffer.Batch) {
	t.Helper()
	todo := []*buffer.Batch{b}
	for n := 0; len(todo) > 0; n++ {
		if n == attempts {
			t.Errorf("%d batches are still to be delivered after %d attempts", len(todo), n)
			return
		}
		next := todo[0]
		todo = todo[1:]
		out, err := c.attempt(t, next)
		c.judge(t, next, out, err)
		var re *sinks.RequestError
		switch {
		case err != nil && errors.As(err, &re) && re.Split && len(next.Records) > 1:
			todo = append(todo, part(next.Records[:len(next.Records)/2]), part(next.Records[len(next.Records)/2:]))
			continue
		case err != nil && errors.As(err, &re) && re.Split:
			out = []sinks.Outcome{{Verdict: sinks.Reject}}
		case err != nil:
			todo = append(todo, next)
			continue
		}
		var again []*buffer.Record
		c.mu.Lock()
		for i, r := range next.Records {
			switch out[i].Verdict {
			case sinks.Ack:
				c.acked[int(r.Offset)] = true
			case sinks.Reject:
				c.rejected[int(r.Offset)] = true
			default:
				again = append(again, r)
			}
		}
		c.mu.Unlock()
		if again != nil {
			todo = append(todo, part(again))
		}
	}
}

// attempt is one Deliver, whose context ends when the destination hangs.
func (c *conformance) attempt(t *testing.T, b *buffer.Batch) ([]sinks.Outcome, error) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if c.place.Stalled != nil {
		go func() {
			select {
			case <-c.place.Stalled:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	once := 0
	out, err := c.place.Sink.Deliver(ctx, b, func(sinks.Note) { once++ })
	if once > 1 {
		t.Errorf("answered was called %d times", once)
	}
	return out, err
}

func part(records []*buffer.Record) *buffer.Batch {
	b := new(buffer.Batch)
	for _, r := range records {
		b.Add(r)
	}
	return b
}

// deliver settles b, of which nothing may be rejected.
func (c *conformance) deliver(t *testing.T, b *buffer.Batch) {
	t.Helper()
	c.settle(t, b)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range b.Records {
		if !c.acked[int(r.Offset)] {
			t.Fatalf("record %d is not acknowledged (rejected: %t)", r.Offset, c.rejected[int(r.Offset)])
		}
	}
}

// check fails unless every record is there, and, where the sink promises it,
// once.
func (c *conformance) check(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	stored := c.place.Stored()
	for n := range c.next {
		if stored[n] == 0 || c.Once && stored[n] > 1 {
			t.Errorf("record %d is there %d times", n, stored[n])
		}
	}
}
