package connector

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// Options is what a Connector is made of.
type Options struct {
	Name string

	BatchRecords int
	BatchBytes   int64
	Linger       time.Duration // how long an open batch waits for more

	InFlightMin, InFlightMax int
	Ordered                  bool // no record is sent while an earlier one of its partition is unsettled

	RetryInitial, RetryMax time.Duration
	// Drain is how long a lane that has to end waits for its records to settle.
	Drain time.Duration

	Sink sinks.Sink
	// DeadLetter takes rejected records; nil: a rejected record blocks its lane.
	DeadLetter sinks.Sink

	Budget     *buffer.Budget
	Transforms []Transform
	Log        *slog.Logger
}

// Connector moves records from its lanes to its sink. All lanes fill one open
// batch; the window says how many batches are in flight.
//
// One mutex guards the connector and its lanes. It is held for bookkeeping only,
// never across a call that can block.
type Connector struct {
	opt Options

	// hard ends every attempt at once; the context that lanes are given ends
	// them softly, with a drain.
	hard     context.Context
	kill     context.CancelFunc
	requests sync.WaitGroup // deliveries in flight, dead letters too

	mu     sync.Mutex
	lanes  []*lane               // running
	counts map[partition]*Counts // of lanes that run and that ran

	open     *batch // takes records
	openedAt time.Time
	ready    []*batch      // sealed, wait for a place in the window
	room     chan struct{} // closed and made anew when ready has room

	retries []*batch // wait for their time
	letters []*batch // rejected records on their way to the dead-letter sink
	mailing int      // dead-letter requests in flight

	window *buffer.Window
	health health
	timer  *time.Timer // wakes pump when something is due

	reported map[string]*report // what the log said lately
}

type partition struct {
	topic  string
	number int32
}

// readyMax is how many sealed batches may wait for a place in the window before
// lanes have to. Kafka is the buffer: more would hold memory and speed up
// nothing.
const readyMax = 1

// New makes a connector. It does nothing until Lane is called.
func New(opt Options) *Connector {
	c := &Connector{
		opt:      opt,
		counts:   make(map[partition]*Counts),
		room:     make(chan struct{}),
		window:   buffer.NewWindow(opt.InFlightMin, opt.InFlightMax),
		reported: make(map[string]*report),
	}
	c.hard, c.kill = context.WithCancel(context.Background())
	c.health.pause = c.newBackoff()
	return c
}

// Kill ends everything at once: attempts are cut off, lanes return without a
// drain. Nothing is lost, since nothing unsettled was committed; what was sent
// without an answer is sent again by whoever goes on.
func (c *Connector) Kill() { c.kill() }

// Close cuts off what is still in flight and waits for it. Lanes must have
// returned.
func (c *Connector) Close() {
	c.mu.Lock()
	c.kill() // under the mutex: no request starts after Wait has begun
	c.schedule()
	c.mu.Unlock()
	c.requests.Wait()
}

// batch is a Batch with whose records it holds and how often it was tried.
type batch struct {
	buffer.Batch
	parts []part

	attempts int
	due      time.Time
	pause    pause
	// whole: the last attempt failed as a request, so nothing is known about any
	// record of it.
	whole bool
	// stuck: its records keep being refused one by one; their lanes stand still.
	stuck bool
	// reasons are the outcomes that made these records dead letters, one a record.
	reasons []sinks.Outcome
	// blocked: there is no dead-letter sink for these rejected records.
	blocked bool
}

// part is a run of a batch's records that belong to one lane.
type part struct {
	lane *lane
	n    int
}

func (b *batch) add(l *lane, r *buffer.Record) {
	b.Add(r)
	if n := len(b.parts); n > 0 && b.parts[n-1].lane == l {
		b.parts[n-1].n++
		return
	}
	b.parts = append(b.parts, part{lane: l, n: 1})
}

// each calls f for each record with its lane and its place in the batch.
func (b *batch) each(f func(i int, l *lane, r *buffer.Record)) {
	i := 0
	for _, p := range b.parts {
		for range p.n {
			f(i, p.lane, b.Records[i])
			i++
		}
	}
}

// fits reports whether r may join b. A record that is larger than a batch goes
// alone.
func (c *Connector) fits(b *batch, bytes int64) bool {
	return len(b.Records) == 0 || len(b.Records) < c.opt.BatchRecords && b.Bytes+bytes <= c.opt.BatchBytes
}

// put hands a lane's records over to the open batch, in order, and waits while
// batches wait for the window. It returns how many it took: all, unless ctx or
// the connector ended first.
func (c *Connector) put(ctx context.Context, l *lane, records []buffer.Record) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range records {
		r := &records[i]
		for {
			full := c.open != nil && !c.fits(c.open, r.Size())
			if full && len(c.ready) < readyMax {
				c.sealFull()
				continue
			}
			if !full && !(c.opt.Ordered && l.sealed > 0) {
				break
			}
			if !c.wait(ctx, l) {
				return i
			}
		}
		if c.open == nil {
			c.open = &batch{}
			c.openedAt = time.Now()
			c.schedule()
		}
		c.open.add(l, r)
	}
	if c.open != nil && len(c.open.Records) >= c.opt.BatchRecords && len(c.ready) < readyMax {
		c.sealFull()
	}
	return len(records)
}

// wait releases the mutex until there may be room, for l or for all. It reports
// false when there is no point in waiting on.
func (c *Connector) wait(ctx context.Context, l *lane) bool {
	room := c.room
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-room:
	case <-l.settled:
	case <-ctx.Done():
		return false
	case <-c.hard.Done():
		return false
	}
	return true
}

// seal closes the open batch: it takes no more records.
func (c *Connector) seal() *batch {
	b := c.open
	c.open = nil
	for _, p := range b.parts {
		p.lane.sealed += p.n
	}
	return b
}

// sealFull queues the open batch, which is full.
func (c *Connector) sealFull() {
	c.ready = append(c.ready, c.seal())
	c.pump()
}

// flush has the open batch sent as soon as the window has room, for one who
// waits for what it holds.
func (c *Connector) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.openedAt = time.Time{}
	c.pump()
}

// pump starts every request that may start now, and dead letters beside them.
func (c *Connector) pump() {
	now := time.Now()
	for c.mayStart(now) {
		b := c.next(now)
		if b == nil {
			break
		}
		slot := c.window.Start()
		c.requests.Add(1)
		go c.deliver(b, slot)
	}
	for c.hard.Err() == nil && c.mailing < maxMailing {
		b := takeDue(&c.letters, now)
		if b == nil {
			break
		}
		c.mailing++
		c.requests.Add(1)
		go c.mail(b)
	}
	c.schedule()
}

// next takes what is to be sent now: retries that are due, then the full batch,
// then the open one if its time has come. While the window is full the open
// batch stays open, so that waiting makes fewer and fuller requests.
func (c *Connector) next(now time.Time) *batch {
	if b := c.takeRetry(now); b != nil {
		return b
	}
	if len(c.ready) > 0 {
		b := c.ready[0]
		c.ready = slices.Delete(c.ready, 0, 1)
		close(c.room)
		c.room = make(chan struct{})
		return b
	}
	if c.open != nil && now.Sub(c.openedAt) >= c.opt.Linger {
		return c.seal()
	}
	return nil
}

// takeRetry is the retry to send now, together with others that are due, or nearly,
// as far as they fit: what several batches had left makes one good request. At a
// sink that refuses one record in twenty every batch leaves some, each due at a time
// of its own.
func (c *Connector) takeRetry(now time.Time) *batch {
	if c.health.down != nil {
		// One attempt at a time tells whether the sink is back: any will do.
		now = now.Add(maxRetryAfter + 2*c.opt.RetryMax)
	}
	b := takeDue(&c.retries, now)
	if b == nil || b.whole {
		return b
	}
	soon := now.Add(c.opt.RetryInitial / 4)
	c.retries = slices.DeleteFunc(c.retries, func(o *batch) bool {
		if o.whole || o.stuck != b.stuck || o.blocked != b.blocked || o.due.After(soon) ||
			len(b.Records)+len(o.Records) > c.opt.BatchRecords || b.Bytes+o.Bytes > c.opt.BatchBytes {
			return false
		}
		o.each(func(_ int, l *lane, r *buffer.Record) { b.add(l, r) })
		b.attempts = max(b.attempts, o.attempts)
		return true
	})
	return b
}

// takeDue takes the batch out of list that is due longest, nil when none is due.
func takeDue(list *[]*batch, now time.Time) *batch {
	first := -1
	for i, b := range *list {
		if !b.due.After(now) && (first < 0 || b.due.Before((*list)[first].due)) {
			first = i
		}
	}
	if first < 0 {
		return nil
	}
	b := (*list)[first]
	*list = slices.Delete(*list, first, first+1)
	return b
}

// mayStart reports whether one more request to the sink may start now.
func (c *Connector) mayStart(now time.Time) bool {
	if c.hard.Err() != nil || c.health.hold.After(now) {
		return false
	}
	if c.health.down != nil {
		return c.window.InFlight() == 0
	}
	return c.window.Room()
}

// schedule arranges for pump to be called when the next thing is due.
func (c *Connector) schedule() {
	var next time.Time
	at := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	now := time.Now()
	if c.open != nil {
		if due := c.openedAt.Add(c.opt.Linger); due.After(now) {
			at(due) // one whose time has come waits for a place, not for a time
		}
	}
	for _, b := range c.letters {
		if b.due.After(now) {
			at(b.due)
		}
	}
	switch {
	case c.health.hold.After(now):
		at(c.health.hold)
	case c.health.down == nil:
		for _, b := range c.retries {
			if b.due.After(now) {
				at(b.due)
			}
		}
	}
	if next.IsZero() || c.hard.Err() != nil {
		if c.timer != nil {
			c.timer.Stop()
		}
		return
	}
	wait := max(next.Sub(now), 0)
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.pump()
		})
		return
	}
	c.timer.Reset(wait)
}
