package splunk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/httpclient"
)

// maxRequests bounds the requests of one Deliver: a batch with one bad event
// takes two or three, one of nothing but bad events takes turns with others.
const maxRequests = 100

// A delivery is one Deliver.
type delivery struct {
	sink     *Sink
	endpoint *endpoint
	channel  *channel
	todo     []piece // a stack: the next one is last
	limit    int     // events in a request at most
	outcomes []sinks.Outcome
	decided  int // outcomes that are set
	waits    []wait
	note     sinks.Note // Crowded, when a collector said that it is nearly full
}

// A piece is a part of the batch that goes into one request.
type piece struct {
	records []*buffer.Record
	at      []int // where they are in the batch
}

func (p piece) cut(from, to int) piece { return piece{p.records[from:to], p.at[from:to]} }

// A wait is for the acknowledgement of a piece.
type wait struct {
	piece  piece
	ticket *ticket
}

// Deliver sends b, as a rule in one request. Where the collector refuses an event
// by its number, that one is dealt with and the others are sent on.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	d := delivery{sink: s, endpoint: s.pick(), limit: len(b.Records), outcomes: make([]sinks.Outcome, len(b.Records))}
	defer s.leave(d.endpoint)
	var err error
	if d.channel, err = s.open(ctx, d.endpoint); err != nil {
		return nil, err
	}
	at := make([]int, len(b.Records))
	for i := range at {
		at[i] = i
	}
	d.push(piece{b.Records, at})
	err = d.send(ctx)
	if len(d.waits) > 0 {
		if err == nil {
			answered(d.note)
		}
		if werr := d.await(ctx); err == nil {
			err = werr
		}
	}
	if err == nil {
		return d.outcomes, nil
	}
	if d.decided == 0 {
		return nil, err
	}
	d.postpone(err)
	return d.outcomes, nil
}

func (d *delivery) push(p piece) {
	if len(p.records) > 0 {
		d.todo = append(d.todo, p)
	}
}

// send sends the pieces, one after the other.
//
// Errors: a *sinks.RequestError of the request that failed; what has no outcome
// and no wait was not delivered then.
func (d *delivery) send(ctx context.Context) error {
	for requests := 0; len(d.todo) > 0; requests++ {
		if requests == maxRequests {
			return &sinks.RequestError{Endpoint: d.endpoint.name, Err: errors.New("too many bad events for one go")}
		}
		p := d.todo[len(d.todo)-1]
		d.todo = d.todo[:len(d.todo)-1]
		if len(p.records) > d.limit {
			d.push(p.cut(d.limit, len(p.records)))
			p = p.cut(0, d.limit)
		}
		said, err := d.sink.send(ctx, d.channel, p.records)
		if err != nil {
			return err
		}
		switch said.effect {
		case accepted:
			d.limit = min(2*d.limit, len(d.outcomes))
			o := sinks.Outcome{Verdict: sinks.Ack, Status: said.status}
			if said.reply.code != codeSuccess {
				o.Note, d.note = sinks.Crowded, sinks.Crowded
			}
			if said.ticket != nil {
				d.waits = append(d.waits, wait{p, said.ticket})
			} else {
				d.decide(p, o)
			}
		case poisoned:
			d.limit = max(len(p.records)/2, 1)
			d.push(p.cut(said.at+1, len(p.records)))
			d.decide(p.cut(said.at, said.at+1), sinks.Outcome{Verdict: sinks.Reject, Status: said.status, Reason: said.reason})
			if said.prefix {
				d.decide(p.cut(0, said.at), sinks.Outcome{Verdict: sinks.Ack, Status: http.StatusOK})
			} else {
				d.push(p.cut(0, said.at))
			}
		case misrouted:
			d.misrouted(p, said)
		}
	}
	return nil
}

// decide sets the outcome of all of p.
func (d *delivery) decide(p piece, o sinks.Outcome) {
	for _, i := range p.at {
		d.outcomes[i] = o
	}
	d.decided += len(p.at)
}

// misrouted puts off the events of p that would go to the same index as the one
// that was refused, and has the others sent. Of those before it nobody knows
// whether they are indexed.
func (d *delivery) misrouted(p piece, said said) {
	l := &d.sink.layout
	name := l.index(p.records[said.at])
	var bad, rest piece
	for i, r := range p.records {
		to := &rest
		if i == said.at || l.index(r) == name {
			to = &bad
		}
		to.records, to.at = append(to.records, r), append(to.at, p.at[i])
	}
	d.decide(bad, sinks.Outcome{Status: said.status, Note: sinks.Misconfigured,
		Reason: fmt.Sprintf("index %q: %s", name, said.reason)})
	d.push(rest)
}

// await waits for all acknowledgements.
//
// Errors: a *sinks.RequestError when one did not come.
func (d *delivery) await(ctx context.Context) error {
	s := d.sink
	timer := time.NewTimer(s.cfg.AckTimeout)
	defer timer.Stop()
	var failure error
	for _, w := range d.waits {
		select {
		case <-w.ticket.done:
		case <-timer.C:
			timer.Reset(0) // for the others
			s.giveUp(w.ticket, s.noAck(w.ticket.channel))
		case <-ctx.Done():
			s.giveUp(w.ticket, context.Cause(ctx))
		case <-s.closing.Done():
			s.giveUp(w.ticket, errors.New("closed"))
		}
		<-w.ticket.done
		if w.ticket.err == nil {
			d.decide(w.piece, sinks.Outcome{Verdict: sinks.Ack, Status: http.StatusOK})
			continue
		}
		failure = &sinks.RequestError{Endpoint: d.endpoint.name, Err: fmt.Errorf(
			"accepted, but not acknowledged, so it is sent again and can be there twice: %w", w.ticket.err)}
	}
	return failure
}

// noAck says why no acknowledgement came through ch in time.
func (s *Sink) noAck(ch *channel) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := fmt.Errorf("no acknowledgement within %s", s.cfg.AckTimeout)
	if ch.trouble != nil {
		err = fmt.Errorf("%w (asking for it: %w)", err, ch.trouble)
	}
	return err
}

// postpone gives what is not decided the reason why.
func (d *delivery) postpone(err error) {
	o := sinks.Outcome{Reason: err.Error()}
	var re *sinks.RequestError
	if errors.As(err, &re) {
		o.Status, o.Note = re.Status, re.Note()
	}
	for i := range d.outcomes {
		if d.outcomes[i] == (sinks.Outcome{}) {
			d.outcomes[i] = o
		}
	}
}

// said is what became of one request that was answered.
type said struct {
	effect effect // not failed
	reply  reply
	status int
	at     int    // the event it is about, with poisoned and misrouted
	prefix bool   // with poisoned: those before it are delivered
	reason string // with poisoned and misrouted
	ticket *ticket
}

// send sends records as one request.
//
// Errors: a *sinks.RequestError; nothing is known about any record then.
func (s *Sink) send(ctx context.Context, ch *channel, records []*buffer.Record) (said, error) {
	ep := ch.endpoint
	token, err := s.token.Value()
	if err != nil {
		return said{}, &sinks.RequestError{Endpoint: ep.name, Misconfigured: true, Err: fmt.Errorf("token: %w", err)}
	}
	e, ok := s.pools.encoders.Get().(*encoder)
	if !ok {
		e = new(encoder)
	}
	e.start(&s.layout, records)
	defer func() {
		e.release()
		s.pools.encoders.Put(e)
	}()
	r := httpclient.Request{Method: http.MethodPost, URL: ep.events, Header: s.header(ch, token), Body: e}
	if s.cfg.Compression == compressGzip {
		c, ok := s.pools.compressors.Get().(*httpclient.Compressor)
		if !ok {
			c = httpclient.NewCompressor()
		}
		defer s.pools.compressors.Put(c)
		c.Start(e)
		r.Body = c
		r.Header.Set("Content-Encoding", "gzip")
	}

	turn, begun := s.begin(ch), time.Now()
	a, err := s.events.Do(ctx, r)
	if s.cfg.Observe != nil {
		s.cfg.Observe(a.Status, time.Since(begun))
	}
	if err != nil {
		s.lost(ch, turn)
		if ctx.Err() == nil {
			s.takeOut(ep)
		}
		return said{}, err
	}
	return s.understand(ch, turn, &a, e, token)
}

// understand says what the answer to request turn, whose body was e, means.
func (s *Sink) understand(ch *channel, turn uint64, a *httpclient.Answer, e *encoder, token string) (said, error) {
	ep := ch.endpoint
	rep := parseReply(a.Body)
	whole := a.Incomplete == nil && e.done()
	what, at := judge(a.Status, &rep, len(e.records), e.size)
	if at >= e.next || what == accepted && !whole {
		what = failed // it was not even sent
	}
	failure := refusal(a, &rep, ep.name, s.cfg.IncludeReasons)
	if a.Status == http.StatusOK && !whole {
		failure.Err = errors.New("answered before it had read the request")
		if a.Incomplete != nil {
			failure.Err = a.Incomplete
		}
	}
	if credentialsRefused(a.Status, &rep) {
		s.token.Refused(token)
	}
	if unwell(a.Status, &rep) {
		s.takeOut(ep)
	} else {
		s.takeIn(ep)
	}
	if err := s.follow(ch, a.Header); err != nil {
		s.landed(ch, turn)
		return said{}, &sinks.RequestError{Status: a.Status, Endpoint: ep.name, Err: err}
	}
	got := said{effect: what, reply: rep, status: a.Status, at: at}
	switch {
	case what == failed && mayHaveID(a.Status, &rep):
		s.lost(ch, turn)
		return said{}, failure
	case what == failed:
		if rep.code == codeAckDisabled {
			s.drop(ch, ackUnknown)
		}
		s.landed(ch, turn)
		return said{}, failure
	case what != accepted:
		s.landed(ch, turn)
		got.reason = rep.describe(s.cfg.IncludeReasons, a)
		// Without acknowledgements that is what acceptance is; with them nobody would
		// ever confirm it.
		got.prefix = what == poisoned && whole && s.acksNever(ch)
		if what == misrouted && !s.layout.routed() {
			return said{}, failure
		}
		return got, nil
	}
	switch {
	case s.cfg.Ack == ackOff || s.cfg.Ack == ackAuto && !rep.hasAck && s.acceptedOnly(ch):
		s.landed(ch, turn)
		return got, nil
	case !rep.hasAck:
		// The token had acknowledgement when the channel was opened.
		s.drop(ch, ackUnknown)
		s.landed(ch, turn)
		failure.Misconfigured = true
		failure.Err = errors.New("accepted, but without the acknowledgement id that has to be there")
		return said{}, failure
	}
	t, err := s.promised(ch, turn, rep.ackID)
	if err != nil {
		return said{}, &sinks.RequestError{Status: a.Status, Endpoint: ep.name, Err: err}
	}
	got.ticket = t
	return got, nil
}

// acksNever reports whether it is certain that what is sent through ch is not
// acknowledged.
func (s *Sink) acksNever(ch *channel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Ack == ackOff || ch.endpoint.ack == ackWithout && !ch.acks
}

// acceptedOnly reports whether a success without an acknowledgement id is one: it
// is what a token without acknowledgements gets.
func (s *Sink) acceptedOnly(ch *channel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch.acks {
		return false
	}
	if ch.endpoint.ack == ackUnknown {
		ch.endpoint.ack = ackWithout
	}
	return true
}

// drop has the next request find out anew whether there are acknowledgements.
func (s *Sink) drop(ch *channel, state ackState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch.endpoint.ack = state
	ch.retire()
}
