package syslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// Deliver sends b over one connection. With a nil error all of it was taken by the
// receiver's side of the network: see the package comment for what that is worth. A
// record whose message would be too long is rejected and not sent.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	begun := time.Now()
	outcomes, err := s.deliver(ctx, b)
	if s.cfg.Observe != nil {
		status := 200
		if err != nil {
			status = 0
		}
		s.cfg.Observe(status, time.Since(begun))
	}
	return outcomes, err
}

func (s *Sink) deliver(ctx context.Context, b *buffer.Batch) ([]sinks.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	e, ok := s.encoders.Get().(*encoder)
	if !ok {
		e = &encoder{layout: &s.layout}
	}
	defer func() {
		e.release()
		s.encoders.Put(e)
	}()
	out := stream{sink: s, ctx: ctx, buf: make([]byte, 0, pieceSize)}
	outcomes := make([]sinks.Outcome, len(b.Records))
	sent := false
	for i, r := range b.Records {
		msg, err := e.message(r)
		if err != nil {
			outcomes[i] = sinks.Outcome{Verdict: sinks.Reject, Reason: err.Error()}
			continue
		}
		if err := out.frame(msg, s.counts); err != nil {
			return nil, err
		}
		outcomes[i].Verdict = sinks.Ack
		sent = true
	}
	if !sent {
		return outcomes, nil
	}
	if err := out.end(); err != nil {
		return nil, err
	}
	return outcomes, nil
}

const pieceSize = 64 << 10

// stream writes frames to a connection, which it makes when there is something to
// write.
type stream struct {
	sink *Sink
	ctx  context.Context
	buf  []byte
	conn *conn
	stop func() bool
}

// frame writes a message in its frame (RFC 6587, 3.4).
func (o *stream) frame(msg []byte, counts bool) error {
	if counts {
		o.buf = strconv.AppendInt(o.buf, int64(len(msg)), 10)
		o.buf = append(o.buf, ' ')
	}
	o.buf = append(o.buf, msg...)
	if !counts {
		o.buf = append(o.buf, '\n')
	}
	if len(o.buf) >= pieceSize {
		return o.flush()
	}
	return nil
}

func (o *stream) flush() error {
	if o.conn == nil {
		c, err := o.sink.connect(o.ctx)
		if err != nil {
			return err
		}
		o.conn = c
		deadline, _ := o.ctx.Deadline()
		_ = c.raw.SetWriteDeadline(deadline)
		// Whoever waits for the end of a write to a receiver that does not read is let
		// go.
		o.stop = context.AfterFunc(o.ctx, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	}
	if _, err := o.conn.Write(o.buf); err != nil {
		return o.broken(err)
	}
	o.buf = o.buf[:0]
	return nil
}

// broken gives the connection up: what of the batch has arrived is not known.
func (o *stream) broken(err error) error {
	o.stop()
	// What the receiver did says more than that a write failed.
	if gone := o.conn.trouble(); gone != nil {
		err = gone
	}
	if errors.Is(err, io.EOF) {
		err = errClosed
	}
	err = o.sink.failed(o.ctx, o.conn.peer, err)
	o.sink.shun(o.conn.peer)
	o.conn.abort()
	return err
}

var errClosed = errors.New("the receiver closed the connection; what of the batch it had taken is not known, all of it is sent again")

// end returns when the receiver's side has all of it, and has not closed the
// connection.
func (o *stream) end() error {
	if err := o.flush(); err != nil {
		return err
	}
	pause := 100 * time.Microsecond
	for {
		left, err := unsent(o.conn.raw)
		if err != nil {
			return o.broken(err)
		}
		if left == 0 {
			break
		}
		select {
		case <-o.conn.left:
			return o.broken(o.conn.trouble())
		case <-o.ctx.Done():
			return o.broken(fmt.Errorf("%d bytes were not taken", left))
		case <-time.After(pause):
			pause = min(2*pause, 20*time.Millisecond)
		}
	}
	// A closing that has arrived by now is seen.
	if err := closing(o.conn.raw); err != nil {
		return o.broken(err)
	}
	if err := o.conn.trouble(); err != nil {
		return o.broken(err)
	}
	if !o.stop() {
		return o.broken(context.Cause(o.ctx))
	}
	_ = o.conn.raw.SetWriteDeadline(time.Time{})
	o.sink.give(o.conn)
	return nil
}
