package splunk

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/sinktest"
)

const testToken = "6F1B8E0A-1F5C-4C0E-9D65-1B4C2B8AF0C1"

// testConfig is a Config with what most tests want.
func testConfig(urls ...string) Config {
	return Config{
		URLs: urls, Token: func() (string, error) { return testToken, nil },
		Ack: "auto", AckTimeout: 5 * time.Minute, Track: true, Compression: "none", Timeout: 30 * time.Second,
	}
}

var testOrigin = &buffer.Origin{Cluster: "cluster", Topic: "edr.events", TopicID: "id", Partition: 3}

// record is a record whose value is taken for a JSON object.
func record(offset int64, value string) *buffer.Record {
	return &buffer.Record{
		Origin: testOrigin, Offset: offset, Time: time.UnixMilli(1700000000123 + offset),
		Value: []byte(value), Shape: buffer.ShapeObject,
	}
}

func batch(rs ...*buffer.Record) *buffer.Batch {
	b := new(buffer.Batch)
	for _, r := range rs {
		b.Add(r)
	}
	return b
}

// requestError is err as the *sinks.RequestError it has to be.
func requestError(t *testing.T, err error) *sinks.RequestError {
	t.Helper()
	var re *sinks.RequestError
	if !errors.As(err, &re) {
		t.Fatalf("got %v, want a RequestError", err)
	}
	return re
}

// serve is a sink that writes to hec over real TCP, and asks for
// acknowledgements without much waiting.
func serve(t *testing.T, hec *sinktest.Splunk, edit func(*Config)) *Sink {
	t.Helper()
	srv := httptest.NewServer(hec)
	cfg := testConfig(srv.URL)
	if edit != nil {
		edit(&cfg)
	}
	s := make1(t, cfg)
	s.pace = pace{pollMin: time.Millisecond, pollMax: 10 * time.Millisecond, restMin: time.Millisecond, restMax: 10 * time.Millisecond}
	t.Cleanup(func() {
		s.Close()
		srv.Close()
		sound(t, hec)
	})
	return s
}

func make1(t *testing.T, cfg Config) *Sink {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sound(t *testing.T, hec *sinktest.Splunk) {
	t.Helper()
	for _, fault := range hec.Broken() {
		t.Errorf("broken request: %s", fault)
	}
}

// deliver delivers without minding answered.
func deliver(t *testing.T, s *Sink, rs ...*buffer.Record) ([]sinks.Outcome, error) {
	t.Helper()
	return s.Deliver(t.Context(), batch(rs...), func(sinks.Note) {})
}

// mustDeliver wants all of rs acknowledged.
func mustDeliver(t *testing.T, s *Sink, rs ...*buffer.Record) {
	t.Helper()
	out, err := deliver(t, s, rs...)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if o.Verdict != sinks.Ack {
			t.Fatalf("record %d: %+v", i, o)
		}
	}
	if len(out) != len(rs) {
		t.Fatalf("%d outcomes for %d records", len(out), len(rs))
	}
}

// verdicts are the outcomes, a letter each: A, J for reject, R, and M for a retry
// that is a matter of configuration.
func verdicts(out []sinks.Outcome) string {
	var s []byte
	for _, o := range out {
		switch {
		case o.Verdict == sinks.Ack:
			s = append(s, 'A')
		case o.Verdict == sinks.Reject:
			s = append(s, 'J')
		case o.Note == sinks.Misconfigured:
			s = append(s, 'M')
		default:
			s = append(s, 'R')
		}
	}
	return string(s)
}

func coordinate(offset string) sinktest.Coordinate {
	return sinktest.Coordinate{Topic: "edr.events", Partition: "3", Offset: offset}
}

// network is servers by their host names, on connections in memory: inside of a
// synctest bubble their time is virtual.
type network struct {
	mu    sync.Mutex
	hosts map[string]*pipes
}

// pipes is a net.Listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	down   bool // guarded by network.mu
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// add serves h as http://host:8088 until the test ends or stop is called.
func (n *network) add(host string, h http.Handler) (stop func()) {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: h}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = make(map[string]*pipes)
	}
	n.hosts[host+":8088"] = p
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(p)
	}()
	return func() {
		_ = srv.Close()
		<-done
	}
}

// cut makes a host refuse connections, or take them again.
func (n *network) cut(host string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host+":8088"].down = down
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	p := n.hosts[address]
	down := p == nil || p.down
	n.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// sink is one that writes to hosts of n.
func (n *network) sink(t *testing.T, edit func(*Config), hosts ...string) *Sink {
	t.Helper()
	var urls []string
	for _, h := range hosts {
		urls = append(urls, "http://"+h+":8088")
	}
	cfg := testConfig(urls...)
	if edit != nil {
		edit(&cfg)
	}
	s := make1(t, cfg)
	s.events.Transport.DialContext = n.dial
	s.events.Transport.Proxy = nil
	return s
}
