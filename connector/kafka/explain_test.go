package kafka

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
)

// moody passes connections on to a broker, or hangs up at the first request.
type moody struct {
	net.Listener
	hangUp atomic.Bool
}

func (m *moody) Accept() (net.Conn, error) {
	for {
		c, err := m.Listener.Accept()
		if err != nil || !m.hangUp.Load() {
			return c, err
		}
		go func() {
			_, _ = c.Read(make([]byte, 1)) // of a request
			_ = c.Close()
		}()
	}
}

// moodyBroker is a broker whose listener can be made to hang up.
func moodyBroker(t *testing.T, opts ...kfake.Opt) (*moody, Options) {
	t.Helper()
	m := &moody{}
	_, o := fakeCluster(t, append(opts, kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		m.Listener = l
		return m, err
	}))...)
	return m, o
}

// A broker that worked, and is being stopped, does not speak another protocol
// all of a sudden, and wants no login it did not want.
func TestBrokerThatWorkedIsNotTakenForOneOfAnotherProtocol(t *testing.T) {
	m, o := moodyBroker(t)
	c := newCluster(t.Context(), o)
	defer c.Close()
	m.hangUp.Store(true)
	_, err := c.refresh(t.Context(), "t")
	if err == nil || !strings.Contains(err.Error(), "TLS on this port") {
		t.Errorf("never heard of: %v", err)
	}
	m.hangUp.Store(false)
	if _, err := c.refresh(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	m.hangUp.Store(true)
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	for range 2 { // on the connection it had, and on a new one
		_, err = c.refresh(t.Context(), "t")
		if err == nil || strings.Contains(err.Error(), "TLS") || strings.Contains(err.Error(), "login") || !strings.Contains(err.Error(), "restarted") {
			t.Errorf("it worked before: %v", err)
		}
		t.Log(err)
	}
}

// What one client has heard is nothing to another, whose port may be another.
func TestEachClientHearsForItself(t *testing.T) {
	m, o := moodyBroker(t)
	first, second := newCluster(t.Context(), o), newCluster(t.Context(), o)
	defer first.Close()
	defer second.Close()
	if _, err := first.refresh(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	m.hangUp.Store(true)
	if _, err := second.refresh(t.Context(), "t"); err == nil || !strings.Contains(err.Error(), "TLS on this port") {
		t.Error(err)
	}
}

func TestDeadLetterBrokerThatWorkedIsNotTakenForOneOfAnotherProtocol(t *testing.T) {
	m, o := moodyBroker(t)
	s := newTestSink(t, o, "t")
	allAcked(t, deliver(t, s, letters(1, 1)))
	m.hangUp.Store(true)
	// What is asked when no broker is left.
	_, err := s.opts.Metadata(t.Context(), "t")
	if err == nil || strings.Contains(err.Error(), "TLS") || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("it worked before: %v", err)
	}
}

// Waiting mends that nobody is there, and not what somebody who is there refuses.
func TestOnlyWhoIsAwayIsWaitedFor(t *testing.T) {
	refused := &BrokerError{Addr: "a:1", Err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}
	hungUp := &BrokerError{Addr: "b:1", Err: io.EOF}
	login := &BrokerError{Addr: "c:1", Err: sarama.ErrSASLAuthenticationFailed}
	for _, err := range []error{refused, hungUp, &net.DNSError{Name: "d"}, os.ErrDeadlineExceeded, errors.Join(refused, hungUp)} {
		if !IsAway(err) {
			t.Errorf("%v is not waited for", err)
		}
	}
	for _, err := range []error{nil, login, x509.UnknownAuthorityError{}, errors.New("another cluster"), errors.Join(refused, login)} {
		if IsAway(err) {
			t.Errorf("%v is waited for", err)
		}
	}
}
