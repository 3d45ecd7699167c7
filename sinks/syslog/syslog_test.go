package syslog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/sinktest"
)

// A Sink is a sinks.Sink.
var _ sinks.Sink = (*Sink)(nil)

func testConfig(addresses ...string) Config {
	return Config{
		Addresses: addresses, Framing: "octet_counting", MaxMessage: 64 << 10, Facility: "local0", Severity: "info",
		Hostname: "weir-1", AppName: "{topic}", Track: true, Payload: "json", Timeout: time.Minute,
	}
}

func mustNew(tb testing.TB, cfg Config) *Sink {
	tb.Helper()
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func record(offset int64, value string) *buffer.Record {
	return &buffer.Record{
		Origin: &buffer.Origin{Cluster: "c", Topic: "edr.events", TopicID: "Jb3KpkzXQ7qFbOQ1Cq9wMA", Partition: 3},
		Offset: offset, Time: time.UnixMilli(1715937693518), Value: []byte(value), Shape: buffer.ShapeObject,
	}
}

func batch(n int) *buffer.Batch {
	b := &buffer.Batch{}
	for i := range n {
		b.Add(record(int64(i), fmt.Sprintf(`{"n":%d,"x":%q}`, i, strings.Repeat("x", 100))))
	}
	return b
}

// serve starts a receiver. In the end nothing may have been wrong with its frames.
func serve(t *testing.T, r *sinktest.Syslog) (address string) {
	t.Helper()
	if r.Framing == "" {
		r.Framing = "octet_counting"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Serve(l)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, b := range r.Broken() {
			t.Error(b)
		}
	})
	return l.Addr().String()
}

func deliver(t *testing.T, s *Sink, b *buffer.Batch) {
	t.Helper()
	outcomes, err := s.Deliver(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Verdict != sinks.Ack {
			t.Errorf("record %d: %+v", i, o)
		}
	}
}

func TestEveryMessageArrivesWhole(t *testing.T) {
	for _, framing := range []string{"octet_counting", "lf"} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s TLS %v", framing, secure), func(t *testing.T) {
				r := &sinktest.Syslog{Framing: framing}
				var trust *tls.Config
				if secure {
					r.TLS, trust = certificate(t)
				}
				cfg := testConfig(serve(t, r))
				cfg.Framing, cfg.TLS = framing, trust
				s := mustNew(t, cfg)
				for range 3 {
					deliver(t, s, batch(2000))
				}
				r.WaitFor(6000)
				const want = `<134>1 2024-05-17T09:21:33.518Z weir-1 edr.events - - [kafka@32473 topic="edr.events" partition="3" offset="0"] {"n":0,"x":"`
				if got := r.Messages(); len(got) != 6000 || !strings.HasPrefix(got[0], want) {
					t.Errorf("%d messages, the first is %s", len(got), got[0])
				}
				if n := r.Connections(); n != 1 {
					t.Errorf("%d connections for one batch after the other", n)
				}
			})
		}
	}
}

func TestBrokenConnectionAcknowledgesNothing(t *testing.T) {
	for name, f := range map[string]sinktest.SyslogFault{
		"reset at once":        {Refuse: true},
		"reset in the middle":  {After: 5, Reset: true},
		"closed in the middle": {After: 5},
		"closed at the end":    {After: 50_000},
		"talks without an end": {Say: []byte(strings.Repeat("x", 2*maxAnswer))},
	} {
		t.Run(name, func(t *testing.T) {
			r := &sinktest.Syslog{Forget: true}
			r.Fail(f)
			s := mustNew(t, testConfig(serve(t, r)))
			b := batch(50_000) // more than the kernels keep for a receiver that has gone
			outcomes, err := s.Deliver(t.Context(), b, nil)
			if name == "closed at the end" || name == "talks without an end" {
				if err == nil { // it was taken before that could be known
					return
				}
			}
			var re *sinks.RequestError
			if !errors.As(err, &re) || outcomes != nil || re.Misconfigured || re.Endpoint == "" {
				t.Fatalf("%v, %v", len(outcomes), err)
			}
			deliver(t, s, b)
			r.WaitFor(50_000)
		})
	}
}

func TestConnectionThatWasClosedIsNotUsedAgain(t *testing.T) {
	r := &sinktest.Syslog{}
	r.Fail(sinktest.SyslogFault{After: 10})
	s := mustNew(t, testConfig(serve(t, r)))
	if _, err := s.Deliver(t.Context(), batch(10), nil); err == nil { // else it was seen at once
		s.mu.Lock()
		idle := slices.Clone(s.peers[0].idle)
		s.mu.Unlock()
		if len(idle) > 0 {
			<-idle[0].left
		}
	}
	deliver(t, s, batch(10))
	r.WaitFor(20)
}

func TestReceiverThatDoesNotReadAcknowledgesNothing(t *testing.T) {
	gate := make(chan struct{})
	r := &sinktest.Syslog{Forget: true}
	r.Fail(sinktest.SyslogFault{Wait: gate})
	cfg := testConfig(serve(t, r))
	defer close(gate)
	cfg.Timeout = 300 * time.Millisecond // in vain, however long
	s := mustNew(t, cfg)
	b := &buffer.Batch{}
	big := record(1, `{"x":"`+strings.Repeat("x", 60_000)+`"}`)
	for range 2000 { // 120 MB, more than any socket buffer
		b.Add(big)
	}
	var re *sinks.RequestError
	if _, err := s.Deliver(t.Context(), b, nil); !errors.As(err, &re) || re.Misconfigured {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Deliver(ctx, b, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestReceiversTakeTurnsAndStandInForEachOther(t *testing.T) {
	one, two := &sinktest.Syslog{Forget: true}, &sinktest.Syslog{Forget: true}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := dead.Addr().String()
	_ = dead.Close()
	s := mustNew(t, testConfig(gone, serve(t, one), serve(t, two)))
	for range 30 {
		deliver(t, s, batch(10))
	}
	one.WaitFor(100)
	two.WaitFor(100)
	if n := one.Count() + two.Count(); n > 300 {
		t.Errorf("%d messages of 300", n)
	}
	only := mustNew(t, testConfig(gone))
	var re *sinks.RequestError
	if _, err := only.Deliver(t.Context(), batch(1), nil); !errors.As(err, &re) || re.Endpoint != gone {
		t.Errorf("%v", err)
	}
}

func TestReceiverNobodyTrustsIsASettingToMend(t *testing.T) {
	r := &sinktest.Syslog{}
	r.TLS, _ = certificate(t)
	cfg := testConfig(serve(t, r))
	cfg.TLS = &tls.Config{}
	s := mustNew(t, cfg)
	var re *sinks.RequestError
	if _, err := s.Deliver(t.Context(), batch(1), nil); !errors.As(err, &re) || !re.Misconfigured {
		t.Errorf("%v", err)
	}
	if f := s.Check(t.Context()); f[0].State != sinks.Bad {
		t.Errorf("%+v", f)
	}
}

func TestCheckSendsNothing(t *testing.T) {
	r := &sinktest.Syslog{}
	s := mustNew(t, testConfig(serve(t, r)))
	if f := s.Check(t.Context()); len(f) != 1 || f[0].State != sinks.Good {
		t.Errorf("%+v", f)
	}
	deliver(t, s, batch(1))
	r.WaitFor(1)
	if got := r.Messages(); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestTooLongIsRejectedAlone(t *testing.T) {
	r := &sinktest.Syslog{}
	cfg := testConfig(serve(t, r))
	cfg.MaxMessage = 1000
	s := mustNew(t, cfg)
	b := batch(3)
	b.Records[1].Value = []byte(`{"x":"` + strings.Repeat("x", 1000) + `"}`)
	outcomes, err := s.Deliver(t.Context(), b, nil)
	if err != nil || outcomes[0].Verdict != sinks.Ack || outcomes[1].Verdict != sinks.Reject || outcomes[2].Verdict != sinks.Ack ||
		!strings.Contains(outcomes[1].Reason, "1000") {
		t.Errorf("%+v, %v", outcomes, err)
	}
	r.WaitFor(2)
	only := &buffer.Batch{Records: b.Records[1:2]}
	if outcomes, err := mustNew(t, testConfigWith(cfg, "127.0.0.1:1")).Deliver(t.Context(), only, nil); err != nil || outcomes[0].Verdict != sinks.Reject {
		t.Errorf("%+v, %v", outcomes, err)
	}
}

func testConfigWith(cfg Config, address string) Config {
	cfg.Addresses = []string{address}
	return cfg
}

func TestConformance(t *testing.T) {
	sinktest.Conform(t, sinktest.Subject{Open: func(t *testing.T) sinktest.Place {
		var mu sync.Mutex
		here := sync.Cond{L: &mu}
		stored, acked := map[int]int{}, map[int]bool{}
		r := &sinktest.Syslog{Forget: true, Each: func(msg []byte) {
			mu.Lock()
			defer mu.Unlock()
			for n := range sinktest.Numbers(msg) {
				stored[n]++
			}
			here.Broadcast()
		}}
		cfg := testConfig(serve(t, r))
		cfg.MaxMessage = 1 << 20
		s := &noting{mustNew(t, cfg), func(n int) {
			mu.Lock()
			defer mu.Unlock()
			acked[n] = true
		}}
		return sinktest.Place{Sink: s, Stored: func() map[int]int {
			mu.Lock()
			defer mu.Unlock()
			// The receiver's kernel has what is acknowledged; its program comes to it.
			for n := range acked {
				for stored[n] == 0 {
					here.Wait()
				}
			}
			return maps.Clone(stored)
		}}
	}})
}

// noting tells of each event that is acknowledged.
type noting struct {
	*Sink
	acked func(n int)
}

func (s *noting) Deliver(ctx context.Context, b *buffer.Batch, answered func(sinks.Note)) ([]sinks.Outcome, error) {
	outcomes, err := s.Sink.Deliver(ctx, b, answered)
	for i, o := range outcomes {
		if o.Verdict == sinks.Ack && b.Records[i].Shape.Has(buffer.ShapeObject) {
			s.acked(int(b.Records[i].Offset))
		}
	}
	return outcomes, err
}

// certificate is a server's configuration, and one that trusts it.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}
