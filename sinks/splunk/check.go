package splunk

import (
	"context"
	"fmt"
	"net/http"

	"weir/sinks"
)

// Grade is what the sink can promise as far as is known, and why in a sentence.
// With ack: auto that is not known before an endpoint was asked.
func (s *Sink) Grade() (sinks.Grade, string) {
	switch s.cfg.Ack {
	case ackOff:
		return sinks.GradeC, "accepted only: ack is off, so Splunk can still lose what it has taken"
	case ackRequired:
		return sinks.GradeB, "durable: each event waits for the indexers' acknowledgement; one whose acknowledgement is lost is sent again and stored twice"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unknown := 0
	for _, ep := range s.endpoints {
		switch ep.ack {
		case ackWithout:
			return sinks.GradeC, fmt.Sprintf("accepted only: there is no indexer acknowledgement at %s, so Splunk can still lose what it has taken", ep.name)
		case ackUnknown:
			unknown++
		}
	}
	if unknown > 0 {
		return sinks.GradeC, fmt.Sprintf("accepted only, until %d of %d endpoints were asked whether the token has indexer acknowledgement: with it, B",
			unknown, len(s.endpoints))
	}
	return sinks.GradeB, "durable: the indexers acknowledge each event; one whose acknowledgement is lost is sent again and stored twice"
}

// Check asks every endpoint how it is, and whether it takes the token and
// acknowledges. It writes nothing.
func (s *Sink) Check(ctx context.Context) []sinks.Finding {
	var found []sinks.Finding
	for _, ep := range s.endpoints {
		f := sinks.Finding{What: "sink splunk_hec " + ep.name}
		f.State, f.Detail = s.check(ctx, ep)
		found = append(found, f)
	}
	return found
}

func (s *Sink) check(ctx context.Context, ep *endpoint) (sinks.State, string) {
	a, err := s.ask(ctx, ep, nil, http.MethodGet, ep.wellness, nil)
	if err != nil {
		return sinks.Bad, err.Error()
	}
	health := parseReply(a.Body)
	ch := &channel{id: newGUID(), endpoint: ep}
	if err := s.probe(ctx, ch); err != nil {
		return sinks.Bad, err.Error()
	}
	switch {
	case a.Status >= 500 || a.Status == http.StatusTooManyRequests:
		return sinks.Doubtful, fmt.Sprintf("health answered %d: %s", a.Status, health.describe(false, &a))
	case s.cfg.Ack == ackOff:
		return sinks.Good, "reached; ack is off: grade C"
	case ch.acks:
		return sinks.Good, "reached; the token has indexer acknowledgement: grade B"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ep.ack == ackUnknown {
		return sinks.Doubtful, "reached; it does not say whether there is indexer acknowledgement: grade C, unless its answers to events say so"
	}
	return sinks.Doubtful, "reached; there is no indexer acknowledgement: grade C, Splunk can still lose what it has taken"
}
