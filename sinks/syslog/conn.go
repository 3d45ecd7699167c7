package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"weir/sinks"
	"weir/sinks/httpclient"
)

// peer is one receiver.
type peer struct {
	address string
	tls     *tls.Config // nil: plain TCP

	// Under the sink's lock.
	idle     []*conn // the last used at the end
	shunned  time.Time
	failures int
}

const (
	// maxIdle bounds the idle connections to a receiver, and maxIdleTime for how long
	// one is used again: who sits in between may have forgotten it.
	maxIdle     = 16
	maxIdleTime = time.Minute
	// A receiver that failed is passed over for a while, longer each time, unless
	// all are.
	shunFirst, shunMost = time.Second, 30 * time.Second
	// maxAnswer bounds what a receiver may say. Syslog has it say nothing.
	maxAnswer = 64 << 10
)

// conn is a connection. What the receiver says is read all the time, so that its
// closing is noticed.
type conn struct {
	net.Conn // TLS or TCP
	raw      net.Conn
	peer     *peer
	since    time.Time // idle

	mu   sync.Mutex
	gone error         // the receiver has closed it, or it broke
	left chan struct{} // closed when gone is set
}

func (c *conn) listen() {
	var buf [1024]byte
	for total := 0; ; {
		n, err := c.Read(buf[:])
		if total += n; err == nil && total > maxAnswer {
			err = fmt.Errorf("it says more than %d bytes, which no syslog receiver does", maxAnswer)
		}
		if err != nil {
			c.mu.Lock()
			c.gone = err
			c.mu.Unlock()
			close(c.left)
			return
		}
	}
}

// trouble is why the connection is of no use any more, nil while it is.
func (c *conn) trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// close ends a connection that nothing is under way on.
func (c *conn) close() {
	_ = c.Conn.Close()
	<-c.left
}

// abort ends a connection at once: what the kernel has not sent yet it forgets,
// since all of it is sent again.
func (c *conn) abort() {
	if t, ok := c.raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.raw.Close()
	<-c.left
}

// connect gives a connection to the next receiver that can be reached.
//
// Errors: a *sinks.RequestError, of the last one that was tried.
func (s *Sink) connect(ctx context.Context) (*conn, error) {
	var err error
	for _, p := range s.order() {
		var c *conn
		if c = s.take(p); c != nil {
			return c, nil
		}
		if c, err = s.dial(ctx, p); err == nil {
			return c, nil
		}
		s.shun(p)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// order is the receivers as they are to be tried: in turn, those that failed lately
// last.
func (s *Sink) order() []*peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var good, bad []*peer
	for i := range s.peers {
		p := s.peers[(s.next+i)%len(s.peers)]
		if now.Before(p.shunned) {
			bad = append(bad, p)
		} else {
			good = append(good, p)
		}
	}
	s.next = (s.next + 1) % len(s.peers)
	return append(good, bad...)
}

// shun has p passed over for a while.
func (s *Sink) shun(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.shunned = time.Now().Add(min(shunFirst<<min(p.failures, 10), shunMost))
	p.failures++
}

// take is an idle connection to p, nil when there is none of use.
func (s *Sink) take(p *peer) *conn {
	var found *conn
	var useless []*conn
	s.mu.Lock()
	for n := len(p.idle) - 1; n >= 0 && found == nil; n-- {
		c := p.idle[n]
		p.idle = p.idle[:n]
		if c.trouble() == nil && time.Since(c.since) < maxIdleTime {
			found = c
		} else {
			useless = append(useless, c)
		}
	}
	s.mu.Unlock()
	for _, c := range useless {
		c.close()
	}
	return found
}

// give gives back a connection that all was delivered on.
func (s *Sink) give(c *conn) {
	s.mu.Lock()
	c.peer.failures, c.peer.shunned = 0, time.Time{}
	keep := !s.closed && len(c.peer.idle) < maxIdle
	if keep {
		c.since = time.Now()
		c.peer.idle = append(c.peer.idle, c)
	}
	s.mu.Unlock()
	if !keep {
		c.close()
	}
}

func (s *Sink) dial(ctx context.Context, p *peer) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	raw, err := s.dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, s.failed(ctx, p, err)
	}
	c := &conn{Conn: raw, raw: raw, peer: p, left: make(chan struct{})}
	if p.tls != nil {
		secure := tls.Client(raw, p.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, s.failed(ctx, p, err)
		}
		c.Conn = secure
	}
	go c.listen()
	return c, nil
}

// failed is err with p, on one line: a receiver can have chosen its words.
func (s *Sink) failed(ctx context.Context, p *peer, err error) error {
	re := &sinks.RequestError{Endpoint: p.address, Err: shortError{err}}
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch cause := context.Cause(ctx); {
	case errors.As(err, &verify), errors.As(err, &alert), errors.As(err, &record):
		re.Misconfigured = true // the two do not trust each other, which no retry mends
	case errors.Is(cause, context.DeadlineExceeded):
		re.Err = fmt.Errorf("not done within %s", s.cfg.Timeout)
	case cause != nil:
		re.Err = cause
	}
	return re
}

type shortError struct{ error }

func (e shortError) Error() string { return httpclient.OneLine(e.error.Error(), 300) }
func (e shortError) Unwrap() error { return e.error }
