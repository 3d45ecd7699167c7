package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// lane is one partition's way in. Its fields are guarded by the connector's
// mutex, but for those of the goroutine that runs it.
type lane struct {
	c       *Connector
	origin  *buffer.Origin
	source  Source
	account *buffer.Account
	counts  *Counts

	watermark *buffer.Watermark
	sealed    int   // records in sealed batches, not settled
	held      int64 // bytes charged and not given back
	taken     []taken
	runs      []tallied // what the source handed out and is not settled as a whole
	mark      int64     // the end of the last run that is
	tally     Tally     // of the records below mark
	told      int64     // the watermark as the committer was told last
	moved     time.Time // when it moved last

	// stuck counts the records that keep the lane from taking more: rejected ones
	// that nobody takes, and those the sink keeps refusing one by one.
	stuck        int
	blocked      error // why, nil while stuck is 0
	blockedSince time.Time

	// gone: Lane has returned or is about to. Outcomes that still come in free
	// memory and nothing else.
	gone bool

	settled chan struct{} // has room for one signal: something settled
	commit  chan struct{} // has room for one signal: the watermark moved
}

// taken notes when the records below next were taken.
type taken struct {
	next int64
	at   time.Time
}

// tallied is a run of the source: what became of its records below next.
type tallied struct {
	next  int64
	tally Tally
}

const (
	// chunkRecords and chunkBytes bound what a lane admits in one go: large enough
	// that the budget and the mutex are asked seldom, small enough that a chunk
	// one record of which waits does not keep much else alive.
	chunkRecords = 256
	chunkBytes   = 128 << 10
	// maxSpan bounds a watermark's memory: a lane whose first unsettled record is
	// that many records behind waits for it.
	maxSpan = 1 << 18
)

// Lane runs one partition from source until ctx is done or the source ends, and
// then waits until what it took is settled: for at most Options.Drain once ctx
// is done. After it returned, nothing commits for this partition any more.
//
// It returns nil when everything taken is settled and committed, and an error
// that says how much is not, or what the source's trouble was.
func (c *Connector) Lane(ctx context.Context, origin *buffer.Origin, source Source) error {
	l := &lane{
		c:       c,
		origin:  origin,
		source:  source,
		account: c.opt.Budget.Open(),
		settled: make(chan struct{}, 1),
		commit:  make(chan struct{}, 1),
		moved:   time.Now(),

		watermark: buffer.NewWatermark(source.Start()),
		mark:      source.Start(),
	}
	defer l.account.Close()
	c.mu.Lock()
	l.counts = c.countsOf(origin)
	c.lanes = append(c.lanes, l)
	c.mu.Unlock()

	// The committer is a goroutine of its own, so that commits go on while the
	// lane waits for records or for room. That Lane waits for it is what makes
	// "after Lane returned nothing commits" true.
	stop := make(chan struct{})
	var committer sync.WaitGroup
	committer.Go(func() { l.commitLoop(stop) })

	err := l.take(ctx)
	drained := l.drain(ctx)
	left := l.abandon()
	close(stop)
	committer.Wait()

	switch {
	case err == nil && left > 0:
		err = fmt.Errorf("%d records not settled after %v: they are read again by whoever goes on", left, drained.Round(time.Millisecond))
	case errors.Is(err, context.Canceled):
		err = nil
	}
	return err
}

// take moves records from the source to the open batch until ctx is done or the
// source ends.
func (l *lane) take(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.c.hard, cancel)()

	keep := make([]buffer.Record, 0, chunkRecords)
	var rejects []reject
	for {
		if !l.mayTake(ctx) {
			return nil
		}
		run, err := l.source.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s/%d: %w", l.origin.Topic, l.origin.Partition, err)
		}
		l.begin(run)
		for rest := run.Records; len(rest) > 0; {
			// A lane that asks for no more than its reserve goes on when another one
			// has taken all the rest and cannot deliver it.
			limit := min(chunkBytes, l.account.Reserve())
			var size int64
			n := 0
			keep, rejects = keep[:0], rejects[:0]
			for n < len(rest) && len(keep) < chunkRecords {
				r := &rest[n]
				r.Origin = l.origin
				if s := r.Size(); size > 0 && size+s > limit {
					break
				} else if ok, err := l.transform(r); ok || err != nil {
					if err != nil {
						rejects = append(rejects, reject{at: len(keep), reason: err})
					}
					keep = append(keep, *r)
					size += s
				}
				n++
			}
			if !l.admit(ctx, rest[:n], keep, rejects, size) {
				return nil
			}
			rest = rest[n:]
		}
		l.advance(run.Next)
	}
}

// reject is a record that a transform failed on, by its place among those kept.
type reject struct {
	at     int
	reason error
}

func (l *lane) transform(r *buffer.Record) (bool, error) {
	for _, t := range l.c.opt.Transforms {
		if keep, err := t(r); !keep || err != nil {
			return false, err
		}
	}
	return true, nil
}

// mayTake waits until the lane may take more. It reports false when it is to
// end.
func (l *lane) mayTake(ctx context.Context) bool {
	for {
		l.c.mu.Lock()
		ok := l.stuck == 0 && l.watermark.Span() < maxSpan
		l.c.mu.Unlock()
		if ok {
			return ctx.Err() == nil
		}
		select {
		case <-l.settled:
		case <-ctx.Done():
			return false
		}
	}
}

// admit takes the records of run, of which keep go on and the others were
// filtered. It reports false when ctx ended first; what was not handed over is
// then neither held nor waited for, as if it had not been read.
func (l *lane) admit(ctx context.Context, run, keep []buffer.Record, rejects []reject, size int64) bool {
	var charged int64
	if len(keep) > 0 {
		var ok bool
		if charged, ok = l.account.TryAcquire(size); !ok {
			// What the open batch holds must not wait for more records while a lane
			// waits for room, or lanes would wait for each other for ever.
			l.c.flush()
			var err error
			if charged, err = l.account.Acquire(ctx, size); err != nil {
				return false
			}
		}
	}
	chunk := buffer.NewChunk(keep, charged)
	l.track(run, keep, charged)

	records := chunk.Records
	for _, r := range rejects {
		// Records of one partition keep their order but for rejected ones.
		at := r.at - (len(chunk.Records) - len(records))
		if n := l.c.put(ctx, l, records[:at]); n < at {
			l.takeBack(records[n:])
			return false
		}
		l.c.reject(l, &records[at], sinks.Outcome{Verdict: sinks.Reject, Reason: r.reason.Error()})
		records = records[at+1:]
	}
	if n := l.c.put(ctx, l, records); n < len(records) {
		l.takeBack(records[n:])
		return false
	}
	return true
}

// track enters the records of run into the watermark and settles those that were
// filtered.
func (l *lane) track(run, keep []buffer.Record, charged int64) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range run {
		r := &run[i]
		l.watermark.Track(r.Offset)
		l.counts.Read++
		l.counts.ReadBytes += int64(len(r.Key) + len(r.Value))
		if len(keep) > 0 && keep[0].Offset == r.Offset {
			keep = keep[1:]
			continue
		}
		l.watermark.Settle(r.Offset)
		l.counts.Filtered++
		l.tallyOf(r).Filtered++
	}
	l.held += charged
	l.taken = append(l.taken, taken{next: l.watermark.Position(), at: time.Now()})
	l.progress()
}

// begin notes that run is about to be taken. One without records joins the run
// before, so that no more runs are kept than records.
func (l *lane) begin(run Run) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if n := len(l.runs); n > 0 && len(run.Records) == 0 {
		l.runs[n-1].next = run.Next
		return
	}
	l.runs = append(l.runs, tallied{next: run.Next})
}

// tallyOf is where to count what became of r, which is not settled yet.
func (l *lane) tallyOf(r *buffer.Record) *Tally {
	i := sort.Search(len(l.runs), func(i int) bool { return l.runs[i].next > r.Offset })
	return &l.runs[i].tally
}

// advance moves past offsets that hold no record.
func (l *lane) advance(next int64) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.watermark.Advance(next)
	l.progress()
}

// takeBack undoes admit for records that were not handed over, the last ones that
// it tracked. Nobody will settle them: while they were tracked a drain would wait
// for them in vain.
func (l *lane) takeBack(records []buffer.Record) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.watermark.Retreat(records[0].Offset)
	for i := range records {
		l.free(&records[i])
	}
	l.progress()
}

func (l *lane) free(r *buffer.Record) {
	n := r.Release()
	l.held -= n
	l.account.Release(n)
}

// settle notes that r is settled: the watermark may move, its memory is free.
func (l *lane) settle(r *buffer.Record) {
	l.sealed--
	l.free(r)
	if l.gone {
		return
	}
	l.watermark.Settle(r.Offset)
}

// progress tells who waits that the lane's records have moved on.
func (l *lane) progress() {
	next := l.watermark.Next()
	done := 0
	for done < len(l.taken) && l.taken[done].next <= next {
		done++
	}
	l.taken = l.taken[done:]
	done = 0
	for done < len(l.runs) && l.runs[done].next <= next {
		l.mark = l.runs[done].next
		l.tally.add(l.runs[done].tally)
		done++
	}
	l.runs = l.runs[done:]
	if next > l.told {
		l.told = next
		l.moved = time.Now()
		signal(l.commit)
	}
	signal(l.settled)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// commitLoop tells the source how far everything is settled, each time that
// moved, and a last time when stop is closed.
func (l *lane) commitLoop(stop <-chan struct{}) {
	last := l.source.Start()
	for more := true; more; {
		select {
		case <-l.commit:
		case <-stop:
			more = false
		}
		l.c.mu.Lock()
		p := Progress{Next: l.watermark.Next(), Mark: l.mark, Tally: l.tally}
		l.c.mu.Unlock()
		if p.Next > last {
			l.source.Commit(p)
			last = p.Next
		}
	}
}

// drain waits until everything taken is settled. Once ctx is done it waits for
// no longer than Options.Drain, and not at all once the connector is killed.
func (l *lane) drain(ctx context.Context) time.Duration {
	l.c.flush()
	began := time.Now()
	soft := ctx.Done()
	var limit <-chan time.Time
	for {
		l.c.mu.Lock()
		pending := l.watermark.Pending()
		l.c.mu.Unlock()
		if pending == 0 {
			return time.Since(began)
		}
		select {
		case <-l.settled:
		case <-soft:
			soft = nil
			began = time.Now()
			timer := time.NewTimer(l.c.opt.Drain)
			defer timer.Stop()
			limit = timer.C
		case <-limit:
			return time.Since(began)
		case <-l.c.hard.Done():
			return time.Since(began)
		}
	}
}

// abandon ends the lane: what waits to be sent is forgotten, and the outcome of
// what is in flight frees its memory only. It returns how many records are not
// settled.
func (l *lane) abandon() int {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	l.gone = true
	left := l.watermark.Pending()
	if left > 0 {
		c.forget(l)
	}
	for i, o := range c.lanes {
		if o == l {
			c.lanes = append(c.lanes[:i], c.lanes[i+1:]...)
			break
		}
	}
	return left
}
