package splunk

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"weir/sinks/httpclient"
)

// An endpoint is one collector, or what stands before several.
type endpoint struct {
	name                   string // for errors
	events, acks, wellness string // URLs

	// opening is held by who opens a channel. It is taken without Sink.mu.
	opening chan struct{}

	// Guarded by Sink.mu.
	channel *channel // to send with; nil: has to be opened
	ack     ackState
	busy    int       // batches that are sent, or wait for their acknowledgement
	out     bool      // out of rotation
	tried   time.Time // with out: when it was tried last
	nursed  bool      // somebody looks when it is back
}

// ackState is what is known about indexer acknowledgement at an endpoint.
type ackState uint8

const (
	ackUnknown ackState = iota
	ackWith
	ackWithout
)

func newEndpoint(u *url.URL) *endpoint {
	at := func(path string) string { return u.JoinPath("services", "collector", path).String() }
	return &endpoint{
		name:   httpclient.Endpoint(u),
		events: at("event"), acks: at("ack"), wellness: at("health"),
		opening: make(chan struct{}, 1),
	}
}

// pick chooses the endpoint for a request: of those in rotation the one with the
// least to do, else the one that was tried longest ago, so there is always one.
// The caller calls leave.
func (s *Sink) pick() *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best, oldest *endpoint
	for i := range s.endpoints {
		ep := s.endpoints[(s.turn+i)%len(s.endpoints)]
		switch {
		case ep.out && (oldest == nil || ep.tried.Before(oldest.tried)):
			oldest = ep
		case !ep.out && (best == nil || ep.busy < best.busy):
			best = ep
		}
	}
	s.turn++
	if best == nil {
		best = oldest
		best.tried = time.Now()
	}
	best.busy++
	return best
}

// leave ends what pick began.
func (s *Sink) leave(ep *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep.busy--
}

// takeOut takes ep out of rotation until it is well again.
func (s *Sink) takeOut(ep *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ep.out {
		ep.out, ep.tried = true, time.Now()
	}
	// Where there is no other, the next request finds out.
	if len(s.endpoints) > 1 && !ep.nursed {
		ep.nursed = s.start(func() { s.nurse(ep) })
	}
}

// takeIn puts ep back into rotation.
func (s *Sink) takeIn(ep *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep.out = false
}

// nurse asks ep how it is until it is back in rotation.
func (s *Sink) nurse(ep *endpoint) {
	rest := s.pace.restMin
	for {
		select {
		case <-s.closing.Done():
			return
		case <-time.After(rest):
		}
		rest = min(2*rest, s.pace.restMax)
		well := s.well(s.closing, ep)
		s.mu.Lock()
		if well {
			ep.out = false
		}
		if !ep.out {
			ep.nursed = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// well asks ep's health endpoint whether it would take events. One that has no
// such endpoint, or does not like the token, is there at least.
func (s *Sink) well(ctx context.Context, ep *endpoint) bool {
	a, err := s.ask(ctx, ep, nil, http.MethodGet, ep.wellness, nil)
	return err == nil && a.Status < 500 && a.Status != http.StatusTooManyRequests
}
