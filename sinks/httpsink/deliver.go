package httpsink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/httpclient"
)

// Deliver sends b in as many requests as the bounds on a request need, and halves
// those that are refused for what they hold, down to one record, which is then
// rejected. Each record's verdict is that of its own request.
//
// The first request that fails otherwise ends it: what was not sent by then is to
// be retried. So does the timeout of one request, once something is settled: what
// was acknowledged must not wait for the rest.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	if err := s.resting(time.Now()); err != nil {
		return nil, err
	}
	d := &delivery{sink: s, outcomes: make([]sinks.Outcome, len(b.Records)), begun: time.Now()}
	items := s.measure(b.Records, d)
	defer s.keep(items)

	var g errgroup.Group
	g.SetLimit(s.cfg.Parallel)
	for rest := *items; len(rest) > 0 && !d.over(ctx); {
		var part []item
		part, rest = s.cutPart(rest)
		g.Go(func() error {
			d.send(ctx, part)
			return nil
		})
	}
	_ = g.Wait() // send reports to d
	return d.result(ctx, len(*items))
}

// measure lists the records that can be sent. The others are rejected.
func (s *Sink) measure(records []*buffer.Record, d *delivery) *[]item {
	items, ok := s.lists.Get().(*[]item)
	if !ok {
		items = new([]item)
	}
	e := s.encoder(nil, d.begun)
	defer s.done(e)
	for i, r := range records {
		size, err := e.measure(r)
		if err == nil && s.cfg.MaxEventBytes > 0 && int64(size) > s.cfg.MaxEventBytes {
			err = fmt.Errorf("the event is longer than the %d bytes of max_event_bytes: %d", s.cfg.MaxEventBytes, size)
		}
		if err != nil {
			d.outcomes[i] = sinks.Outcome{Verdict: sinks.Reject, Reason: err.Error()}
			continue
		}
		*items = append(*items, item{record: r, at: i, size: size})
	}
	return items
}

// keep keeps the memory of a list, and no record.
func (s *Sink) keep(items *[]item) {
	clear(*items)
	*items = (*items)[:0]
	s.lists.Put(items)
}

// cutPart cuts off what fits into one request, at least one record.
func (s *Sink) cutPart(items []item) (part, rest []item) {
	n, size := 1, s.size(items[:1])
	for n < len(items) && (s.cfg.MaxRecords == 0 || n < s.cfg.MaxRecords) {
		size += int64(len(s.layout.between) + items[n].size)
		if s.cfg.MaxBytes > 0 && size > s.cfg.MaxBytes {
			break
		}
		n++
	}
	return items[:n], items[n:]
}

// size is the length of a request's body before compression.
func (s *Sink) size(items []item) int64 {
	n := len(s.layout.open) + len(s.layout.end) + (len(items)-1)*len(s.layout.between)
	for i := range items {
		n += items[i].size
	}
	return int64(n)
}

// resting says that the server asked for a pause which is not over.
func (s *Sink) resting(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.rest.Sub(now)
	if s.why == nil || left <= 0 {
		return nil
	}
	e := *s.why
	e.RetryAfter = left
	return &e
}

// maxRest bounds the pause a server can ask for.
const maxRest = time.Hour

// pause notes the pause that a server asked for while others of the batch were
// taken: an Outcome has no place for it.
func (s *Sink) pause(why *sinks.RequestError, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until := now.Add(min(why.RetryAfter, maxRest)); until.After(s.rest) {
		s.rest, s.why = until, why
	}
}

// delivery is one Deliver.
type delivery struct {
	sink  *Sink
	begun time.Time

	outcomes []sinks.Outcome // each is written by the request that holds its record

	mu      sync.Mutex
	settled int
	failed  *sinks.RequestError // what ended it
}

// send sends the records of part, and returns when there is nothing left to do
// for them.
func (d *delivery) send(ctx context.Context, part []item) {
	if d.over(ctx) {
		return
	}
	status, err := d.sink.request(ctx, part, d.begun)
	switch {
	case err == nil:
		d.settle(part, sinks.Outcome{Verdict: sinks.Ack, Status: status})
	case err.Split && len(part) == 1:
		d.settle(part, sinks.Outcome{Verdict: sinks.Reject, Status: err.Status, Reason: err.Err.Error()})
	case err.Split:
		half := len(part) / 2
		d.send(ctx, part[:half])
		d.send(ctx, part[half:])
	default:
		d.mu.Lock()
		defer d.mu.Unlock()
		// One that says when to come back says more.
		if d.failed == nil || err.RetryAfter > d.failed.RetryAfter {
			d.failed = err
		}
	}
}

func (d *delivery) settle(part []item, o sinks.Outcome) {
	for i := range part {
		d.outcomes[part[i].at] = o
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled += len(part)
}

// over reports whether no further request is to be sent.
func (d *delivery) over(ctx context.Context) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return ctx.Err() != nil || d.failed != nil || d.settled > 0 && time.Since(d.begun) > d.sink.cfg.Timeout
}

// result is what Deliver returns, when sendable records could be sent.
func (d *delivery) result(ctx context.Context, sendable int) ([]sinks.Outcome, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := sinks.Outcome{Reason: "not sent yet: the batch takes long"}
	switch {
	case d.settled == sendable:
		return d.outcomes, nil
	case d.settled == 0 && d.failed != nil:
		return nil, d.failed
	case d.settled == 0:
		return nil, &sinks.RequestError{Err: context.Cause(ctx)}
	case d.failed != nil:
		left = sinks.Outcome{Status: d.failed.Status, Reason: d.failed.Error(), Note: d.failed.Note()}
		if d.failed.RetryAfter > 0 {
			d.sink.pause(d.failed, time.Now())
		}
	}
	for i := range d.outcomes {
		if d.outcomes[i].Verdict == sinks.Retry {
			d.outcomes[i] = left
		}
	}
	return d.outcomes, nil
}

// encoder is one for the events of a request.
func (s *Sink) encoder(items []item, now time.Time) *encoder {
	e, ok := s.encoders.Get().(*encoder)
	if !ok {
		e = new(encoder)
	}
	e.start(&s.layout, items, now)
	return e
}

// done takes an encoder back that nobody reads any more.
func (s *Sink) done(e *encoder) {
	e.release()
	s.encoders.Put(e)
}

var errEarly = errors.New("answered before it had read the request")

// maxReason bounds the server's words in an Outcome or a log, in bytes.
const maxReason = 500

// request sends the records of part in one request. A nil error acknowledges all
// of them.
func (s *Sink) request(ctx context.Context, part []item, now time.Time) (status int, _ *sinks.RequestError) {
	said, failed := s.login.say(ctx)
	if failed != nil {
		return 0, failed
	}
	e := s.encoder(part, now)
	defer s.done(e)
	r := httpclient.Request{Method: s.cfg.Method, URL: said.url, Header: said.header, Body: e, Length: s.size(part)}
	if s.cfg.Compression == compressGzip {
		c, ok := s.compressors.Get().(*httpclient.Compressor)
		if !ok {
			c = httpclient.NewCompressor()
		}
		defer s.compressors.Put(c)
		c.Start(e)
		r.Body, r.Length = c, 0
	}

	begun := time.Now()
	a, err := s.client.Do(ctx, r)
	if s.cfg.Observe != nil {
		s.cfg.Observe(a.Status, time.Since(begun))
	}
	if err != nil {
		return 0, said.failed(err)
	}
	v := judge(s.rules, a.Status)
	var why error
	if v == ack {
		if v, why = s.believe(&a); v == ack && !e.done() {
			v, why = again, errEarly
		}
	}
	if v == ack {
		return a.Status, nil
	}
	switch a.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		s.login.refused(said)
	}
	if why == nil {
		why = errors.New(meaning(a.Status))
	}
	if s.cfg.IncludeReasons && len(a.Body) > 0 {
		why = fmt.Errorf("%w: %s", why, a.Sent.Words(string(a.Body), maxReason))
	}
	return a.Status, &sinks.RequestError{
		Status:        a.Status,
		RetryAfter:    httpclient.RetryAfter(a.Header.Get("Retry-After"), time.Now()),
		Split:         v == split,
		Misconfigured: v == misconfigured,
		Endpoint:      said.endpoint,
		Err:           why,
	}
}
