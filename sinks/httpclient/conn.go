package httpclient

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
)

// A patientConn goes on as if a write had gone well when the other side has
// closed the connection, so that what that side said before can still be read.
//
// A server may answer before it has read the whole body and hang up: 413 for one
// that is too long, 401, 429. net/http gives up at the first write that fails and
// reports a broken pipe; the batch would be sent again for ever in its full
// length, where the answer says to halve it. Nothing is taken for delivered by
// this: when there is no answer to read, reading fails, and when there is one, it
// has to name every record.
type patientConn struct {
	net.Conn
	gone atomic.Bool
}

// Write writes p, or drops it when the other side is gone.
func (c *patientConn) Write(p []byte) (int, error) {
	if c.gone.Load() {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		c.gone.Store(true)
		return len(p), nil
	}
	return n, err
}

// patient is the patientConn that conn is, or that its TLS runs over; nil for
// none.
func patient(conn net.Conn) *patientConn {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	p, _ := conn.(*patientConn)
	return p
}

// Watch makes gone report, once a request with the returned context is over,
// whether the server hung up before it had read that request whole. It works
// with connections of NewTransport's.
func Watch(ctx context.Context) (_ context.Context, gone func() bool) {
	var conn *patientConn
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { conn = patient(got.Conn) },
	})
	return ctx, func() bool { return conn != nil && conn.gone.Load() }
}
