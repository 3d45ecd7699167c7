package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/sync/semaphore"

	"weir/buffer"
	"weir/sinks"
)

const (
	// requestBytes is how much goes into one request. Kafka's own default limit for a
	// batch (message.max.bytes) is 1 MiB and a little.
	requestBytes = 1 << 20
	// roomBytes bounds the copies a Sink holds, whatever is asked of it. A record
	// that is larger goes alone.
	roomBytes = 8 << 20
)

// Sink writes records to a topic: key, value and headers as they are and in
// their order. NewSink makes one for dead letters; a Destination has one for a
// connector's records.
//
// A record is acknowledged when the answer to the very request it went out in
// says that all in-sync replicas have it (acks=all). A batch whose answer was
// lost is sent again as it was, under the same producer id and sequence, so that
// the broker stores it once; see partitionWriter. What stays unknown is the
// caller's to try again, and can be there twice (grade B).
//
// A keyed record goes to the partition that Kafka's own clients would choose for
// its key. Records without a key go where the others of their source partition
// go, so that their order stays.
type Sink struct {
	// Make makes the topic when a delivery finds that there is none, before the
	// delivery is tried again; nil: EnsureTopic. To be set before the first Deliver;
	// called by several at the same time.
	Make func(ctx context.Context, o Options, topic string) error

	opts     Options
	topic    string // with {topic} in it where that of the record belongs
	form     form
	observe  func(status int, took time.Duration)
	patience time.Duration
	room     *semaphore.Weighted
	packs    sync.Pool // of *packed: no more of them than there is room

	cluster *cluster
	ctx     context.Context // ends with Close, and all connections with it
	stop    context.CancelFunc
	sends   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	targets map[string]*target
	conns   map[string]*produceConn // by address
	noIDs   string                  // why there are no producer ids to be had; "": there are
}

// What a dead-letter topic that we make is made with: few partitions, which is
// enough for what should be rare, and the brokers' default replication.
const (
	DeadLetterPartitions  = 3
	DeadLetterReplication = -1
)

// NewSink makes a sink for dead letters. Their time is the time of writing, not
// the record's own, which has to travel in a header: Kafka deletes by that time,
// and a dead letter of an event that is older than the topic's retention would
// be gone within minutes.
//
// It connects when the first batch comes, so that it neither blocks nor fails
// while the brokers are away.
func NewSink(o Options, topic string) *Sink {
	ctx, stop := context.WithCancel(context.Background())
	c := newCluster(ctx, o)
	return &Sink{
		opts:     c.opts,
		topic:    topic,
		observe:  func(int, time.Duration) {},
		patience: patience,
		room:     semaphore.NewWeighted(roomBytes),
		cluster:  c,
		ctx:      ctx,
		stop:     stop,
		targets:  make(map[string]*target),
		conns:    make(map[string]*produceConn),
	}
}

var errClosed = errors.New("kafka sink is closed")

// Deliver implements sinks.Sink. The records are copied before they are sent:
// sarama cannot be stopped within a request, so what is on its way when ctx
// ends goes on without the caller, and is Retry for him.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	outcomes := make([]sinks.Outcome, len(b.Records))
	if len(b.Records) == 0 {
		return outcomes, nil
	}
	d := &delivery{records: b.Records}
	defer d.end()
	shares, faults := s.shareOut(ctx, b.Records)

	answered := false
	var fault shareResult
	take := func(r shareResult) {
		if r.err != nil {
			fault = r
			o := s.outcomeOf(r)
			for _, i := range r.at {
				outcomes[i] = o
			}
			return
		}
		answered = true
		for n, i := range r.at {
			outcomes[i] = r.outcomes[n]
		}
	}
	for _, r := range faults {
		take(r)
	}
	results := make(chan shareResult, len(shares))
	open := 0
	for _, sh := range shares {
		if !s.begin() {
			return nil, errClosed
		}
		open++
		go func() {
			defer s.sends.Done()
			results <- sh.writer.write(ctx, d, sh)
		}()
	}
	for open > 0 {
		select {
		case r := <-results:
			open--
			take(r)
		case <-ctx.Done():
			open = 0
		}
	}
	if answered {
		return outcomes, nil
	}
	if fault.err == nil {
		fault.err = context.Cause(ctx)
	}
	return nil, s.requestError(ctx, fault)
}

// Close ends what is on its way and gives the connections back. Deliver fails
// from then on.
func (s *Sink) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.cluster.Close()
	s.sends.Wait()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
	return nil
}

// begin counts a goroutine in, unless the sink is closed.
func (s *Sink) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sends.Add(1)
	return true
}

// delivery is one call of Deliver. Its records are the caller's again when the
// call returns, while what was copied of them may still be on its way.
type delivery struct {
	records []*buffer.Record

	mu   sync.RWMutex // read-locked while records are copied
	over bool
}

func (d *delivery) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}

// pack copies the records with the given indexes to p. It reports false when it is
// too late.
func (d *delivery) pack(p *packed, at []int, f form) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if !d.over {
		p.fill(d.records, at, f)
	}
	return !d.over
}

// share is the part of a batch that goes to one partition.
type share struct {
	writer *partitionWriter
	at     []int // indexes of its records, in their order
	runs   []run
}

// run is what goes into one request: the next so many of a share.
type run struct {
	records int
	bytes   int64
}

// add appends the record with index i and size n.
func (sh *share) add(i int, n int64) {
	sh.at = append(sh.at, i)
	if last := len(sh.runs) - 1; last >= 0 && sh.runs[last].bytes+n <= requestBytes {
		sh.runs[last].records++
		sh.runs[last].bytes += n
		return
	}
	sh.runs = append(sh.runs, run{records: 1, bytes: n})
}

// shareResult is what became of a share. An error: nobody answered for any of
// its records.
type shareResult struct {
	topic    string
	at       []int
	outcomes []sinks.Outcome
	err      error
}

// route is where the records of one source partition go.
type route struct {
	target  *target
	known   *knowledge
	keyless int32
	err     error
	failed  []int // records that could not be shared out because of err
}

// shareOut sorts records by the partitions they go to. What cannot be shared out
// is in faults.
func (s *Sink) shareOut(ctx context.Context, records []*buffer.Record) (shares []*share, faults []shareResult) {
	routes := make(map[*buffer.Origin]*route)
	byWriter := make(map[*partitionWriter]*share)
	var origin *buffer.Origin
	var r *route
	var last *share // the last keyless record's
	byKey := sarama.NewMurmur2Partitioner("")
	for i, rec := range records {
		if rec.Origin != origin || r == nil {
			origin, last = rec.Origin, nil
			if r = routes[origin]; r == nil {
				r = s.route(ctx, origin)
				routes[origin] = r
			}
		}
		if r.err != nil {
			r.failed = append(r.failed, i)
			continue
		}
		if rec.Key == nil && last != nil {
			last.add(i, rec.Size())
			continue
		}
		partition := r.keyless
		if rec.Key != nil {
			p, err := byKey.Partition(&sarama.ProducerMessage{Key: sarama.ByteEncoder(rec.Key)}, int32(len(r.known.partitions)))
			if err != nil {
				faults = append(faults, shareResult{topic: r.target.name, at: []int{i}, err: err})
				continue
			}
			partition = p
		}
		w := r.target.writer(partition)
		sh := byWriter[w]
		if sh == nil {
			sh = &share{writer: w}
			byWriter[w] = sh
			shares = append(shares, sh)
		}
		sh.add(i, rec.Size())
		if rec.Key == nil {
			last = sh
		}
	}
	for _, r := range routes {
		if r.err != nil {
			faults = append(faults, shareResult{topic: r.target.name, at: r.failed, err: r.err})
		}
	}
	return shares, faults
}

// errLoop is for a topic that would be written to what it was read from.
var errLoop = errors.New("it is the topic that the records were read from: they would go round for ever")

// route finds out where the records of o go.
func (s *Sink) route(ctx context.Context, o *buffer.Origin) *route {
	r := &route{target: s.target(strings.ReplaceAll(s.topic, "{topic}", o.Topic))}
	if r.known, r.err = s.current(ctx, r.target); r.err != nil {
		return r
	}
	// The configuration's check knows addresses. Only this knows the cluster.
	if o.Topic == r.target.name && o.Cluster != "" && o.Cluster == s.cluster.clusterID() {
		r.err = errLoop
		return r
	}
	turn := crc32.ChecksumIEEE([]byte(o.Topic)) + uint32(o.Partition)
	r.keyless = int32(turn % uint32(len(r.known.partitions)))
	if r.known.partitions[r.keyless].broker < 0 && len(r.known.writable) > 0 {
		// Where there is a leader, rather than in order.
		r.keyless = r.known.writable[turn%uint32(len(r.known.writable))]
	}
	return r
}

// outcomeOf is the outcome of the records of a share that nobody answered for.
func (s *Sink) outcomeOf(r shareResult) sinks.Outcome {
	o := sinks.Outcome{Reason: fmt.Sprintf("topic %q: %s", r.topic, printable(r.err.Error(), 700))}
	if misconfigured(r.err) {
		o.Note = sinks.Misconfigured
	}
	return o
}

func misconfigured(err error) bool {
	return IsAuth(err) || errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrClusterAuthorizationFailed) ||
		errors.Is(err, sarama.ErrInvalidTopic) || errors.Is(err, sarama.ErrUnknownTopicOrPartition) || errors.Is(err, errLoop)
}

func (s *Sink) make(ctx context.Context, topic string) error {
	if s.Make != nil {
		return s.Make(ctx, s.opts, topic)
	}
	_, err := EnsureTopic(ctx, s.opts, topic, DeadLetterPartitions, DeadLetterReplication)
	return err
}

// requestError is for a batch that nobody answered.
func (s *Sink) requestError(ctx context.Context, r shareResult) error {
	err := r.err
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) && ctx.Err() == nil {
		// The caller tries again: with the topic in place, or with what stands in its
		// way as the reason.
		if why := s.make(ctx, r.topic); why != nil {
			err = why
		} else {
			s.opts.logger().Info("the topic did not exist and was made", "topic", r.topic)
			err = errors.New("the topic did not exist; it was made now and is tried again")
		}
	}
	return &sinks.RequestError{
		Misconfigured: misconfigured(err),
		Endpoint:      fmt.Sprintf("kafka topic %q at %s", r.topic, strings.Join(s.opts.Brokers, ",")),
		Err:           s.opts.Explain(err),
	}
}
