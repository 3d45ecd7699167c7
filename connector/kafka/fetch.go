package kafka

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v4"

	"weir/buffer"
	"weir/connector"
)

// fetcher reads any number of partitions, with one request at a time to each
// broker that leads some of them.
//
// It asks only for partitions whose reader has taken what was fetched before,
// so that a reader that stands still is simply not asked for, and for no more
// than there is room for: all that is fetched and not yet taken holds at most
// limit bytes of memory, decompressed, and beyond that one batch at a time for
// which there is no room. What an answer brings beyond what there was room for is
// left to the next one.
//
// It knows nothing of groups: a reader is told where to begin and where to go
// when that is out of range.
type fetcher struct {
	cluster *cluster
	limit   int64
	// batchMax is the most memory that one batch may take: a partition stands still
	// before a larger one, which is better than to be killed for memory.
	batchMax int64
	maxAsk   int64 // the most that is asked for of a partition, in memory; 0: maxAsk
	log      *slog.Logger
	// suspect is called when an answer looks as if the topic had been deleted or
	// made again. It must not block.
	suspect func(topic string)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	lost   chan struct{} // has room for one signal: some reader has no leader

	mu      sync.Mutex
	readers map[*partitionReader]struct{}
	leaders map[int32]*leaderLoop
	// held is what blocks hold, in bytes; peak is the most that it ever was.
	held, peak int64
	// giant is the one block that may exceed the limit: a batch that does not fit
	// is real data and has to get through. It is not counted against the others,
	// or a lane that stands still with it would stop them all.
	giant      int64
	giantAsked bool // a request that may bring one is in flight
	// ratio is how much larger answers are in memory than on the wire, for readers
	// that have not seen one.
	ratio     float64
	throttled time.Time     // a broker makes us wait until then (quota)
	waited    time.Duration // for that, so far
	failures  int64         // requests to brokers that failed, so far
}

const (
	startRatio = 4
	// ratioDecay is how fast the largest expansion seen is forgotten, an answer.
	ratioDecay = 0.95

	// minWire is the least worth asking a partition for, on the wire. More than
	// maxAsk, in memory, makes nothing faster.
	minWire, maxAsk = 64 << 10, 4 << 20
	// longPoll is how long a broker may keep a request when there is nothing new,
	// shortPoll when there are partitions that would have to wait for it, and how
	// often those without anything new are asked for while others have something.
	longPoll, shortPoll = 500 * time.Millisecond, 20 * time.Millisecond
	// busyFor is how long a reader is expected to come for what was fetched for it.
	busyFor = time.Second
	// replicaLease is how long a nearer replica is read before the leader is asked
	// again which one to read.
	replicaLease = 5 * time.Minute
	// minBatchMax is the least limit of a batch, however little memory there is: the
	// largest message most clusters allow, and some.
	minBatchMax = 64 << 20
)

func newFetcher(ctx context.Context, c *cluster, limit int64, log *slog.Logger, suspect func(topic string)) *fetcher {
	f := &fetcher{
		cluster: c,
		limit:   max(limit, 1<<20),
		log:     log,
		suspect: suspect,
		lost:    make(chan struct{}, 1),
		readers: make(map[*partitionReader]struct{}),
		leaders: make(map[int32]*leaderLoop),
		ratio:   startRatio,

		batchMax: max(2*limit, minBatchMax),
	}
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.wg.Go(f.findLeaders)
	f.wg.Go(f.watchEnds)
	return f
}

// Close ends the fetcher's goroutines and connections. Readers must not be used
// any more.
func (f *fetcher) Close() {
	f.cancel()
	f.wg.Wait()
}

// partitionReader reads one partition from an offset on.
type partitionReader struct {
	f      *fetcher
	origin *buffer.Origin
	ready  chan struct{} // has room for one signal: box or stop was set
	end    atomic.Int64

	// Those of the goroutine that calls Next.
	cur     *block
	scratch scratch

	// The rest is guarded by f.mu.
	next     int64 // to be asked for next
	turn     int   // counts GoTos: an answer to an older question is thrown away
	loop     *leaderLoop
	epoch    int32
	replica  int32 // read from this broker, -1: from the leader
	until    time.Time
	box      *block // fetched, not taken
	boxedAt  time.Time
	heardAt  time.Time // when end was set last
	parked   bool      // its box was emptied for others: not asked for until Next is called
	askedAt  int64     // request number
	asked    int64     // memory set aside for a request in flight, in bytes
	stop     error     // why it does not go on until GoTo
	retryAt  time.Time
	fails    int
	alone    bool    // to be asked for alone: with others it got nothing
	cut      int64   // size of its next batch on the wire; 0: not known
	big      int64   // memory that its batches need, by the largest lately
	ratio    float64 // how much larger its batches are in memory; 0: not known
	end0     int64   // the end of the log as heard last from the leader
	stable   int64   // where what may be read ends, as last heard; -1: not known
	trouble  error   // why nothing comes
	since    time.Time
	reported bool
}

// OutOfRangeError says that a partition's log does not hold the offset that is to
// be read.
type OutOfRangeError struct {
	Topic     string
	Partition int32
	Offset    int64
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("partition %d of topic %q does not hold offset %d", e.Partition, e.Topic, e.Offset)
}

// Add begins to read a partition at offset.
func (f *fetcher) Add(origin *buffer.Origin, offset int64) *partitionReader {
	r := &partitionReader{
		f:       f,
		origin:  origin,
		ready:   make(chan struct{}, 1),
		next:    offset,
		epoch:   -1,
		replica: -1,
		end0:    -1,
		stable:  -1,
	}
	r.end.Store(-1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers[r] = struct{}{}
	f.assign(r)
	return r
}

// Close gives back what the reader holds. Next must not be called any more.
func (r *partitionReader) Close() {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	delete(r.f.readers, r)
	if r.loop != nil {
		delete(r.loop.readers, r)
		r.loop = nil
	}
	r.turn++
	r.f.free(r.box)
	r.f.free(r.cur)
	r.box, r.cur, r.scratch = nil, nil, scratch{}
}

// GoTo makes the reader go on at offset. Not while Next is called.
func (r *partitionReader) GoTo(offset int64) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.turn++
	r.f.free(r.box)
	r.f.free(r.cur)
	r.scratch.forget()
	r.box, r.cur, r.stop, r.next, r.parked = nil, nil, nil, offset, false
	r.cut, r.stable = 0, -1
	r.recovered()
	r.wake()
}

// Next hands out what comes next. The records alias memory that is the caller's
// until its following call.
//
// Errors: ctx's; *OutOfRangeError, again and again until GoTo is called. Whatever
// else goes wrong is tried again for ever and told by Trouble.
func (r *partitionReader) Next(ctx context.Context) (connector.Run, error) {
	for {
		if err := ctx.Err(); err != nil {
			return connector.Run{}, err
		}
		if r.cur != nil && !r.cur.taken() {
			return r.cur.run(&r.scratch, r.origin), nil
		}
		if err := r.take(); err != nil {
			return connector.Run{}, err
		}
		if r.cur != nil {
			return r.cur.run(&r.scratch, r.origin), nil
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
		}
	}
}

// take gives back the block that was handed out and takes the one in the box.
func (r *partitionReader) take() error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.cur != nil {
		r.f.free(r.cur)
		r.scratch.forget()
	}
	r.cur, r.box = r.box, nil
	if r.cur == nil {
		if r.parked {
			r.parked = false
			r.wake()
		}
		return r.stop
	}
	r.wake()
	return nil
}

// wake makes the loop look whether to ask for the reader's partition. Under f.mu.
func (r *partitionReader) wake() {
	if r.loop != nil {
		signal(r.loop.wake)
	}
}

// End is the offset behind the partition's last record, as last heard; -1 while
// nothing was heard.
func (r *partitionReader) End() int64 { return r.end.Load() }

// Trouble is why nothing comes, and since when; nil when all is well.
func (r *partitionReader) Trouble() (since time.Time, err error) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.since, r.trouble
}

// free gives back what a block held. Under f.mu.
func (f *fetcher) free(b *block) {
	if b == nil {
		return
	}
	f.held -= b.charge
	if b.giant {
		f.giant = 0
	}
	f.wakeAll()
}

// squeezeAfter is how long a block may lie in a box while others wait for room.
const squeezeAfter = 2 * time.Second

// squeeze throws away what was fetched ahead for readers that do not come for
// it, so that those who wait get room: a lane that stands still keeps no more
// than the block it has taken. Under f.mu.
func (f *fetcher) squeeze(now time.Time) (freed bool) {
	for r := range f.readers {
		if r.box == nil || now.Sub(r.boxedAt) < squeezeAfter {
			continue
		}
		r.next, r.parked = r.box.at, true
		r.cut = 0
		r.turn++
		f.free(r.box)
		r.box = nil
		freed = true
	}
	return freed
}

func (f *fetcher) wakeAll() {
	for _, l := range f.leaders {
		signal(l.wake)
	}
}

// assign gives a reader to the loop of the broker that it is to be read from, or
// to findLeaders when that is not known. Under f.mu.
func (f *fetcher) assign(r *partitionReader) {
	if r.loop != nil {
		delete(r.loop.readers, r)
		r.loop = nil
	}
	to, addr, ok := f.cluster.leader(r.origin.Topic, r.origin.Partition)
	r.epoch = to.epoch
	if r.replica >= 0 {
		if near, known := f.cluster.address(r.replica); known {
			to.broker, addr, ok = r.replica, near, true
		} else {
			r.replica = -1
		}
	}
	if !ok {
		signal(f.lost)
		return
	}
	l := f.leaders[to.broker]
	if l == nil || l.addr != addr {
		l = newLeaderLoop(f, to.broker, addr)
		f.leaders[to.broker] = l
		f.wg.Go(l.run)
	}
	l.readers[r] = struct{}{}
	r.loop = l
	signal(l.wake)
}

// endsEvery is how old a log's end may be.
const endsEvery = 5 * time.Second

// watchEnds asks for the ends of the logs that nothing is fetched from. Answers to
// fetches tell them, but while a lane stands still with all that it may hold there are
// none, and that is when somebody wants to know how far it is behind.
func (f *fetcher) watchEnds() {
	ticker := time.NewTicker(endsEvery / 2)
	defer ticker.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case now := <-ticker.C:
			f.hearEnds(now.Add(-endsEvery / 2))
		}
	}
}

// hearEnds asks for the ends that were not heard since.
func (f *fetcher) hearEnds(since time.Time) {
	var old []*partitionReader
	f.mu.Lock()
	for r := range f.readers {
		if r.heardAt.Before(since) {
			old = append(old, r)
		}
	}
	f.mu.Unlock()
	for _, r := range old {
		asked := time.Now()
		end, err := f.cluster.offsetAt(f.ctx, r.origin.Topic, r.origin.Partition, sarama.OffsetNewest, sarama.ReadUncommitted)
		if err != nil {
			return // whoever reads the partition tells of it; the next time comes soon
		}
		f.mu.Lock()
		if r.heardAt.Before(asked) {
			r.end.Store(end)
			r.heardAt = asked
		}
		f.mu.Unlock()
	}
}

// lose makes findLeaders look anew for who leads r's partition. Under f.mu.
func (f *fetcher) lose(r *partitionReader) {
	if r.loop != nil {
		delete(r.loop.readers, r)
		r.loop = nil
	}
	r.replica = -1
	f.cluster.forget(r.origin.Topic)
	signal(f.lost)
}

// findLeaders finds the leaders of partitions that have none.
func (f *fetcher) findLeaders() {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(5*time.Second),
		backoff.WithMaxElapsedTime(0))
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.lost:
		}
		for {
			topics := f.leaderless()
			if len(topics) == 0 {
				break
			}
			heard, err := f.cluster.refresh(f.ctx, topics...)
			if f.ctx.Err() != nil {
				return
			}
			f.mu.Lock()
			left := 0
			for r := range f.readers {
				if r.loop != nil {
					continue
				}
				f.assign(r)
				if r.loop == nil {
					left++
					r.failed(cmp.Or(err, heard[r.origin.Topic].err, error(sarama.ErrLeaderNotAvailable)))
				}
			}
			f.mu.Unlock()
			if left == 0 {
				break
			}
			if !sleep(f.ctx, pause.NextBackOff()) {
				return
			}
		}
		pause.Reset()
	}
}

func (f *fetcher) leaderless() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[string]bool{}
	var topics []string
	for r := range f.readers {
		if r.loop == nil && !seen[r.origin.Topic] {
			seen[r.origin.Topic] = true
			topics = append(topics, r.origin.Topic)
		}
	}
	return topics
}

// quietFor is how long a partition without leader is not worth a line: leaders
// move in the course of any restart.
const quietFor = 10 * time.Second

// failed notes why nothing comes. Under f.mu.
func (r *partitionReader) failed(err error) {
	now := time.Now()
	if r.trouble == nil {
		r.since = now
	}
	changed := r.trouble == nil || !alike(r.trouble, err)
	r.trouble = err
	r.fails++
	if changed {
		r.reported = false
	}
	if r.reported || (leaderMoved(err) && now.Sub(r.since) < quietFor) {
		return
	}
	r.reported = true
	r.f.log.Warn("reading a partition fails, trying again",
		"topic", r.origin.Topic, "partition", r.origin.Partition, "offset", r.next, "err", err)
}

// recovered notes that all is well. Under f.mu.
func (r *partitionReader) recovered() {
	if r.reported {
		r.f.log.Info("reading a partition goes on",
			"topic", r.origin.Topic, "partition", r.origin.Partition, "offset", r.next, "after", time.Since(r.since).Round(time.Millisecond))
	}
	r.trouble, r.reported, r.fails, r.retryAt = nil, false, 0, time.Time{}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// sleep waits for d; it reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
