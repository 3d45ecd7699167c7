package connector

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"weir/buffer"
	"weir/sinks"
)

const (
	// maxMailing bounds the dead-letter requests in flight.
	maxMailing = 2
	// stuckAfter is how often a record is refused one by one, while its request
	// goes through, before its lane stands still: a wrong index name must not fill
	// the budget with records that cannot leave.
	stuckAfter = 3
	// overloadedShare: more than one in that many records of a request refused for
	// lack of room count as a refusal of the request. Fewer are one busy shard of
	// several; they are sent again, and to ask for less at a time would not help.
	overloadedShare = 4
	// maxRetryAfter bounds what a sink may ask for. All requests wait for it, so
	// the batch that was refused does.
	maxRetryAfter = time.Hour
)

// deliver makes one attempt with b, which has a place in the window.
func (c *Connector) deliver(b *batch, slot buffer.Slot) {
	defer c.requests.Done()
	began := time.Now()
	// The place in the window is given back once: early, if the sink says that it
	// was answered and its acknowledgement comes later, or with the outcomes.
	placed := true
	leave := func(a buffer.Answer) {
		if !placed {
			return
		}
		placed = false
		took := time.Since(began)
		if c.small(b) {
			took = 0 // says nothing about how long a full one takes
		}
		c.window.Done(slot, a, took)
	}

	outcomes, err := c.opt.Sink.Deliver(c.hard, &b.Batch, func(n sinks.Note) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n == sinks.Crowded {
			leave(buffer.Crowded)
		} else {
			leave(buffer.Clean)
		}
		c.pump()
	})
	if err == nil && len(outcomes) != len(b.Records) {
		// Silence is never an acknowledgement: who knows which record is missing?
		err = fmt.Errorf("%d outcomes for %d records: none of them is believed", len(outcomes), len(b.Records))
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	leave(c.verdictOn(b, outcomes, err))
	if err != nil {
		c.failed(b, err)
	} else {
		c.health.answered(c)
		c.settle(b, outcomes)
	}
	c.pump()
}

// small reports whether b is far from full.
func (c *Connector) small(b *batch) bool {
	return 2*len(b.Records) < c.opt.BatchRecords && 2*b.Bytes < c.opt.BatchBytes
}

// verdictOn says what an attempt with b tells the window.
func (c *Connector) verdictOn(b *batch, outcomes []sinks.Outcome, err error) buffer.Answer {
	var re *sinks.RequestError
	switch {
	case err == nil:
		refused, crowded := 0, false
		for i := range outcomes {
			switch outcomes[i].Note {
			case sinks.Overloaded:
				refused++
			case sinks.Crowded:
				crowded = true
			}
		}
		switch {
		case refused == 0 && crowded:
			return buffer.Crowded
		case refused*overloadedShare <= len(outcomes):
			return buffer.Clean
		case refused < len(outcomes) && c.small(b):
			return buffer.Neutral // two of the three that were left: no share to go by
		}
		return buffer.Refused
	case errors.As(err, &re) && crowded(re):
		return buffer.Refused
	default:
		return buffer.Neutral
	}
}

// failed deals with an attempt of which nothing is known but that it failed: no
// record is rejected for it.
func (c *Connector) failed(b *batch, err error) {
	if b = b.without(func(l *lane) bool { return l.gone }); b == nil {
		return
	}
	if c.hard.Err() != nil {
		c.retries = append(c.retries, b) // killed: its lanes are about to abandon it
		return
	}
	var re *sinks.RequestError
	if !errors.As(err, &re) {
		re = &sinks.RequestError{Err: err}
	}
	if re.Split {
		c.health.answered(c)
		if len(b.Records) == 1 {
			c.settle(b, []sinks.Outcome{{Verdict: sinks.Reject, Status: re.Status, Reason: re.Error()}})
			return
		}
		c.split(b)
		return
	}
	b.attempts++
	b.whole = true
	if re.InDoubt() {
		b.each(func(_ int, l *lane, _ *buffer.Record) { l.counts.InDoubt++ })
	}
	c.again(b)
	c.health.failed(c, re)
}

// split puts the two halves of b where b would go: at the front, at once.
func (c *Connector) split(b *batch) {
	var halves [2]*batch
	for i := range halves {
		halves[i] = &batch{attempts: b.attempts, whole: true, stuck: b.stuck, blocked: b.blocked}
	}
	b.each(func(i int, l *lane, r *buffer.Record) {
		halves[2*i/len(b.Records)].add(l, r)
	})
	c.retries = append(c.retries, halves[0], halves[1])
	c.countRetried(b)
}

// again has b sent again after a pause.
func (c *Connector) again(b *batch) {
	if b.pause == nil {
		b.pause = c.newBackoff()
	}
	b.due = time.Now().Add(b.pause.NextBackOff())
	c.retries = append(c.retries, b)
	c.countRetried(b)
}

func (c *Connector) countRetried(b *batch) {
	b.each(func(_ int, l *lane, _ *buffer.Record) { l.counts.Retried++ })
}

// settle deals with the outcomes of a request that was answered, one a record.
func (c *Connector) settle(b *batch, outcomes []sinks.Outcome) {
	var retry, rejected *batch
	var worst sinks.Outcome // of those to be retried
	progress := false
	b.each(func(i int, l *lane, r *buffer.Record) {
		o := outcomes[i]
		if l.gone {
			l.settle(r)
			return
		}
		switch o.Verdict {
		case sinks.Ack:
			progress = true
			l.counts.Delivered++
			l.counts.DeliveredBytes += int64(len(r.Key) + len(r.Value))
			tally := l.tallyOf(r)
			tally.Delivered++
			switch o.Note {
			case sinks.Duplicate:
				l.counts.Duplicates++
				tally.Duplicates++
			case sinks.Quarantined:
				l.counts.Quarantined++
				tally.Quarantined++
			}
			l.unstick(b)
			l.settle(r)
		case sinks.Reject:
			progress = true
			if rejected == nil {
				rejected = &batch{stuck: b.stuck, blocked: b.blocked}
			}
			rejected.add(l, r)
			rejected.reasons = append(rejected.reasons, o)
		default:
			if retry == nil {
				retry = &batch{attempts: b.attempts + 1, stuck: b.stuck, blocked: b.blocked, pause: b.pause}
			}
			if o.Note == sinks.InDoubt {
				l.counts.InDoubt++
			}
			if worst.Reason == "" || o.Note == sinks.Misconfigured {
				worst = o
			}
			retry.add(l, r)
		}
	})
	if retry != nil {
		if progress && !retry.stuck {
			// Others of the same request went through: these begin anew.
			retry.attempts, retry.pause = 1, nil
		}
		if retry.attempts >= stuckAfter && !retry.stuck {
			retry.stuck = true
			retry.stick(fmt.Errorf("the sink refuses single records: %s; trying again for ever", c.describe(worst)))
		}
		retry.compact()
		c.again(retry)
		c.reportRetries(retry, worst)
	}
	if rejected != nil {
		c.undeliverable(rejected)
	}
	b.progress()
}

// compact has the records of b, which wait, hold no more memory than their own.
func (b *batch) compact() {
	at := 0
	for _, p := range b.parts {
		freed := buffer.Compact(b.Records[at : at+p.n])
		p.lane.held -= freed
		p.lane.account.Release(freed)
		at += p.n
	}
}

// undeliverable deals with rejected records: on to the dead-letter sink, or, if
// there is none, their lanes stand still until the sink takes them after all.
func (c *Connector) undeliverable(b *batch) {
	first := b.reasons[0]
	c.reportRejects(b, first)
	if c.opt.DeadLetter != nil {
		c.letters = append(c.letters, b)
		return
	}
	if !b.blocked {
		wasStuck := b.stuck
		b.blocked, b.stuck = true, true
		reason := fmt.Errorf("%d records rejected (%s) and no dead_letter is configured", len(b.Records), c.describe(first))
		if wasStuck {
			b.rename(reason)
		} else {
			b.stick(reason)
		}
	}
	// A mapping can be mended: it is tried again, rarely.
	b.reasons = nil
	b.attempts++
	b.due = time.Now().Add(c.opt.RetryMax)
	c.retries = append(c.retries, b)
	c.countRetried(b)
}

// reject sends one record that a transform failed on to where rejected ones go.
func (c *Connector) reject(l *lane, r *buffer.Record, o sinks.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &batch{reasons: []sinks.Outcome{o}}
	b.add(l, r)
	l.sealed++
	c.undeliverable(b)
	c.pump()
}

// mail makes one attempt to have b's records taken by the dead-letter sink.
func (c *Connector) mail(b *batch) {
	defer c.requests.Done()
	now := time.Now()
	var letters buffer.Batch
	for i, r := range b.Records {
		letters.Add(c.letter(r, b.reasons[i], now))
	}
	outcomes, err := c.opt.DeadLetter.Deliver(c.hard, &letters, func(sinks.Note) {})
	if err == nil && len(outcomes) != len(b.Records) {
		err = fmt.Errorf("%d outcomes for %d records: none of them is believed", len(outcomes), len(b.Records))
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.mailing--
	left := &batch{attempts: b.attempts + 1, stuck: b.stuck, pause: b.pause}
	var refused sinks.Outcome
	b.each(func(i int, l *lane, r *buffer.Record) {
		switch {
		case l.gone:
			l.settle(r)
		case err == nil && outcomes[i].Verdict == sinks.Ack:
			l.counts.DeadLettered++
			l.tallyOf(r).DeadLettered++
			l.unstick(b)
			l.settle(r)
		default:
			if err == nil {
				refused = outcomes[i]
			}
			left.add(l, r)
			left.reasons = append(left.reasons, b.reasons[i])
		}
	})
	b.progress()
	if len(left.Records) > 0 {
		c.undelivered(left, refused, err)
	}
	c.pump()
}

// undelivered deals with dead letters that the dead-letter sink did not take:
// their lanes stand still, and they are tried again for ever.
func (c *Connector) undelivered(left *batch, refused sinks.Outcome, err error) {
	if err == nil {
		err = errors.New(c.describe(refused))
	}
	if c.hard.Err() == nil {
		c.report(slog.LevelWarn, "dead letter", "the dead-letter destination does not take rejected records; their lanes stand still",
			"records", len(left.Records), "error", err)
	}
	if !left.stuck {
		left.stuck = true
		left.stick(fmt.Errorf("the dead-letter destination does not take a rejected record: %w; trying again for ever", err))
	}
	if left.pause == nil {
		left.pause = c.newBackoff()
	}
	left.due = time.Now().Add(left.pause.NextBackOff())
	c.letters = append(c.letters, left)
}

// letter is r with headers that say why it is a dead letter. The original key,
// value and headers are as they came.
func (c *Connector) letter(r *buffer.Record, o sinks.Outcome, now time.Time) *buffer.Record {
	d := *r
	h := func(key, value string) buffer.Header { return buffer.Header{Key: "weir." + key, Value: []byte(value)} }
	d.Headers = append(slices.Clone(r.Headers),
		h("connector", c.opt.Name),
		h("topic", r.Topic),
		h("topic_id", r.TopicID),
		h("partition", strconv.Itoa(int(r.Partition))),
		h("offset", strconv.FormatInt(r.Offset, 10)),
		h("timestamp", timestamp(r.Time)),
		h("status", strconv.Itoa(o.Status)),
		h("reason", o.Reason),
		h("failed_at", timestamp(now)),
	)
	return &d
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// stick makes the lanes of b's records stand still because of them.
func (b *batch) stick(why error) {
	for _, p := range b.parts {
		l := p.lane
		if l.gone {
			continue
		}
		if l.stuck == 0 {
			l.blocked, l.blockedSince = why, time.Now()
		}
		l.stuck += p.n
	}
}

// rename gives another reason for lanes that stand still already.
func (b *batch) rename(why error) {
	for _, p := range b.parts {
		if !p.lane.gone {
			p.lane.blocked = why
		}
	}
}

// unstick takes back, for one record of b, that l stands still because of it.
func (l *lane) unstick(b *batch) {
	if !b.stuck {
		return
	}
	l.stuck--
	if l.stuck == 0 {
		l.blocked, l.blockedSince = nil, time.Time{}
	}
}

// progress tells the lanes of b that records of theirs may have settled.
func (b *batch) progress() {
	for _, p := range b.parts {
		if !p.lane.gone {
			p.lane.progress()
		}
	}
}

// forget drops l's records from everything that waits to be sent and frees them.
func (c *Connector) forget(l *lane) {
	strip := func(b *batch) *batch { return b.without(func(o *lane) bool { return o == l }) }
	all := func(list []*batch) []*batch {
		kept := list[:0]
		for _, b := range list {
			if b = strip(b); b != nil {
				kept = append(kept, b)
			}
		}
		clear(list[len(kept):])
		return kept
	}
	if c.open != nil {
		c.open = strip(c.open)
	}
	c.ready, c.retries, c.letters = all(c.ready), all(c.retries), all(c.letters)
	close(c.room)
	c.room = make(chan struct{})
	c.pump()
}

// without is b less the records of the lanes that gone says, which are freed;
// nil when nothing is left.
func (b *batch) without(gone func(*lane) bool) *batch {
	if !slices.ContainsFunc(b.parts, func(p part) bool { return gone(p.lane) }) {
		return b
	}
	rest := *b
	rest.Batch, rest.parts, rest.reasons = buffer.Batch{}, nil, nil
	b.each(func(i int, l *lane, r *buffer.Record) {
		if gone(l) {
			l.free(r)
			return
		}
		rest.add(l, r)
		if b.reasons != nil {
			rest.reasons = append(rest.reasons, b.reasons[i])
		}
	})
	if len(rest.Records) == 0 {
		return nil
	}
	return &rest
}
