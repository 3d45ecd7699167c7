// Package sinks says what a destination is: something that is given a batch
// and returns one verdict a record.
package sinks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"weir/buffer"
)

// Verdict is what became of one record. The zero Verdict is Retry: a record
// that nothing was said about was not delivered.
type Verdict uint8

const (
	// Retry: nothing is known, or the destination could not take the record now.
	Retry Verdict = iota
	// Ack: the destination holds the record, as durably as its grade says.
	Ack
	// Reject: the destination refused this very record, and would again.
	Reject
)

func (v Verdict) String() string {
	switch v {
	case Ack:
		return "ack"
	case Reject:
		return "reject"
	default:
		return "retry"
	}
}

// Outcome is the verdict on one record, with what the destination said.
type Outcome struct {
	Verdict Verdict
	// Status is the destination's code for this record (an HTTP status, an HEC
	// code), 0 when there was none.
	Status int
	// Reason is the destination's words, empty for a plain Ack. It can quote the
	// event: log it only where the configuration allows that.
	Reason string
	// Note marks an Ack or Retry that is to be counted apart.
	Note Note
}

// Note qualifies an Outcome for the counters and the health of the connector.
type Note uint8

const (
	// Plain: nothing to remark.
	Plain Note = iota
	// Duplicate: an Ack for a record that the destination held already.
	Duplicate
	// Quarantined: an Ack for a record that was stored aside by the destination
	// (Elasticsearch's failure store).
	Quarantined
	// Misconfigured: a Retry that will not get better by itself (401, 403, no
	// such index): a setting is wrong, not the event.
	Misconfigured
	// InDoubt: a Retry of a record that the destination may hold.
	InDoubt
	// Overloaded: a Retry because the destination had no room (429).
	Overloaded
	// Crowded: an Ack, but the destination says that it is close to its limit
	// (HEC codes 24 and 25): the connector asks for less at a time.
	Crowded
)

// Sink makes one attempt to deliver a batch.
//
// With a nil error it returns one Outcome a record, in the batch's order. With
// an error nothing is known about any record and the whole batch is tried
// again; a *RequestError says more about when and how. Anything else (fewer or
// more outcomes than records) settles nothing.
//
// A sink whose acknowledgement comes later than its answer (HEC indexer
// acknowledgement) calls answered once when the answer is in, with Plain or
// Crowded, and goes on to wait: from then on the batch holds its bytes but no
// place in the window. Other sinks need not call it.
//
// Deliver returns soon after ctx is done, keeps no reference to a record after
// it returned (its HTTP client included), and is safe for concurrent use.
type Sink interface {
	Deliver(ctx context.Context, b *buffer.Batch, answered func(Note)) ([]Outcome, error)
}

// RequestError says why an attempt failed as a whole. It rejects no record.
type RequestError struct {
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// RetryAfter is what the destination asked for, 0 when it did not.
	RetryAfter time.Duration
	// Split: the destination refuses this request and would again, but not
	// because of one record it named (413, a 400 that names none). The batch is
	// tried again in halves; a single record is then rejected.
	Split bool
	// Misconfigured: it will not get better by itself (401, 403, 404): a setting
	// is wrong.
	Misconfigured bool
	// Endpoint is the address that was asked, without credentials.
	Endpoint string
	Err      error
}

func (e *RequestError) Error() string {
	s := "request"
	if e.Endpoint != "" {
		s += " to " + e.Endpoint
	}
	if e.Status != 0 {
		s += fmt.Sprintf(" answered %d", e.Status)
	} else {
		s += " failed"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *RequestError) Unwrap() error { return e.Err }

// InDoubt reports whether the destination may have stored what was sent all the
// same: then sending it again can store it twice, where the destination does not
// know it by its id. It is not in doubt when no connection came about, and when
// the answer says that nothing was taken (429, 503, and what is wrong with the
// request or its credentials).
func (e *RequestError) InDoubt() bool {
	var op *net.OpError
	switch {
	case errors.As(e.Err, &op) && op.Op == "dial", e.Misconfigured, e.Split:
		return false
	case e.Status == http.StatusRequestTimeout:
		return true
	case e.Status == http.StatusServiceUnavailable:
		return false
	}
	return e.Status < 300 || e.Status >= 500
}

// Note is what the records of a request that failed with e are to be counted as,
// where others of their batch have an outcome.
func (e *RequestError) Note() Note {
	switch {
	case e.Misconfigured:
		return Misconfigured
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusServiceUnavailable:
		return Overloaded
	case e.InDoubt():
		return InDoubt
	}
	return Plain
}

// Grade is what a sink can promise.
type Grade string

const (
	// GradeA: durable and idempotent; sending twice is harmless.
	GradeA Grade = "A"
	// GradeB: durable acknowledgement, duplicates possible.
	GradeB Grade = "B"
	// GradeC: accepted only.
	GradeC Grade = "C"
	// GradeD: no acknowledgement at all.
	GradeD Grade = "D"
)

// Finding is one thing that was looked at before anything is sent.
type Finding struct {
	// What was looked at, in a few words.
	What string
	// State says how it is.
	State State
	// Detail says what was found, or what is wrong and what to do.
	Detail string
}

// State of a Finding.
type State uint8

const (
	// Bad: records cannot be delivered as it is. The zero State.
	Bad State = iota
	// Doubtful: it will work, but somebody should look.
	Doubtful
	// Good: as it should be.
	Good
)
