package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"weir/sinks"
)

// patience is how long a batch is sent again when its answer was lost, before it
// is given back as unknown. The brokers find a new leader for one that died
// within broker.session.timeout.ms, 9 s.
const patience = 20 * time.Second

// partitionWriter writes to one partition, one batch at a time, so that the
// partition's order is that of the batches.
//
// It has a producer id of its own, which it shares with no other partition, and
// counts the records it stored under it (KIP-98). The broker knows the last
// batches of an id by id, epoch and sequence: one that comes again it answers
// like the first time, and stores it once. That holds only as long as two
// different batches never have the same sequence. Hence the one rule here: a
// sequence is given to another batch only when the broker said for certain that
// it did not store the first one. When nobody can tell, the id is given up with
// all its sequences. Epochs are left alone.
type partitionWriter struct {
	sink      *Sink
	target    *target
	partition int32

	turn chan struct{} // has room for the one who writes

	// troubles counts how often a batch was not taken, last is why the last time.
	// Who has waited for their turn meanwhile need not find out for themselves, or
	// each would take as long.
	troubles atomic.Int64

	// Of the one whose turn it is.
	last     error
	marked   bool // producer and epoch are valid
	producer int64
	epoch    int16
	next     int32     // sequence of the next record
	moved    time.Time // when it last looked as if another broker led the partition
}

// refusedError is the answer of a broker that does not take the records.
type refusedError struct{ sinks.Outcome }

func (e *refusedError) Error() string { return e.Reason }

// write writes a share, and stops at the first batch that the partition does not
// take: what comes behind it would be out of order, and most probably fare no
// better.
func (w *partitionWriter) write(ctx context.Context, d *delivery, sh *share) shareResult {
	r := shareResult{topic: w.target.name, at: sh.at}
	before := w.troubles.Load()
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		r.err = context.Cause(ctx)
		return r
	}
	outcomes := make([]sinks.Outcome, len(sh.at))
	err := w.last
	if w.troubles.Load() == before {
		done := 0
		err = nil
		for _, run := range sh.runs {
			end := done + run.records
			err = w.writeRun(ctx, d, sh.at[done:end], run.bytes, outcomes[done:end])
			if err != nil {
				break
			}
			done = end
		}
		if err != nil && ctx.Err() == nil { // not the caller's own end
			w.last = err
			w.troubles.Add(1)
		}
	}
	if err != nil {
		r.err = err
		rest := w.sink.outcomeOf(r)
		if refused, ok := errors.AsType[*refusedError](err); ok {
			rest = refused.Outcome
		} else if !slices.ContainsFunc(outcomes, func(o sinks.Outcome) bool { return o != sinks.Outcome{} }) {
			return r
		}
		r.err = nil
		for i := range outcomes {
			if outcomes[i] == (sinks.Outcome{}) {
				outcomes[i] = rest
			}
		}
	}
	r.outcomes = outcomes
	return r
}

// writeRun writes one run, in a copy. Its records can be the caller's again while
// the copy is under way.
func (w *partitionWriter) writeRun(ctx context.Context, d *delivery, at []int, size int64, out []sinks.Outcome) error {
	s := w.sink
	held := min(size, roomBytes)
	if s.room.Acquire(ctx, held) != nil {
		return context.Cause(ctx)
	}
	defer s.room.Release(held)
	p, _ := s.packs.Get().(*packed)
	if p == nil {
		p = new(packed)
	}
	if !d.pack(p, at, s.form) {
		return context.Canceled
	}
	err := w.store(ctx, p, out)
	if cap(p.slab) <= 2*requestBytes {
		s.packs.Put(p)
	}
	return err
}

// store writes the packed records as one batch, or, when the topic does not take
// them together, in parts. It says in out what became of each record that was
// dealt with.
//
// Errors: a *refusedError with the broker's answer, or why nobody answered. The
// records whose outcome is zero are not known to be stored.
func (w *partitionWriter) store(ctx context.Context, p *packed, out []sinks.Outcome) error {
	block, told, err := w.send(ctx, p.batch())
	if err != nil {
		return err
	}
	if !told {
		return w.refused(block)
	}
	all := func(o sinks.Outcome) {
		for i := range out {
			out[i] = o
		}
	}
	switch block.Err {
	case sarama.ErrNoError:
		all(sinks.Outcome{Verdict: sinks.Ack})
	case sarama.ErrDuplicateSequenceNumber:
		all(sinks.Outcome{Verdict: sinks.Ack, Note: sinks.Duplicate})
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge, sarama.ErrInvalidMessageSize:
		if len(out) > 1 {
			return w.halves(ctx, p, out)
		}
		all(outcome(block, sinks.Misconfigured, fmt.Sprintf(
			"the record has %d bytes, more than topic %q takes: raise its max.message.bytes", p.sizes[0], w.target.name)))
	case sarama.ErrInvalidRecord, sarama.ErrInvalidTimestamp:
		return w.without(ctx, p, out, block)
	default:
		return w.refused(block)
	}
	return nil
}

// halves stores the records of p in two parts. The batch with all of them was
// refused for certain: its sequences are free.
func (w *partitionWriter) halves(ctx context.Context, p *packed, out []sinks.Outcome) error {
	half := len(out) / 2
	if err := w.store(ctx, p.slice(0, half), out[:half]); err != nil {
		return err
	}
	return w.store(ctx, p.slice(half, len(out)), out[half:])
}

// without rejects the records that the broker names as the reason why it took
// none of them, and stores the others. A broker that names none (KIP-467, Kafka
// below 2.4) is asked with fewer and fewer.
func (w *partitionWriter) without(ctx context.Context, p *packed, out []sinks.Outcome, block *sarama.ProduceResponseBlock) error {
	bad := make(map[int]string, len(block.RecordErrors))
	for _, e := range block.RecordErrors {
		if i := int(e.BatchIndex); i >= 0 && i < len(out) {
			bad[i] = ""
			if e.BatchIndexErrorMessage != nil {
				bad[i] = ": " + printable(*e.BatchIndexErrorMessage, 200)
			}
		}
	}
	if len(bad) == 0 && len(out) > 1 {
		return w.halves(ctx, p, out)
	}
	var rest []int
	for i := range out {
		why, named := bad[i]
		if !named && len(out) > 1 {
			rest = append(rest, i)
			continue
		}
		out[i] = outcome(block, sinks.Plain, fmt.Sprintf("topic %q refuses the record", w.target.name))
		out[i].Reason += why
		out[i].Verdict = sinks.Reject
	}
	if len(rest) == 0 {
		return nil
	}
	others := make([]sinks.Outcome, len(rest))
	err := w.store(ctx, p.only(rest), others)
	for n, i := range rest {
		out[i] = others[n]
	}
	return err
}

// refused says what an answer means that is about the partition and not about
// its records.
func (w *partitionWriter) refused(block *sarama.ProduceResponseBlock) error {
	topic := w.target.name
	note := sinks.Misconfigured
	var why string
	switch block.Err {
	case sarama.ErrUnknownTopicOrPartition:
		why = fmt.Sprintf("topic %q does not exist", topic)
	case sarama.ErrTopicAuthorizationFailed:
		user := ""
		if w.sink.opts.SASL != nil {
			user = w.sink.opts.SASL.Username
		}
		why = fmt.Sprintf("%s lacks the WRITE right on topic %q", who(user), topic)
	case sarama.ErrClusterAuthorizationFailed, sarama.ErrInvalidTopic, sarama.ErrPolicyViolation:
		why = fmt.Sprintf("topic %q refuses the records", topic)
	case sarama.ErrThrottlingQuotaExceeded:
		note, why = sinks.Overloaded, "over quota"
	default:
		// Not enough replicas, another leader, a full disk: it may be better soon.
		note, why = sinks.Plain, fmt.Sprintf("partition %d of topic %q does not take the records now", w.partition, topic)
	}
	return &refusedError{outcome(block, note, why)}
}

// outcome is that of records that were not stored.
func outcome(block *sarama.ProduceResponseBlock, note sinks.Note, why string) sinks.Outcome {
	said := []string{"kafka: " + why, block.Err.Error()}
	if block.ErrorMessage != nil {
		said = append(said, printable(*block.ErrorMessage, 200))
	}
	return sinks.Outcome{Verdict: sinks.Retry, Note: note, Status: int(block.Err), Reason: strings.Join(said, ": ")}
}

// send has the partition store one batch, and returns the broker's answer to it.
// A batch that may be stored already is sent again as it was until there is an
// answer that tells, or patience or ctx ends. told: the answer tells what became
// of the batch. If not, it may be stored or not; no other batch gets its
// sequence, and its records must not be sent in another form within this
// delivery.
//
// Errors: nobody answered.
func (w *partitionWriter) send(ctx context.Context, batch *sarama.RecordBatch) (block *sarama.ProduceResponseBlock, told bool, err error) {
	if err := w.mark(ctx, batch); err != nil {
		return nil, false, err
	}
	unknown := false // an earlier attempt may have stored the batch
	var until time.Time
	for pause := 25 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		block, sent, err := w.attempt(ctx, batch)
		if err == nil && (block.Err == sarama.ErrNoError || block.Err == sarama.ErrDuplicateSequenceNumber && unknown) {
			w.next += int32(len(batch.Records))
			return block, true, nil
		}
		w.moved = time.Now()
		switch {
		case err == nil && w.disowned(block.Err):
			// The broker does not know our count, or us, or takes no ids from us. Another
			// count is begun, and the caller tries again.
			if block.Err == sarama.ErrClusterAuthorizationFailed {
				w.sink.goWithoutIDs(block.Err)
			}
			w.marked = false
			return block, false, nil
		case err == nil && !unknown && notStored(block.Err):
			return block, true, nil
		case err != nil && !unknown && !sent:
			return nil, false, err
		}
		// Nobody can tell whether it is stored. An answer to this attempt that is no
		// yes says nothing about the one before.
		if !unknown {
			unknown, until = true, time.Now().Add(w.sink.patience)
		}
		if !w.marked || errors.Is(err, sarama.ErrUnknownTopicOrPartition) || time.Now().After(until) || !w.pause(ctx, pause) {
			w.marked = false
			return block, false, err
		}
	}
}

// notStored reports whether a broker says so before it appends anything, so that
// the batch is not stored for certain. REQUEST_TIMED_OUT, NOT_LEADER_OR_FOLLOWER
// and NOT_ENOUGH_REPLICAS_AFTER_APPEND are said afterwards, too, and what is not
// known here might be.
func notStored(err sarama.KError) bool {
	switch err {
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge, sarama.ErrInvalidMessageSize, sarama.ErrInvalidMessage,
		sarama.ErrInvalidRecord, sarama.ErrInvalidTimestamp, sarama.ErrInvalidTopic, sarama.ErrNotEnoughReplicas,
		sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrPolicyViolation,
		sarama.ErrUnsupportedForMessageFormat, sarama.ErrThrottlingQuotaExceeded:
		return true
	}
	return false
}

// disowned reports whether an answer says that the producer id or its sequence
// is of no use any more. A duplicate counts as one: where none of our attempts
// went before it, it is another batch than ours that is stored.
func (w *partitionWriter) disowned(err sarama.KError) bool {
	switch err {
	case sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID, sarama.ErrInvalidProducerEpoch, sarama.ErrProducerFenced,
		sarama.ErrInvalidProducerIDMapping, sarama.ErrDuplicateSequenceNumber:
		return true
	case sarama.ErrClusterAuthorizationFailed:
		return w.marked // the right to have one was taken away
	}
	return false
}

// pause waits; it reports false when ctx or the sink ended first.
func (w *partitionWriter) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-w.sink.ctx.Done():
	}
	return false
}

// mark gives batch the writer's id and its next sequence.
//
// Errors: there is no id to be had now.
func (w *partitionWriter) mark(ctx context.Context, batch *sarama.RecordBatch) error {
	// Sequences may wrap, but not every broker agrees on how.
	if w.marked && w.next > math.MaxInt32-int32(len(batch.Records)) {
		w.marked = false
	}
	if !w.marked {
		producer, epoch, err := w.sink.newProducer(ctx)
		if err != nil {
			return err
		}
		w.producer, w.epoch, w.next = producer, epoch, 0
		w.marked = producer >= 0
	}
	batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = w.producer, w.epoch, w.next
	if !w.marked {
		batch.FirstSequence = -1
	}
	return nil
}

// newProducer asks for a producer id that nobody had before; -1 where the brokers
// give us none.
func (s *Sink) newProducer(ctx context.Context) (id int64, epoch int16, err error) {
	if s.withoutIDs() != "" {
		return -1, -1, nil
	}
	err = s.cluster.askAny(ctx, func(b *sarama.Broker) error {
		id, epoch, err = initProducerID(b)
		return err
	})
	switch {
	case err == nil:
		return id, epoch, nil
	case withoutIDsFor(err):
		s.goWithoutIDs(err)
		return -1, -1, nil
	}
	return 0, 0, fmt.Errorf("asking for a producer id: %w", err)
}

func initProducerID(b *sarama.Broker) (id int64, epoch int16, err error) {
	resp, err := b.InitProducerID(&sarama.InitProducerIDRequest{
		Version: 4, TransactionTimeout: time.Minute, ProducerID: -1, ProducerEpoch: -1,
	})
	switch {
	case err != nil:
		return 0, 0, err
	case resp.Err != sarama.ErrNoError:
		return 0, 0, resp.Err
	case resp.ProducerID < 0:
		return 0, 0, sarama.ErrIncompleteResponse
	}
	return resp.ProducerID, resp.ProducerEpoch, nil
}

// withoutIDs says why records are written without a producer id, "" when they
// have one.
func (s *Sink) withoutIDs() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noIDs
}

// withoutIDsFor reports whether a failure to get an id is one for good: Kafka
// below 2.8 wants a right of its own for it (KIP-679), and not everything that
// speaks Kafka's protocol has ids.
func withoutIDsFor(err error) bool {
	return errors.Is(err, sarama.ErrClusterAuthorizationFailed) || errors.Is(err, sarama.ErrUnsupportedVersion)
}

func (s *Sink) whyNoIDs(err error) string {
	if !errors.Is(err, sarama.ErrClusterAuthorizationFailed) {
		return "the brokers give out no producer ids"
	}
	user := ""
	if s.opts.SASL != nil {
		user = s.opts.SASL.Username
	}
	return who(user) + " lacks the IdempotentWrite right on the cluster, which old brokers want beside Write on the topic"
}

// goWithoutIDs has records written without a producer id from now on. Said once.
func (s *Sink) goWithoutIDs(err error) {
	why := s.whyNoIDs(err)
	s.mu.Lock()
	said := s.noIDs != ""
	s.noIDs = why
	s.mu.Unlock()
	if !said {
		s.opts.logger().Warn("records are written without a producer id: those whose answer is lost will be there twice", "topic", s.topic, "why", why)
	}
}

// attempt sends batch to the partition's leader. sent: it may have got there,
// whatever err says.
func (w *partitionWriter) attempt(ctx context.Context, batch *sarama.RecordBatch) (block *sarama.ProduceResponseBlock, sent bool, err error) {
	s := w.sink
	addr, err := w.leader(ctx)
	if err != nil {
		return nil, false, err
	}
	conn, err := s.conn(addr)
	if err != nil {
		return nil, false, err
	}
	req := &sarama.ProduceRequest{
		Version:      10, // KIP-951; an older broker is sent an older one
		RequiredAcks: sarama.WaitForAll,
		Timeout:      int32(produceTimeout / time.Millisecond),
	}
	req.AddBatch(w.target.name, w.partition, batch)

	type answer struct {
		resp *sarama.ProduceResponse
		err  error
	}
	answers := make(chan answer, 1) // the callback runs where sarama reads: it must not wait
	began := time.Now()
	// Not Produce: that holds the connection until the answer is there, one
	// request at a time.
	err = conn.broker.AsyncProduce(req, func(resp *sarama.ProduceResponse, err error) { answers <- answer{resp, err} })
	if encoding := new(sarama.PacketEncodingError); errors.As(err, encoding) {
		// Too large for any request.
		return &sarama.ProduceResponseBlock{Err: sarama.ErrMessageSizeTooLarge}, false, nil
	}
	var a answer
	sent = !errors.Is(err, sarama.ErrNotConnected)
	if err == nil {
		a = <-answers
		err = a.err
	}
	if err == nil {
		if block = a.resp.GetBlock(w.target.name, w.partition); block == nil {
			err = sarama.ErrIncompleteResponse
		}
	}
	took := time.Since(began)
	if err != nil {
		s.observe(0, took)
		s.drop(conn)
		return nil, sent, s.opts.explain(addr, err, &conn.dialer.heard)
	}
	s.opts.answers.note(addr)
	status := int(block.Err)
	if block.Err == sarama.ErrNoError {
		status = 200
	}
	s.observe(status, took)
	return block, true, nil
}

// leader is the address of the partition's leader.
func (w *partitionWriter) leader(ctx context.Context) (string, error) {
	k, err := w.target.since(ctx, w.moved)
	if err != nil {
		return "", err
	}
	l, ok := k.partitions[w.partition]
	if !ok {
		return "", sarama.ErrUnknownTopicOrPartition
	}
	if addr, ok := w.sink.cluster.address(l.broker); ok {
		return addr, nil
	}
	return "", fmt.Errorf("partition %d of topic %q: %w", w.partition, w.target.name, sarama.ErrLeaderNotAvailable)
}
