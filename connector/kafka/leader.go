package kafka

import (
	"errors"
	"fmt"
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
	dialer *fetchDialer
	byID   bool // the broker can be asked for topics by their ids
	unpacker
	asked  int64     // requests so far
	solo   bool      // the last one was for a partition alone
	probed time.Time // when partitions without anything new were asked for last

	// Guarded by f.mu.
	readers map[*partitionReader]struct{}
	retryAt time.Time
	fails   int
	trouble error
	since   time.Time
}

func newLeaderLoop(f *fetcher, id int32, addr string) *leaderLoop {
	return &leaderLoop{
		f: f, id: id, addr: addr,
		wake:     make(chan struct{}, 1),
		unpacker: unpacker{batchMax: f.batchMax},
		readers:  make(map[*partitionReader]struct{}),
	}
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
		got, blocks, err := l.fetch(p)
		if l.f.ctx.Err() != nil {
			return
		}
		l.f.mu.Lock()
		l.settle(p, got, blocks, err)
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

// fetch sends one request, and unpacks what comes for each of its partitions.
func (l *leaderLoop) fetch(p plan) (answer, []*block, error) {
	if err := l.connect(); err != nil {
		return answer{}, nil, err
	}
	// 12 is the newest version sarama knows; it is lowered to what the broker
	// speaks, or raised by us: see question. Epoch -1: no fetch session.
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
		total += a.bytes()
		req.AddBlock(a.r.origin.Topic, a.r.origin.Partition, a.from, int32(a.bytes()), a.epoch)
	}
	req.MaxBytes = int32(min(total, maxAnswer/2))
	l.dialer.conn.question = nil
	if l.byID {
		if body, ok := question(req, p.asks); ok {
			l.dialer.conn.question = body
		}
	}
	var got answer
	_, err := l.conn.Fetch(req)
	if err == nil {
		got, err = parseAnswer(l.dialer.conn.answer, l.dialer.conn.version)
	}
	if err != nil {
		l.disconnect()
		return answer{}, nil, l.f.cluster.opts.explain(l.addr, err, &l.dialer.heard)
	}
	blocks := make([]*block, len(p.asks))
	for i := range p.asks {
		a := &p.asks[i]
		if part := got.of(a.r); part != nil && part.err == sarama.ErrNoError {
			blocks[i] = l.unpack(a.from, part, a.need, func(n int64) bool { return l.f.more(a, n) })
		}
	}
	return got, blocks, nil
}

// bytes is how many bytes are asked for, on the wire.
func (a *ask) bytes() int64 { return min(a.wire, maxAnswer/2) }

// of is what an answer holds for a reader, nil when it holds nothing.
func (a *answer) of(r *partitionReader) *partitionAnswer {
	topic := r.origin.Topic
	if a.byID {
		topic = r.origin.TopicID
	}
	return a.partitions[partitionKey{topic, r.origin.Partition}]
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
	l.dialer = &fetchDialer{clearDialer: newClearDialer(l.f.ctx, cfg)}
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, l.dialer
	b := sarama.NewBroker(l.addr)
	if err := b.Open(cfg); err != nil {
		return l.f.cluster.opts.explain(l.addr, err, nil)
	}
	if _, err := b.Connected(); err != nil {
		_ = b.Close()
		return l.f.cluster.opts.explain(l.addr, err, &l.dialer.heard)
	}
	// sarama has asked the same, and keeps it to itself.
	versions, err := b.ApiVersions(&sarama.ApiVersionsRequest{})
	if err != nil {
		_ = b.Close()
		return l.f.cluster.opts.explain(l.addr, err, &l.dialer.heard)
	}
	l.byID = slices.ContainsFunc(versions.ApiKeys, func(k sarama.ApiVersionsResponseKey) bool {
		return k.ApiKey == apiFetch && k.MinVersion <= fetchByID && fetchByID <= k.MaxVersion
	})
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

// settle deals with the answer to a request, or with its failure. Under f.mu.
func (l *leaderLoop) settle(p plan, got answer, blocks []*block, err error) {
	f := l.f
	now := time.Now()
	defer f.wakeAll() // what was set aside and did not come is room for others
	if err == nil && got.err != sarama.ErrNoError {
		err = fmt.Errorf("broker %d refuses to be read from: %w", l.id, got.err)
	}
	for _, a := range p.asks {
		a.r.askedAt = l.asked
		if err != nil {
			a.r.asked = 0
		}
		if a.giant {
			f.giantAsked = false
		}
	}
	if errors.Is(err, errAnswerSize) {
		l.works()
		l.tooLong(p, now, err)
		return
	}
	if err != nil {
		l.broken(now, err)
		return
	}
	l.works()
	if got.throttle > 0 {
		f.throttled = now.Add(got.throttle)
		f.waited += got.throttle
	}
	for i, a := range p.asks {
		a.r.asked = 0
		if a.turn != a.r.turn {
			continue // closed, or sought elsewhere meanwhile
		}
		part := got.of(a.r)
		switch {
		case part == nil && len(p.asks) > 1:
			a.r.alone = true // the others took all the room
		case part == nil:
			l.refused(a, now, fmt.Errorf("broker %d left the partition out of its answer", l.id))
		case part.err != sarama.ErrNoError:
			l.refused(a, now, part.err)
		default:
			l.deliver(a, now, part, blocks[i], got.throttle > 0)
		}
	}
}

// deliver puts what came into the reader's box.
func (l *leaderLoop) deliver(a ask, now time.Time, part *partitionAnswer, blk *block, throttled bool) {
	f, r := l.f, a.r
	if part.diverging {
		// The leader's log ends before what we have read under this epoch: records
		// that were delivered are gone from it.
		r.halt()
		return
	}
	if r.replica < 0 {
		if part.end < r.end0 {
			f.suspect(r.origin.Topic)
		}
		r.end0 = part.end
	}
	r.end.Store(part.end)
	r.heardAt = now
	r.stable = part.stable
	if part.replica >= 0 && part.replica != r.replica {
		r.replica, r.until, r.stable = part.replica, now.Add(replicaLease), -1
		f.assign(r)
		if blk.next == a.from {
			return
		}
	}
	r.cut = blk.cut
	if blk.next == a.from {
		l.nothing(a, now, part, blk, throttled)
		return
	}
	r.recovered()
	r.alone = false
	if blk.largest > 0 {
		ratio := float64(blk.charge) / float64(blk.wire)
		r.ratio = max(r.ratio*ratioDecay, ratio)
		f.ratio = max(f.ratio*ratioDecay, ratio)
		r.big = max(r.big*9/10, blk.largest)
	}
	f.held += blk.charge
	if a.giant {
		blk.giant, f.giant = true, blk.charge
	}
	f.peak = max(f.peak, f.held)
	r.next = blk.next
	r.box, r.boxedAt = blk, now
	signal(r.ready)
}

// nothing deals with an answer that brings nothing of a partition.
func (l *leaderLoop) nothing(a ask, now time.Time, part *partitionAnswer, blk *block, throttled bool) {
	r := a.r
	switch {
	case blk.err != nil:
		r.failed(blk.err)
		r.retryAt = now.Add(pauseAfter(r.fails))
		return
	case blk.short > 0:
		r.big = max(r.big, blk.short) // it comes when there is room
		return
	case part.stable <= a.from:
		r.recovered() // at the end
		r.alone = false
		return
	case throttled:
		return
	}
	// There is something, but its first batch is larger than what was asked for,
	// which is known now; or other partitions took all the room; or it is not at
	// hand (a remote tier). Alone, the first batch comes whole, whatever the size
	// asked for (KIP-74).
	if r.fails++; r.fails == 1 && blk.cut > a.wire {
		return
	}
	if !r.alone {
		r.alone = true
		return
	}
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
	case errors.Is(err, errUnknownTopicID), errors.Is(err, errInconsistentTopicID):
		f.suspect(r.origin.Topic)
		err = fmt.Errorf("broker %d does not know the topic by its id %s: it was deleted or made again, or is new: %w", l.id, r.origin.TopicID, sarama.ErrUnknownTopicOrPartition)
	}
	r.failed(err)
	r.retryAt = now.Add(pauseAfter(r.fails))
	if leaderMoved(err) {
		f.lose(r)
	}
}

// tooLong deals with an answer that is too long to be read. The partitions are
// asked for one by one, so that all others go on.
func (l *leaderLoop) tooLong(p plan, now time.Time, err error) {
	for _, a := range p.asks {
		if a.turn != a.r.turn {
			continue
		}
		if len(p.asks) > 1 {
			a.r.alone = true
			continue
		}
		a.r.failed(fmt.Errorf("the batch at offset %d cannot be read, nothing is skipped: %w", a.from, err))
		a.r.retryAt = now.Add(pauseAfter(a.r.fails))
	}
}

// broken deals with a connection that failed: whoever leads the partitions now
// is looked for.
func (l *leaderLoop) broken(now time.Time, err error) {
	l.fails++
	l.f.failures++
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
