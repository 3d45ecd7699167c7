package replay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Throttle holds a worker's lanes back, so that a replay takes no more of the
// cluster and of the destination than it may. It is shared by all of them.
type Throttle struct {
	bytes, records *rate.Limiter // nil: no limit

	mu     sync.Mutex
	pause  string              // why nothing is read now, "": it is
	change chan struct{}       // closed and made anew when something may go on
	moved  map[place]time.Time // urgent partitions that are read, and when they moved last
}

type place struct {
	topic     string
	partition int32
}

// NewThrottle is a Throttle with rates.
func NewThrottle(r Rates) *Throttle {
	t := &Throttle{change: make(chan struct{}), moved: map[place]time.Time{}}
	limiter := func(n int64) *rate.Limiter {
		if n <= 0 {
			return nil
		}
		// What a tenth of a second brings may come at once.
		return rate.NewLimiter(rate.Limit(n), int(min(max(n/10, 1), 1<<30)))
	}
	t.bytes, t.records = limiter(r.Bytes), limiter(r.Records)
	return t
}

// Pause makes all lanes wait, for a reason; "": they go on.
func (t *Throttle) Pause(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pause != "" && why == "" {
		t.wake()
	}
	t.pause = why
}

// Paused is why nothing is read now, "" when it is.
func (t *Throttle) Paused() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pause
}

func (t *Throttle) wake() {
	close(t.change)
	t.change = make(chan struct{})
}

const (
	// urgentWithin: what retention may take within that time goes before the rest.
	urgentWithin = 24 * time.Hour
	// urgentIdle is for how long an urgent partition that does not move keeps the
	// others waiting: one that is stuck is to stop nobody.
	urgentIdle = 10 * time.Second
)

func urgent(p *Partition, now time.Time) bool {
	return p.Expires != nil && p.Expires.Sub(now) < urgentWithin
}

// before waits until p may be read on: nobody said to pause, and no partition
// that is at risk of retention is read, if p is not one.
func (t *Throttle) before(ctx context.Context, topic string, p *Partition) error {
	at := place{topic, p.Number}
	for {
		now := time.Now()
		t.mu.Lock()
		if urgent(p, now) {
			t.moved[at] = now
		}
		wait := time.Duration(0)
		switch {
		case t.pause != "":
			wait = time.Minute
		case !urgent(p, now):
			for _, moved := range t.moved {
				wait = max(wait, urgentIdle-now.Sub(moved))
			}
		}
		change := t.change
		t.mu.Unlock()
		if wait <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(wait)
		select {
		case <-change:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// done says that a partition is not read any more.
func (t *Throttle) done(topic string, p *Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.moved, place{topic, p.Number})
	t.wake()
}

// after waits until what was read is within the rates.
func (t *Throttle) after(ctx context.Context, records, bytes int64) error {
	if err := spend(ctx, t.records, records); err != nil {
		return err
	}
	return spend(ctx, t.bytes, bytes)
}

func spend(ctx context.Context, l *rate.Limiter, n int64) error {
	if l == nil {
		return nil
	}
	for n > 0 {
		part := min(n, int64(l.Burst()))
		if err := l.WaitN(ctx, int(part)); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		n -= part
	}
	return nil
}

// Yield decides when a replay makes way for a live connector, by looking at its
// lag every now and then.
type Yield struct {
	connector string
	last      int64 // the lag at the last look, -1: there was none
	low, peak int64 // while pausing: the lag before it grew, and the largest since
	pausing   bool
}

// NewYield makes way for the connector of that name.
func NewYield(connector string) *Yield { return &Yield{connector: connector, last: -1} }

// yieldSlack is how many records a lag may grow between two looks, beside a tenth
// of it: records come and commits go in bursts.
const yieldSlack = 1000

// Look says why to pause, at a lag; "": do not. A replay pauses when the lag has
// grown, and goes on when it is back where it was before, or more than half of the
// way: the rest is the connector's own.
func (y *Yield) Look(lag int64) string {
	defer func() { y.last = lag }()
	if y.last < 0 {
		return ""
	}
	grown := lag > y.last+y.last/10+yieldSlack
	switch {
	case !y.pausing && grown:
		y.pausing, y.low, y.peak = true, y.last, lag
	case y.pausing:
		y.peak = max(y.peak, lag)
		y.pausing = lag > max(y.low+yieldSlack, (y.low+y.peak)/2)
	}
	if !y.pausing {
		return ""
	}
	return fmt.Sprintf("makes way for connector %s, whose lag has grown from %d to %d", y.connector, y.low, lag)
}
