package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// leaderLoop fetches from one broker, one request at a time, over a connection
// of its own.
type leaderLoop struct {
	f    *fetcher
	id   int32
	addr string
	wake chan struct{} // has room for one signal: something may be asked for

	// Those of its goroutine.
	conn   *sarama.Broker
	dialer *contextDialer
	asked  int64 // requests so far
	solo   bool  // the last one was for a partition alone

	// Guarded by f.mu.
	readers map[*partitionReader]struct{}
	retryAt time.Time
	fails   int
	trouble error
	since   time.Time
}

func newLeaderLoop(f *fetcher, id int32, addr string) *leaderLoop {
	return &leaderLoop{f: f, id: id, addr: addr, wake: make(chan struct{}, 1), readers: make(map[*partitionReader]struct{})}
}

// plan is one request.
type plan struct {
	asks    []ask
	reserve int64
	wait    time.Duration
	giant   bool // it may bring a block that exceeds the limit
}

// ask is what is asked for of one partition.
type ask struct {
	r     *partitionReader
	turn  int
	from  int64
	epoch int32
	wire  int64 // bytes asked for, compressed
	need  int64 // bytes of memory set aside
}

func (l *leaderLoop) run() {
	defer l.disconnect()
	for {
		l.f.mu.Lock()
		p, idle := l.plan(time.Now())
		l.f.mu.Unlock()
		if len(p.asks) == 0 {
			timer := time.NewTimer(idle)
			select {
			case <-l.f.ctx.Done():
				timer.Stop()
				return
			case <-l.wake:
			case <-timer.C:
			}
			timer.Stop()
			if idle == retire && l.retired() {
				return
			}
			continue
		}
		resp, wire, err := l.fetch(p)
		if l.f.ctx.Err() != nil {
			return
		}
		l.f.mu.Lock()
		l.settle(p, resp, wire, err)
		l.f.mu.Unlock()
	}
}

// retire is how long a loop without anything to do looks for its end.
const retire = time.Minute

// retired ends the loop when it has no readers left.
func (l *leaderLoop) retired() bool {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if len(l.readers) > 0 {
		return false
	}
	if l.f.leaders[l.id] == l {
		delete(l.f.leaders, l.id)
	}
	return true
}

// plan chooses what to ask for now; without anything, it says when to look again
// at the latest. Under f.mu.
func (l *leaderLoop) plan(now time.Time) (p plan, idle time.Duration) {
	f := l.f
	idle = retire
	later := func(at time.Time) { idle = min(idle, max(at.Sub(now), time.Millisecond)) }
	if now.Before(l.retryAt) {
		later(l.retryAt)
		return plan{}, idle
	}
	var together, alone []*partitionReader
	left := false // somebody would have to wait for a long poll to end
	for r := range l.readers {
		switch {
		case r.replica >= 0 && now.After(r.until):
			r.replica = -1
			f.assign(r)
		case r.stop != nil, r.parked:
		case r.box != nil:
			left = left || now.Sub(r.tookAt) < busyFor
		case now.Before(r.retryAt):
			later(r.retryAt)
			left = true
		case r.alone > 0 || r.care > 0:
			alone = append(alone, r)
		default:
			together = append(together, r)
		}
	}
	oldest := func(a, b *partitionReader) int { return cmp.Compare(a.askedAt, b.askedAt) }
	slices.SortFunc(together, oldest)
	slices.SortFunc(alone, oldest)

	// Turn by turn, so that neither kind starves the other.
	if len(alone) > 0 && (!l.solo || len(together) == 0) {
		if p, ok := l.planAlone(alone[0]); ok {
			l.solo = true
			return p, 0
		}
	}
	l.solo = false
	p = l.planTogether(together)
	if len(p.asks) == 0 && len(alone) > 0 {
		if p, ok := l.planAlone(alone[0]); ok {
			l.solo = true
			return p, 0
		}
	}
	if len(p.asks) == 0 && len(together)+len(alone) > 0 {
		if f.squeeze(now) {
			return l.plan(now)
		}
		idle = min(idle, squeezeAfter/2)
	}
	p.wait = longPoll
	if left || len(alone) > 0 || len(p.asks) < len(together) {
		p.wait = shortPoll
	}
	return p, idle
}

// share is how much of the limit belongs to each partition at a time: of two
// blocks, one that is being taken and one that is fetched ahead. Partitions that
// stand still with theirs leave the others enough. Under f.mu.
func (f *fetcher) share() int64 {
	return f.limit / int64(2*max(len(f.readers), 1))
}

// used is what counts against the limit. Under f.mu.
func (f *fetcher) used() int64 { return f.held + f.reserved - f.giant }

func (f *fetcher) expansion(r *partitionReader) float64 { return max(f.ratio, r.ratio, 1) }

func (l *leaderLoop) planTogether(readers []*partitionReader) plan {
	f := l.f
	var p plan
	share := f.share()
	for _, r := range readers {
		ratio := f.expansion(r)
		// More than its share only of the first half: the other one is a share for
		// each, so that nobody waits for room while others wait for records.
		need := max(share, int64(minWire*ratio))
		if f.used()+p.reserve+need > f.limit/2 {
			need = share
		}
		if f.used()+p.reserve+need > f.limit && f.used()+p.reserve > 0 {
			break
		}
		p.asks = append(p.asks, ask{r: r, turn: r.turn, from: r.next, epoch: r.epoch, wire: max(int64(float64(need)/ratio), 1), need: need})
		p.reserve += need
	}
	f.reserved += p.reserve
	return p
}

// planAlone asks for one partition whose first batch is, or may be, larger than
// its share. The broker then sends that batch whole, whatever the size asked for
// (KIP-74).
func (l *leaderLoop) planAlone(r *partitionReader) (plan, bool) {
	f := l.f
	ratio := f.expansion(r)
	need := max(f.share(), r.big)
	p := plan{wait: shortPoll}
	if f.used()+need > f.limit && f.used() > 0 {
		if f.giant > 0 || f.giantAsked {
			return plan{}, false
		}
		p.giant = true
	}
	a := ask{r: r, turn: r.turn, from: r.next, epoch: r.epoch, need: need}
	a.wire = max(int64(float64(need)/ratio), r.grow, 1)
	if r.care > 1 {
		a.wire = 1
	}
	p.asks = []ask{a}
	if p.giant {
		f.giantAsked = true
	} else {
		p.reserve = need
		f.reserved += need
	}
	return p, true
}

// fetch sends one request. It reports the size of the answer.
func (l *leaderLoop) fetch(p plan) (resp *sarama.FetchResponse, wire int64, err error) {
	if err := l.connect(); err != nil {
		return nil, 0, err
	}
	// 12 is the newest version sarama knows; it is lowered to what the broker
	// speaks. Epoch -1: no fetch session.
	req := &sarama.FetchRequest{
		Version:      12,
		MaxWaitTime:  int32(p.wait / time.Millisecond),
		MinBytes:     1,
		Isolation:    sarama.ReadCommitted,
		SessionEpoch: -1,
		RackID:       l.f.cluster.opts.Rack,
	}
	l.asked++
	var total int64
	for _, a := range p.asks {
		total += a.wire
		req.AddBlock(a.r.origin.Topic, a.r.origin.Partition, a.from, int32(min(a.wire, 1<<30)), a.epoch)
	}
	req.MaxBytes = int32(min(total, 1<<30))
	before := l.dialer.heard.bytes
	resp, err = l.conn.Fetch(req)
	if err != nil && disconnected(err) {
		_ = l.conn.Close()
		return nil, 0, l.f.cluster.opts.explain(l.addr, err, &l.dialer.heard)
	}
	return resp, l.dialer.heard.bytes - before, err
}

// connect opens the connection when there is none.
func (l *leaderLoop) connect() error {
	if l.conn != nil {
		if ok, _ := l.conn.Connected(); ok {
			return nil
		}
		l.disconnect()
	}
	cfg, err := l.f.cluster.opts.config()
	if err != nil {
		return err
	}
	cfg.Net.ReadTimeout = fetchTimeout
	l.dialer = &contextDialer{ctx: l.f.ctx, timeout: cfg.Net.DialTimeout}
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, l.dialer
	b := sarama.NewBroker(l.addr)
	if err := b.Open(cfg); err != nil {
		return l.f.cluster.opts.explain(l.addr, err, nil)
	}
	if _, err := b.Connected(); err != nil {
		_ = b.Close()
		return l.f.cluster.opts.explain(l.addr, err, &l.dialer.heard)
	}
	l.conn = b
	return nil
}

// fetchTimeout is how long a broker may be silent, beyond the long poll, before
// it is taken for dead.
const fetchTimeout = 20 * time.Second

func (l *leaderLoop) disconnect() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// disconnected tells a connection that failed from an answer that could not be
// decoded.
func disconnected(err error) bool {
	if _, ok := errors.AsType[sarama.PacketDecodingError](err); ok {
		return false
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return closed(err) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, sarama.ErrNotConnected) || errors.Is(err, context.Canceled)
}

// settle deals with the answer to a request, or with its failure. Under f.mu.
func (l *leaderLoop) settle(p plan, resp *sarama.FetchResponse, wire int64, err error) {
	f := l.f
	now := time.Now()
	f.reserved -= p.reserve
	if p.giant {
		f.giantAsked = false
	}
	defer f.wakeAll() // what was set aside and did not come is room for others
	for _, a := range p.asks {
		a.r.askedAt = l.asked
	}
	if err != nil {
		if l.conn == nil || disconnected(errors.Unwrap(err)) || disconnected(err) {
			l.broken(p, now, err)
		} else {
			l.unreadable(p, now, err)
		}
		return
	}
	l.works()
	if resp.ThrottleTime > 0 {
		f.throttled = now.Add(resp.ThrottleTime)
	}
	var memory, payload int64
	blocks := make([]*block, len(p.asks))
	filled := 0
	for i, a := range p.asks {
		b := resp.GetBlock(a.r.origin.Topic, a.r.origin.Partition)
		if b == nil || b.Err != sarama.ErrNoError {
			continue
		}
		var n int64
		blocks[i], n = newBlock(a.from, b)
		payload += n
		memory += blocks[i].charge
		if len(blocks[i].sets) > 0 {
			filled++
		}
	}
	if payload > 0 && wire > 0 {
		decay := ratioDecay
		if f.answers < startAnswers {
			f.answers++
			decay = startDecay
		}
		f.ratio = max(f.ratio*decay, float64(memory)/float64(wire))
	}
	for i, a := range p.asks {
		if a.turn != a.r.turn {
			continue // closed, or sought elsewhere meanwhile
		}
		b := resp.GetBlock(a.r.origin.Topic, a.r.origin.Partition)
		switch {
		case b == nil && len(p.asks) > 1:
			a.r.alone = max(a.r.alone, 1) // the others took all the room
		case b == nil:
			l.refused(a, now, fmt.Errorf("broker %d left the partition out of its answer", l.id))
		case b.Err != sarama.ErrNoError:
			l.refused(a, now, b.Err)
		default:
			if filled == 1 && len(blocks[i].sets) > 0 && wire > 0 {
				a.r.ratio = max(a.r.ratio*ratioDecay, float64(blocks[i].charge)/float64(wire))
			}
			l.deliver(a, now, resp, b, blocks[i], filled > 1)
		}
	}
}

// deliver puts what came into the reader's box.
func (l *leaderLoop) deliver(a ask, now time.Time, resp *sarama.FetchResponse, b *sarama.FetchResponseBlock, blk *block, shared bool) {
	f, r := l.f, a.r
	if b.DivergingEpoch != nil {
		// The leader's log ends before what we have read under this epoch: records
		// that were delivered are gone from it.
		r.halt()
		return
	}
	if r.replica < 0 {
		if b.HighWaterMarkOffset < r.end0 {
			f.suspect(r.origin.Topic)
		}
		r.end0 = b.HighWaterMarkOffset
	}
	r.end.Store(b.HighWaterMarkOffset)
	if b.PreferredReadReplica >= 0 && b.PreferredReadReplica != r.replica {
		r.replica, r.until = b.PreferredReadReplica, now.Add(replicaLease)
		f.assign(r)
	}
	stable := b.HighWaterMarkOffset
	if resp.Version >= 4 {
		stable = b.LastStableOffset
	}
	if blk.next == a.from {
		l.nothing(a, now, resp, stable)
		return
	}
	if shared {
		blk.detach()
	}
	r.recovered()
	r.grow = 0
	if r.care > 0 {
		r.care--
	}
	r.big = r.big * 9 / 10
	if blk.charge > a.need {
		r.big = max(r.big, blk.charge)
		r.alone = aloneFor
	} else if r.alone > 0 {
		r.alone--
	}
	if blk.next >= stable {
		r.alone = 0 // at the end: to wait there alone would keep the others waiting
	}
	f.held += blk.charge
	if f.giant == 0 && f.held > f.limit && blk.charge > a.need {
		blk.giant = true
		f.giant = blk.charge
	}
	f.peak = max(f.peak, f.held)
	r.next = blk.next
	r.box, r.boxedAt = blk, now
	signal(r.ready)
}

// nothing deals with an answer that holds nothing for a partition.
func (l *leaderLoop) nothing(a ask, now time.Time, resp *sarama.FetchResponse, stable int64) {
	r := a.r
	if stable <= a.from {
		r.recovered() // at the end
		r.alone = 0
		return
	}
	if resp.ThrottleTime > 0 {
		return
	}
	// There is something, but its first batch is larger than what was asked for,
	// or other partitions took all the room.
	if r.alone == 0 && r.care == 0 {
		r.alone = aloneFor
		return
	}
	// Alone, the first batch comes whole. So that was an empty one with the next cut
	// off behind it, or data that is not at hand (a remote tier), or a batch that
	// cannot be read and looks as if it were cut off.
	r.grow = min(max(2*r.grow, 2*a.wire, minWire), 1<<30)
	r.fails++
	r.retryAt = now.Add(pauseAfter(r.fails))
	if r.fails > 10 {
		r.failed(fmt.Errorf("broker %d has records from offset %d on but sends none", l.id, a.from))
	}
}

// pauseAfter is the pause after that many failures in a row: 20 ms to 5 s.
func pauseAfter(fails int) time.Duration {
	return min(10*time.Millisecond<<min(fails, 9), 5*time.Second)
}

// halt makes the reader report that its offset is out of range.
func (r *partitionReader) halt() {
	r.stop = &OutOfRangeError{Topic: r.origin.Topic, Partition: r.origin.Partition, Offset: r.next}
	signal(r.ready)
}

// leaderMoved reports whether an error only says that another broker has to be
// asked, or the same a little later.
func leaderMoved(err error) bool {
	for _, e := range []sarama.KError{
		sarama.ErrNotLeaderForPartition, sarama.ErrLeaderNotAvailable, sarama.ErrReplicaNotAvailable,
		sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch, sarama.ErrOffsetNotAvailable,
		sarama.ErrKafkaStorageError, sarama.ErrUnknownTopicOrPartition,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refused deals with an error for one partition.
func (l *leaderLoop) refused(a ask, now time.Time, err error) {
	f, r := l.f, a.r
	if r.replica >= 0 {
		// A replica can lag behind what the leader has served: only the leader's word
		// counts.
		r.replica = -1
		f.assign(r)
		return
	}
	switch {
	case errors.Is(err, sarama.ErrOffsetOutOfRange):
		r.halt()
		return
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		f.suspect(r.origin.Topic)
	}
	r.failed(err)
	r.retryAt = now.Add(pauseAfter(r.fails))
	if leaderMoved(err) {
		f.lose(r)
	}
}

// unreadable deals with an answer that could not be decoded: a batch that is
// damaged, or larger than sarama may decompress. The partitions are asked for one
// by one, and the one that cannot be read batch by batch, so that all others go
// on and so does that one up to the very batch.
func (l *leaderLoop) unreadable(p plan, now time.Time, err error) {
	for _, a := range p.asks {
		r := a.r
		if a.turn != r.turn {
			continue
		}
		if len(p.asks) > 1 {
			r.care = max(r.care, 1)
			continue
		}
		if r.care < 2 {
			r.care = 2
			continue
		}
		r.failed(fmt.Errorf("the batch at offset %d cannot be read, nothing is skipped: %w", a.from, err))
		r.retryAt = now.Add(pauseAfter(r.fails))
	}
}

// broken deals with a connection that failed: whoever leads the partitions now
// is looked for.
func (l *leaderLoop) broken(p plan, now time.Time, err error) {
	l.fails++
	l.retryAt = now.Add(pauseAfter(l.fails))
	if l.trouble == nil {
		l.since = now
	}
	if l.trouble == nil || !alike(l.trouble, err) {
		l.f.log.Warn("reading from a broker fails, trying again", "broker", l.id, "address", l.addr, "err", err)
	}
	l.trouble = err
	for r := range l.readers {
		if r.box == nil {
			l.f.lose(r)
		}
	}
}

// works notes that the broker answers.
func (l *leaderLoop) works() {
	if l.trouble != nil {
		l.f.log.Info("reading from a broker goes on", "broker", l.id, "address", l.addr, "after", time.Since(l.since).Round(time.Millisecond))
	}
	l.trouble, l.fails, l.retryAt = nil, 0, time.Time{}
}
