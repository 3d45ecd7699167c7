// Package elastic is the sink for Elasticsearch and OpenSearch: it streams a batch
// as one _bulk request and reads one verdict a record from the answer.
package elastic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v8"

	"weir/sinks"
	"weir/sinks/httpclient"
	"weir/sinks/template"
)

// Config says where and how to write. New checks it.
type Config struct {
	// URLs of the nodes, http or https, without credentials in them.
	URLs []string
	// Flavor is the server: elasticsearch (or empty) or opensearch. Another one's
	// answers are not taken.
	Flavor string
	// Index or DataStream is the template of the name to write to; exactly one of
	// them is set. {topic}, {partition}, {time:GO LAYOUT} and {field.path} are
	// replaced for every record.
	Index, DataStream string
	// Op is the bulk action: create or index. A data stream takes create only.
	Op string
	// ID says what a document's id is made of: offset, key, none or {field.path}.
	ID string
	// Pipeline is the ingest pipeline to name in the request; empty: none.
	Pipeline string
	// Coordinates adds the member "kafka" to every event that has none.
	Coordinates bool
	// Compression of the request: none or gzip.
	Compression string
	// Authorization gives the value of the header of that name. It is asked
	// before the first request and again after an answer 401 or 403, so that a
	// rotated secret is taken up. Nil: no such header.
	Authorization func() (string, error)
	// TLS for https URLs; nil: the system's roots and no certificate of our own.
	TLS *tls.Config
	// Timeout bounds one request from its first byte to the last of its answer.
	Timeout time.Duration
	// IncludeReasons keeps the server's reason text in an Outcome. It can quote
	// the event; without it only the error's type is kept.
	IncludeReasons bool
	// Observe is called once for every _bulk request, with the answer's status (0:
	// no answer) and how long it took until the answer was read. Nil: not called.
	Observe func(status int, took time.Duration)
}

// Sink writes to one cluster. It is safe for concurrent use.
type Sink struct {
	cfg       Config
	flavor    *flavor
	client    elastictransport.Interface
	transport *http.Transport
	layout    layout
	bulkPath  string // with its query
	pools     pools

	credentials httpclient.Credentials
	secrets     secrets
}

// do performs one small request (not a _bulk) and returns the answer's status
// and body, of which at most maxSmallAnswer bytes are read. path is escaped and
// starts with a slash; body is JSON, or nil for none.
//
// An error means that there was no usable answer, and is a *sinks.RequestError.
// An answer of any status is not an error.
func (s *Sink) do(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	r, err := s.ask(ctx, s.perform, method, path, body, maxSmallAnswer)
	return r.status, r.body, err
}

// reply is the answer to a small request.
type reply struct {
	status   int
	header   http.Header
	endpoint string
	body     []byte
}

// ask is do with a way to send, and a limit of the answer in bytes.
func (s *Sink) ask(ctx context.Context, send func(*http.Request) (*http.Response, error), method, path string, body []byte, limit int) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	var r io.Reader
	if body != nil {
		r = strings.NewReader(string(body))
	}
	req, err := newRequest(ctx, method, path, r)
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := send(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	answer, err := httpclient.ReadBounded(res.Body, limit, nil)
	if err != nil {
		return reply{}, &sinks.RequestError{Status: res.StatusCode, Endpoint: endpoint(req), Err: s.quoted(err)}
	}
	return reply{res.StatusCode, res.Header, endpoint(req), answer}, nil
}

// maxSmallAnswer bounds the answers that do reads.
const maxSmallAnswer = 8 << 20

// newRequest makes a request that the client completes with a node's address.
func newRequest(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, fmt.Errorf("request path: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node.invalid", body)
	if err != nil {
		return nil, err
	}
	req.URL.Path, req.URL.RawPath, req.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
	req.Host = "" // the node's, which the client fills in
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// perform sends req to the next node, and takes a success only from the server
// that is configured: whoever else says 201 has stored nothing. The client has
// such a check, too, which knows one product and looks at the first answer only.
//
// Errors: a *sinks.RequestError.
func (s *Sink) perform(req *http.Request) (*http.Response, error) {
	res, err := s.send(req)
	if err == nil && res.StatusCode/100 == 2 && !s.flavor.wrote(res.Header) {
		_ = res.Body.Close()
		return nil, s.imposter(reply{status: res.StatusCode, header: res.Header, endpoint: endpoint(req)}, "")
	}
	return res, err
}

// imposter is the error for an answer of another server than the configured one.
func (s *Sink) imposter(r reply, distribution string) error {
	return &sinks.RequestError{
		Status: r.status, Endpoint: r.endpoint, Misconfigured: true,
		Err: s.flavor.mistaken(r.header, distribution),
	}
}

// send sends req to the next node, whatever that is. The error is a
// *sinks.RequestError.
//
// The client sends with a bare RoundTripper: it follows no redirect, so the
// credentials go nowhere but to the configured nodes.
func (s *Sink) send(req *http.Request) (*http.Response, error) {
	auth, err := s.credentials.Value()
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, &sinks.RequestError{Misconfigured: true, Err: fmt.Errorf("credentials: %w", err)}
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	res, err := s.client.Perform(req)
	if err != nil {
		return nil, s.failed(req, err)
	}
	if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
		s.credentials.Refused(auth)
	}
	return res, nil
}

// failed says why there was no answer to req.
func (s *Sink) failed(req *http.Request, err error) error {
	re := &sinks.RequestError{Endpoint: endpoint(req), Err: err}
	switch cause := context.Cause(req.Context()); {
	case errors.Is(cause, context.DeadlineExceeded):
		re.Err = fmt.Errorf("no answer within %s", s.cfg.Timeout)
	case cause != nil:
		re.Err = cause
	case httpclient.IsCertificateError(err):
		re.Misconfigured = true
		re.Err = s.quoted(err)
	default:
		re.Err = s.quoted(err)
	}
	return re
}

// readCredentials is the value of the Authorization header as it is now, "" for
// none, which is not to be quoted from then on.
func (s *Sink) readCredentials() (string, error) {
	if s.cfg.Authorization == nil {
		return "", nil
	}
	v, err := s.cfg.Authorization()
	if err == nil {
		s.secrets.learn(v)
	}
	return v, err
}

// Close closes the idle connections. Requests in flight go on.
func (s *Sink) Close() { s.transport.CloseIdleConnections() }

// endpoint is the node that req was sent to.
func endpoint(req *http.Request) string {
	if req.URL.Host == "node.invalid" {
		return ""
	}
	return req.URL.Scheme + "://" + req.URL.Host
}

// The values of Config.Op and Config.Compression.
const (
	opCreate     = "create"
	opIndex      = "index"
	compressNone = "none"
	compressGzip = "gzip"
)

// New checks cfg and makes a sink of it. Nothing is sent.
//
// Errors: all faults of cfg at once.
func New(cfg Config) (*Sink, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if len(cfg.URLs) == 0 {
		fault("no URL")
	}
	for _, raw := range cfg.URLs {
		if _, err := httpclient.ParseBase(raw, "auth"); err != nil {
			faults = append(faults, err)
		}
	}
	f, err := flavorOf(cfg.Flavor)
	if err != nil {
		faults = append(faults, err)
	}
	l := layout{coordinates: cfg.Coordinates, quote: cfg.IncludeReasons}
	if err := l.target(&cfg); err != nil {
		faults = append(faults, err)
	}
	if err := l.identify(cfg.ID); err != nil {
		faults = append(faults, err)
	}
	switch cfg.Op {
	case opCreate, opIndex:
		l.open = `{"` + cfg.Op + `":{`
	default:
		fault("op %q: want create or index", cfg.Op)
	}
	if cfg.DataStream != "" && cfg.Op == opIndex {
		fault("op index: a data stream takes create only")
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

	s := &Sink{cfg: cfg, flavor: f, layout: l, bulkPath: bulkPath(&cfg, &l, f)}
	s.transport = httpclient.NewTransport(cfg.TLS)
	s.credentials.Read = s.readCredentials
	client, err := elasticsearch.NewBaseClient(elasticsearch.Config{
		Addresses:    cfg.URLs,
		Transport:    s.transport,
		DisableRetry: true, // one owner of retries: the connector
		ConnectionPoolFunc: func(conns []*elastictransport.Connection, _ elastictransport.Selector) elastictransport.ConnectionPool {
			return &nodes{conns: conns, now: time.Now}
		},
	})
	if err != nil {
		return nil, err
	}
	s.client = client.Transport // without its product check: see perform
	return s, nil
}

// target takes over the name to write to.
func (l *layout) target(cfg *Config) error {
	target, what := cfg.Index, "index"
	switch {
	case cfg.Index == "" && cfg.DataStream == "", cfg.Index != "" && cfg.DataStream != "":
		return errors.New("want exactly one of index and data stream")
	case cfg.DataStream != "":
		target, what = cfg.DataStream, "data stream"
	}
	n, err := parseName(target)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	l.index = n
	return nil
}

// identify takes over what ids are made of.
func (l *layout) identify(id string) error {
	switch id {
	case "offset":
		l.id = idOffset
	case "key":
		l.id = idKey
	case "none":
		l.id = idNone
	default:
		inner, open := strings.CutPrefix(id, "{")
		inner, closed := strings.CutSuffix(inner, "}")
		if !open || !closed || strings.ContainsAny(inner, "{}") {
			return fmt.Errorf("id %q: want offset, key, none or {field.path}", id)
		}
		f, err := template.ParseField(inner)
		if err != nil {
			return fmt.Errorf("id %q: %w", id, err)
		}
		l.id, l.idField = idField, f
	}
	return nil
}

// bulkPath is the path and the query of all _bulk requests.
func bulkPath(cfg *Config, l *layout, f *flavor) string {
	path := "/_bulk"
	if l.index.fixed != "" {
		path = "/" + url.PathEscape(l.index.fixed) + path
	}
	path += "?" + answerQuery
	if cfg.Pipeline != "" {
		path += "&pipeline=" + url.QueryEscape(cfg.Pipeline)
	}
	if cfg.DataStream != "" {
		path += f.dataStreamQuery
	}
	return path
}
