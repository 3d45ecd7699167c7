// Package httpsink is the http sink: it sends batches to any intake of JSON over
// HTTP, in requests of the shape and the size that the intake wants, and goes by
// the status of each answer.
package httpsink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"weir/sinks"
	"weir/sinks/httpclient"
)

// Config says where and how to send. New checks it.
type Config struct {
	// URL of the intake, http or https. Its path and its query can be a secret and
	// are never shown. Like all secrets it is read before the first request and
	// again after an answer 401, 403 or 404.
	URL func() (string, error)
	// Method of the requests: POST or PUT.
	Method string
	// Headers are sent with each request, beside those that the sink sets.
	Headers []Header
	// Authorization gives the value of the header of that name. Nil: none, or
	// OAuth2's.
	Authorization func() (string, error)
	// OAuth2 fetches a token for the header Authorization. Nil: none.
	OAuth2 *OAuth2
	// Framing is how events follow each other in a body: json_array, ndjson,
	// concatenated, or single: one event a request.
	Framing string
	// Event is the template of an event, Body that of a body around the array of
	// events; an empty Body: nothing around it.
	Event, Body string
	// Compression of requests: none or gzip.
	Compression string
	// MaxRecords and MaxBytes (before compression) bound a request; a single
	// larger event goes alone. 0: no bound.
	MaxRecords int
	MaxBytes   int64
	// MaxEventBytes: a longer event is rejected and not sent. 0: none is.
	MaxEventBytes int64
	// Parallel is how many requests of one batch are sent at a time.
	Parallel int
	// Verdicts say what a status means, the first that fits. What is not in the
	// list means what it usually does.
	Verdicts []StatusVerdict
	// AnswerType is the media type that an answer must have to acknowledge
	// anything; empty: any but HTML.
	AnswerType string
	// AnswerRefused is the dotted path, in an answer that would acknowledge, of what
	// is not empty (0, false, "", [], {}, null or missing) if something was refused.
	// Empty: the answer's body is not looked at.
	AnswerRefused string
	// TLS for https URLs; nil: the system's roots and no certificate of our own.
	TLS *tls.Config
	// Timeout bounds one request from its first byte to the last of its answer.
	Timeout time.Duration
	// IncludeReasons keeps the server's words in an Outcome. They can quote the
	// event.
	IncludeReasons bool
	// Observe is called once for every request, with the answer's status (0: no
	// answer) and how long it took until the answer was read. Nil: not called.
	Observe func(status int, took time.Duration)
}

// Header is one header of all requests.
type Header struct {
	Name string
	// Value is a secret: it is read anew when the server refuses a request.
	Value func() (string, error)
	// Open: it is none, and may go over a network unencrypted.
	Open bool
}

// StatusVerdict says what answers with one status, or with those of a range
// (200-299), mean: ack, retry, split, reject or misconfigured.
type StatusVerdict struct {
	Status, Verdict string
}

// Values of Config.Framing and Config.Compression.
const (
	framingArray        = "json_array"
	framingNDJSON       = "ndjson"
	framingConcatenated = "concatenated"
	framingSingle       = "single"

	compressNone = "none"
	compressGzip = "gzip"
)

// Sink sends to one intake. It is safe for concurrent use.
type Sink struct {
	cfg    Config
	layout layout
	rules  []rule
	login  login
	client httpclient.Client

	encoders, compressors, lists sync.Pool

	mu   sync.Mutex
	rest time.Time           // nothing is sent before
	why  *sinks.RequestError // who asked for it
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// New checks cfg and makes a sink of it. Nothing is sent.
//
// Errors: all faults of cfg at once.
func New(cfg Config) (*Sink, error) {
	s := &Sink{
		cfg:    cfg,
		client: httpclient.Client{Transport: httpclient.NewTransport(cfg.TLS), Timeout: cfg.Timeout, MaxAnswer: maxAnswer},
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if cfg.Method != http.MethodPost && cfg.Method != http.MethodPut {
		fault("method %q: want POST or PUT", cfg.Method)
	}
	if cfg.Compression != compressNone && cfg.Compression != compressGzip {
		fault("compression %q: want none or gzip", cfg.Compression)
	}
	if cfg.Timeout <= 0 {
		fault("timeout %s: want more than 0", cfg.Timeout)
	}
	if cfg.Parallel < 1 {
		fault("parallel %d: want at least 1", cfg.Parallel)
	}
	if cfg.MaxRecords < 0 || cfg.MaxBytes < 0 || cfg.MaxEventBytes < 0 {
		fault("a bound that is negative")
	}
	if cfg.Framing == framingSingle {
		s.cfg.MaxRecords = 1
	}
	var more []error
	s.layout, more = newLayout(cfg.Framing, cfg.Event, cfg.Body)
	faults = append(faults, more...)
	s.rules, more = newRules(cfg.Verdicts, s.cfg.MaxRecords == 1)
	faults = append(faults, more...)
	faults = append(faults, s.login.init(&cfg)...)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return s, nil
}

// Close closes the idle connections. Requests in flight go on.
func (s *Sink) Close() { s.client.Transport.CloseIdleConnections() }

// Grade is what the sink can promise, and why in a sentence.
func (s *Sink) Grade() (sinks.Grade, string) {
	return sinks.GradeC, "accepted only: an intake answers before the events are stored, can still lose or truncate them, " +
		"and stores twice what is sent twice"
}

// contentType is that of a framing.
func contentType(framing string) string {
	if framing == framingNDJSON {
		return "application/x-ndjson"
	}
	return "application/json"
}

// steps are those of a dotted path, nil for an empty one.
func steps(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, ".")
}
