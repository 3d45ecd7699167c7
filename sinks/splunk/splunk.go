// Package splunk is the Splunk HEC sink: it streams a batch as concatenated
// events to an HTTP Event Collector and, where the token has indexer
// acknowledgement, waits until the indexers say that they hold it. CrowdStrike
// LogScale and others speak the same protocol without acknowledgements.
package splunk

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"weir/sinks/httpclient"
)

// Config says where and how to write. New checks it.
type Config struct {
	// URLs of the collectors, http or https, without credentials and without
	// /services/collector.
	URLs []string
	// Token gives the collector's token. It is asked before the first request and
	// again after an answer that refuses it, so that a rotated one is taken up.
	Token func() (string, error)
	// Index, Source, Sourcetype and Host are templates (package template) of the
	// keys of those names. Where one comes to nothing (empty, a field that an event
	// does not have, a text that is no name) the key is left out, and Splunk takes
	// the token's default.
	Index, Source, Sourcetype, Host string
	// Time is the path of the field with the event's time; empty, or where an event
	// has none that can be read: the record's timestamp.
	Time string
	// Ack says what indexer acknowledgement is used for: auto, required or off.
	Ack string
	// AckTimeout is how long an acknowledgement may take before the events count as
	// lost and are sent again.
	AckTimeout time.Duration
	// Track adds the indexed fields kafka_topic, kafka_partition and kafka_offset.
	Track bool
	// Compression of the request: none or gzip.
	Compression string
	// TLS for https URLs; nil: the system's roots and no certificate of our own.
	TLS *tls.Config
	// Timeout bounds one request from its first byte to the last of its answer.
	Timeout time.Duration
	// IncludeReasons keeps the collector's own text in an Outcome. Without it only
	// the meaning of its code is kept.
	IncludeReasons bool
	// Observe is called once for every request with events, with the answer's
	// status (0: no answer) and how long it took until the answer was read. Nil:
	// not called.
	Observe func(status int, took time.Duration)
}

// The values of Config.Ack and Config.Compression.
const (
	ackAuto      = "auto"
	ackRequired  = "required"
	ackOff       = "off"
	compressNone = "none"
	compressGzip = "gzip"
)

// Sink writes to one or more collectors that share a token. It is safe for
// concurrent use.
type Sink struct {
	cfg    Config
	layout layout
	token  httpclient.Credentials
	events httpclient.Client // sends events
	small  httpclient.Client // asks for acknowledgements and health
	pace   pace
	pools  struct{ encoders, compressors sync.Pool }

	// mu guards the endpoints, their channels and tickets. It is held for
	// bookkeeping only, never across a request.
	mu        sync.Mutex
	endpoints []*endpoint
	turn      int
	closed    bool

	closing context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // pollers and those who look after resting endpoints
}

// pace is how often things are asked for.
type pace struct {
	pollMin, pollMax time.Duration // between two requests for acknowledgements
	restMin, restMax time.Duration // between two looks at an endpoint that is out of rotation
}

// usualPace: Splunk Cloud acknowledges after about 1.2 s, a busy indexer after
// minutes; Splunk's own clients ask every 10 s.
var usualPace = pace{
	pollMin: 500 * time.Millisecond, pollMax: 10 * time.Second,
	restMin: time.Second, restMax: 30 * time.Second,
}

const (
	// maxAnswer bounds an answer to events: a code and a sentence.
	maxAnswer = 64 << 10
	// maxSmallTimeout bounds a request that sends no events.
	maxSmallTimeout = 30 * time.Second
)

// New checks cfg and makes a sink of it. Nothing is sent.
//
// Errors: all faults of cfg at once.
func New(cfg Config) (*Sink, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	s := &Sink{cfg: cfg, pace: usualPace}
	s.token.Read = cfg.Token
	if len(cfg.URLs) == 0 {
		fault("no URL")
	}
	for _, raw := range cfg.URLs {
		u, err := httpclient.ParseBase(raw, "token")
		switch {
		case err != nil:
			faults = append(faults, err)
		case strings.Contains(u.Path, "/services/collector"):
			fault("URL %q: without /services/collector, which is added", raw)
		default:
			s.endpoints = append(s.endpoints, newEndpoint(u))
		}
	}
	if cfg.Token == nil {
		fault("no token")
	}
	faults = append(faults, s.layout.set(&cfg)...)
	if cfg.Ack != ackAuto && cfg.Ack != ackRequired && cfg.Ack != ackOff {
		fault("ack %q: want auto, required or off", cfg.Ack)
	}
	if cfg.AckTimeout <= 0 {
		fault("ack timeout %s: want more than 0", cfg.AckTimeout)
	}
	if cfg.Compression != compressNone && cfg.Compression != compressGzip {
		fault("compression %q: want none or gzip", cfg.Compression)
	}
	if cfg.Timeout <= 0 {
		fault("timeout %s: want more than 0", cfg.Timeout)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}

	transport := httpclient.NewTransport(cfg.TLS)
	s.events = httpclient.Client{Transport: transport, Timeout: cfg.Timeout, MaxAnswer: maxAnswer}
	s.small = httpclient.Client{Transport: transport, Timeout: min(cfg.Timeout, maxSmallTimeout), MaxAnswer: maxAckAnswer}
	s.closing, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Close ends what runs in the background and closes the idle connections. A
// Deliver that still waits for an acknowledgement returns without it.
func (s *Sink) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	s.events.Transport.CloseIdleConnections()
}

// start runs f in the background, unless the sink is closed. The caller holds
// s.mu.
func (s *Sink) start(f func()) bool {
	if s.closed {
		return false
	}
	s.running.Go(f)
	return true
}
