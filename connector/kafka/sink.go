package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
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
	// produceTimeout is how long the leader may wait for the replicas.
	produceTimeout = 10 * time.Second
)

// Sink writes records to one topic as they are: key, value and headers in their
// order. It is meant for dead letters. Their time is the time of writing, not
// the record's own, which has to travel in a header: Kafka deletes by that time,
// and a dead letter of an event that is older than the topic's retention would
// be gone within minutes.
//
// A record is acknowledged when the answer to the very request it went out in
// says that all in-sync replicas have it (acks=all). There is no producer id
// and no retry in here, hence no sequence or epoch that could go wrong and
// nothing that could be taken for a duplicate: whoever calls tries again, and a
// record whose answer was lost is then there twice (grade B).
//
// A keyed record goes to the partition that Kafka's own clients would choose
// for its key; records without a key go to one partition after the other.
type Sink struct {
	opts  Options
	topic string
	room  *semaphore.Weighted
	turn  atomic.Uint32 // partition of the next run's records without key
	sends sync.WaitGroup

	leaders sync.Mutex // see leader

	mu     sync.Mutex
	client sarama.Client // nil: made when it is needed
	closed bool
}

// What a dead-letter topic that we make is made with: few partitions, which is
// enough for what should be rare, and the brokers' default replication.
const (
	DeadLetterPartitions  = 3
	DeadLetterReplication = -1
)

// NewSink connects when the first batch comes, so that it neither blocks nor
// fails while the brokers are away.
func NewSink(o Options, topic string) *Sink {
	return &Sink{opts: o, topic: topic, room: semaphore.NewWeighted(roomBytes)}
}

var errClosed = errors.New("kafka sink is closed")

// Deliver implements sinks.Sink. The records are copied before they are sent:
// sarama cannot be stopped within a request, so what is on its way when ctx
// ends goes on without the caller, and is Retry for him.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, _ func()) ([]sinks.Outcome, error) {
	type result struct {
		at       int
		outcomes []sinks.Outcome
		err      error
	}
	outcomes := make([]sinks.Outcome, len(b.Records))
	results := make(chan result, len(b.Records))
	var open int
	var fault error
	answered := len(b.Records) == 0
	take := func(r result) {
		open--
		if r.err != nil {
			fault = r.err
			for i := range r.outcomes {
				r.outcomes[i] = sinks.Outcome{Reason: r.err.Error()}
			}
		} else {
			answered = true
		}
		copy(outcomes[r.at:], r.outcomes)
	}

	for at := 0; at < len(b.Records) && ctx.Err() == nil; {
		end, size := nextRun(b.Records, at)
		held := min(size, roomBytes)
		if s.room.Acquire(ctx, held) != nil {
			break
		}
		if !s.begin() {
			s.room.Release(held)
			return nil, errClosed
		}
		run := copyRun(b.Records[at:end], size)
		open++
		go func(at int) {
			defer s.sends.Done()
			defer s.room.Release(held)
			r := result{at: at, outcomes: make([]sinks.Outcome, len(run))}
			r.err = s.send(run, r.outcomes)
			results <- r
		}(at)
		at = end
	}
	for open > 0 {
		select {
		case r := <-results:
			take(r)
		case <-ctx.Done():
			open = 0
		}
	}
	if !answered {
		if fault == nil {
			fault = context.Cause(ctx)
		}
		return nil, s.requestError(ctx, fault)
	}
	return outcomes, nil
}

// Close ends what is on its way and gives the connections back. Deliver fails
// from then on.
func (s *Sink) Close() error {
	s.mu.Lock()
	s.closed = true
	client := s.client
	s.client = nil
	s.mu.Unlock()
	var err error
	if client != nil {
		err = client.Close()
	}
	s.sends.Wait()
	return err
}

// begin counts a run in, unless the sink is closed.
func (s *Sink) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sends.Add(1)
	return true
}

func nextRun(records []*buffer.Record, at int) (end int, size int64) {
	for end = at; end < len(records); end++ {
		n := records[end].Size()
		if end > at && size+n > requestBytes {
			break
		}
		size += n
	}
	return end, size
}

func copyRun(records []*buffer.Record, size int64) []buffer.Record {
	run := make([]buffer.Record, len(records))
	for i, r := range records {
		run[i] = *r
	}
	return buffer.NewChunk(run, size).Records
}

// send writes run and says in out, one place a record, what became of it. An
// error: no broker answered for any of them.
func (s *Sink) send(run []buffer.Record, out []sinks.Outcome) error {
	client, err := s.connect()
	if err != nil {
		return err
	}
	groups, err := s.assign(client, run)
	if err != nil {
		s.recover(client, err)
		return err
	}
	// One request a partition, all at the same time.
	faults := make(chan error, len(groups))
	for partition, records := range groups {
		p := produce{sink: s, client: client, partition: partition, run: run, out: out}
		go func() { faults <- p.send(records) }()
	}
	var fault error
	answered := false
	for range groups {
		if err := <-faults; err != nil {
			fault = err
		} else {
			answered = true
		}
	}
	if fault != nil {
		s.recover(client, fault)
		for i := range out {
			if out[i] == (sinks.Outcome{}) { // nobody answered for it
				out[i].Reason = fault.Error()
			}
		}
	}
	if answered {
		return nil
	}
	return fault
}

// connect is the client in use, or a new one. It does not wait for a broker.
func (s *Sink) connect() (sarama.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.client == nil {
		c, err := s.opts.config()
		if err != nil {
			return nil, err
		}
		c.Net.ReadTimeout = produceTimeout + 10*time.Second
		c.Net.WriteTimeout = 10 * time.Second
		// The caller tries again; here it would only delay the news.
		c.Metadata.Retry.Max = 1
		client, err := sarama.NewClient(s.opts.Brokers, c)
		if err != nil {
			return nil, err
		}
		s.client = client
	}
	return s.client, nil
}

// recover does after a failure what makes the next attempt better. Where no
// broker lets us in, the password may be another one by now, and with PLAIN only
// a new client reads it; anything else may mean that the leader is another.
func (s *Sink) recover(client sarama.Client, err error) {
	if !IsAuth(err) && !errors.Is(err, sarama.ErrOutOfBrokers) {
		_ = client.RefreshMetadata(s.topic) // its failure is the next attempt's
		return
	}
	s.mu.Lock()
	ours := s.client == client
	if ours {
		s.client = nil
	}
	s.mu.Unlock()
	if ours {
		_ = client.Close()
	}
}

// assign groups the indexes of run by partition.
func (s *Sink) assign(client sarama.Client, run []buffer.Record) (map[int32][]int, error) {
	all, err := client.Partitions(s.topic)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, sarama.ErrUnknownTopicOrPartition
	}
	spread := all // where a leader is known, rather than nowhere
	if writable, err := client.WritablePartitions(s.topic); err == nil && len(writable) > 0 {
		spread = writable
	}
	keyless := spread[int(s.turn.Add(1)-1)%len(spread)]
	byKey := sarama.NewMurmur2Partitioner(s.topic)
	groups := map[int32][]int{}
	for i := range run {
		p := keyless
		if run[i].Key != nil {
			p, err = byKey.Partition(&sarama.ProducerMessage{Key: sarama.ByteEncoder(run[i].Key)}, int32(len(all)))
			if err != nil {
				return nil, err
			}
		}
		groups[p] = append(groups[p], i)
	}
	return groups, nil
}

// produce is the sending of one run's records to one partition.
type produce struct {
	sink      *Sink
	client    sarama.Client
	partition int32
	run       []buffer.Record
	out       []sinks.Outcome
}

// send writes the records with the given indexes as one batch, in halves where
// the topic does not take so much at once. An error: nobody answered.
func (p produce) send(records []int) error {
	block, err := p.request(records)
	if tooLarge := new(sarama.PacketEncodingError); errors.As(err, tooLarge) {
		// Too large for any request.
		block, err = &sarama.ProduceResponseBlock{Err: sarama.ErrMessageSizeTooLarge}, nil
	}
	if err != nil {
		return err
	}
	switch block.Err {
	case sarama.ErrNoError:
		for _, i := range records {
			p.out[i] = sinks.Outcome{Verdict: sinks.Ack}
		}
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge, sarama.ErrInvalidMessageSize:
		if len(records) > 1 {
			half := len(records) / 2
			return errors.Join(p.send(records[:half]), p.send(records[half:]))
		}
		p.refuse(records, block, sinks.Misconfigured, fmt.Sprintf(
			"the record has %d bytes, more than topic %q takes: raise its max.message.bytes", p.run[records[0]].Size(), p.sink.topic))
	case sarama.ErrUnknownTopicOrPartition:
		p.refuse(records, block, sinks.Misconfigured, fmt.Sprintf("topic %q does not exist", p.sink.topic))
		_ = p.client.RefreshMetadata(p.sink.topic)
	case sarama.ErrTopicAuthorizationFailed:
		user := ""
		if p.sink.opts.SASL != nil {
			user = p.sink.opts.SASL.Username
		}
		p.refuse(records, block, sinks.Misconfigured, fmt.Sprintf("%s lacks the WRITE right on topic %q", who(user), p.sink.topic))
	case sarama.ErrClusterAuthorizationFailed, sarama.ErrInvalidTopic, sarama.ErrInvalidRecord, sarama.ErrInvalidTimestamp, sarama.ErrPolicyViolation:
		p.refuse(records, block, sinks.Misconfigured, fmt.Sprintf("topic %q refuses the records", p.sink.topic))
	case sarama.ErrThrottlingQuotaExceeded:
		p.refuse(records, block, sinks.Overloaded, "over quota")
	default:
		// Not enough replicas, another leader, a full disk: it may be better soon.
		p.refuse(records, block, sinks.Plain, fmt.Sprintf("partition %d of topic %q does not take the records now", p.partition, p.sink.topic))
		_ = p.client.RefreshMetadata(p.sink.topic)
	}
	return nil
}

// refuse marks records as not stored.
func (p produce) refuse(records []int, block *sarama.ProduceResponseBlock, note sinks.Note, why string) {
	said := []string{"kafka: " + why, block.Err.Error()}
	if block.ErrorMessage != nil {
		said = append(said, printable(*block.ErrorMessage, 200))
	}
	o := sinks.Outcome{Verdict: sinks.Retry, Note: note, Status: int(block.Err), Reason: strings.Join(said, ": ")}
	for _, i := range records {
		p.out[i] = o
	}
}

// request is one attempt with one batch.
func (p produce) request(records []int) (*sarama.ProduceResponseBlock, error) {
	leader, err := p.sink.leader(p.client, p.partition)
	if err != nil {
		return nil, err
	}
	req := &sarama.ProduceRequest{
		Version:      10, // KIP-951; an older broker is sent an older one
		RequiredAcks: sarama.WaitForAll,
		Timeout:      int32(produceTimeout / time.Millisecond),
	}
	req.AddBatch(p.sink.topic, p.partition, p.batch(records))

	type answer struct {
		resp *sarama.ProduceResponse
		err  error
	}
	answers := make(chan answer, 1) // the callback runs where sarama reads: it must not wait
	// Not Produce: that holds the connection until the answer is there, one
	// request at a time.
	err = leader.AsyncProduce(req, func(resp *sarama.ProduceResponse, err error) { answers <- answer{resp, err} })
	var a answer
	if err == nil {
		a = <-answers
		err = a.err
	}
	if err != nil {
		if encoding := new(sarama.PacketEncodingError); !errors.As(err, encoding) && !errors.Is(err, sarama.ErrNotConnected) {
			_ = leader.Close() // a broken connection is opened again when the leader is asked for
		}
		return nil, p.sink.opts.explain(leader.Addr(), err, nil)
	}
	block := a.resp.GetBlock(p.sink.topic, p.partition)
	if block == nil {
		return nil, p.sink.opts.explain(leader.Addr(), sarama.ErrIncompleteResponse, nil)
	}
	return block, nil
}

// leader is the broker that leads partition, connected or about to be. One
// question at a time: of two that open the same connection, sarama lets the
// second go on before the first holds the connection's lock, and that one then
// finds it not connected. Nobody waits here who could do without the answer.
func (s *Sink) leader(client sarama.Client, partition int32) (*sarama.Broker, error) {
	s.leaders.Lock()
	defer s.leaders.Unlock()
	return client.Leader(s.topic, partition)
}

func (p produce) batch(records []int) *sarama.RecordBatch {
	now := time.Now()
	b := &sarama.RecordBatch{
		Version:         2,
		FirstTimestamp:  now,
		MaxTimestamp:    now,
		LastOffsetDelta: int32(len(records) - 1),
		ProducerID:      -1,
		ProducerEpoch:   -1,
		FirstSequence:   -1,
		Records:         make([]*sarama.Record, len(records)),
	}
	for n, i := range records {
		r := &p.run[i]
		rec := &sarama.Record{OffsetDelta: int64(n), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			rec.Headers = append(rec.Headers, &sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		b.Records[n] = rec
	}
	return b
}

// requestError is for a batch that nobody answered.
func (s *Sink) requestError(ctx context.Context, err error) error {
	if errors.Is(err, sarama.ErrOutOfBrokers) && ctx.Err() == nil {
		// sarama leaves out why: ask once more, in a way that tells.
		if _, why := s.opts.Metadata(ctx, s.topic); why != nil {
			err = why
		}
	}
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) && ctx.Err() == nil {
		// The caller tries again: with the topic in place, or with what stands in its
		// way as the reason.
		if why := EnsureTopic(ctx, s.opts, s.topic, DeadLetterPartitions, DeadLetterReplication); why != nil {
			err = why
		} else {
			s.opts.logger().Info("the topic did not exist and was made", "topic", s.topic, "partitions", DeadLetterPartitions)
			err = errors.New("the topic did not exist; it was made now and is tried again")
		}
	}
	return &sinks.RequestError{
		Misconfigured: IsAuth(err) || errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrClusterAuthorizationFailed),
		Endpoint:      fmt.Sprintf("kafka topic %q at %s", s.topic, strings.Join(s.opts.Brokers, ",")),
		Err:           s.opts.Explain(err),
	}
}
