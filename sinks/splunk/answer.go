package splunk

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"weir/sinks"
	"weir/sinks/httpclient"
)

// The collector's codes (docs.splunk.com, "Possible error codes").
const (
	codeSuccess         = 0
	codeTokenDisabled   = 1
	codeTokenRequired   = 2
	codeInvalidAuth     = 3
	codeInvalidToken    = 4
	codeNoData          = 5
	codeInvalidFormat   = 6
	codeIncorrectIndex  = 7
	codeInternalError   = 8
	codeBusy            = 9
	codeNoChannel       = 10
	codeInvalidChannel  = 11
	codeEventRequired   = 12
	codeEventBlank      = 13
	codeAckDisabled     = 14
	codeIndexedFields   = 15
	codeQueryAuth       = 16
	codeHealthy         = 17
	codeQueuesFull      = 18
	codeAckUnavailable  = 19
	codeBothUnavailable = 20
	codeHealthToken     = 21
	codeHealthDisabled  = 22
	codeShuttingDown    = 23
	codeQueueNearlyFull = 24
	codeAckNearlyFull   = 25
	codeQueueFull       = 26
	codeAckFull         = 27
	codeSticky          = 28

	noCode = -1
)

// meanings are what the codes mean, in our words: what the answer itself says
// comes from outside.
var meanings = map[int]string{
	codeSuccess:         "success",
	codeTokenDisabled:   "the token is disabled",
	codeTokenRequired:   "a token is required",
	codeInvalidAuth:     "invalid authorization",
	codeInvalidToken:    "the token is not known",
	codeNoData:          "no data",
	codeInvalidFormat:   "invalid data format",
	codeIncorrectIndex:  "the token may not write to that index, or there is none",
	codeInternalError:   "internal server error",
	codeBusy:            "the server is busy",
	codeNoChannel:       "the data channel is missing",
	codeInvalidChannel:  "the data channel is invalid",
	codeEventRequired:   "an event is required",
	codeEventBlank:      "an event must not be blank",
	codeAckDisabled:     "the token has no indexer acknowledgement",
	codeIndexedFields:   "the indexed fields cannot be handled",
	codeQueryAuth:       "authorization in the query is not enabled",
	codeHealthy:         "healthy",
	codeQueuesFull:      "unhealthy: the queues are full",
	codeAckUnavailable:  "unhealthy: acknowledgements are not available",
	codeBothUnavailable: "unhealthy: the queues are full and acknowledgements are not available",
	codeHealthToken:     "the token is not known",
	codeHealthDisabled:  "the token is disabled",
	codeShuttingDown:    "the server is shutting down",
	codeQueueNearlyFull: "success, but the queue is nearly full",
	codeAckNearlyFull:   "success, but acknowledgements are nearly at their limit",
	codeQueueFull:       "the queue is full",
	codeAckFull:         "acknowledgements are at their limit",
	codeSticky:          "the data channel is missing, or the load balancer's sessions are not sticky",
}

// reply is what a collector says.
type reply struct {
	code  int    // noCode: it is not a collector's answer
	text  string // its own words
	ackID int64  // with hasAck
	// invalid is invalid-event-number, with hasInvalid.
	invalid    int
	hasAck     bool
	hasInvalid bool
}

// parseReply reads an answer's body. What cannot be read has noCode.
func parseReply(body []byte) reply {
	var a struct {
		Code    *int   `json:"code"`
		Text    string `json:"text"`
		AckID   *int64 `json:"ackId"`
		Invalid *int   `json:"invalid-event-number"`
	}
	if json.Unmarshal(body, &a) != nil || a.Code == nil || *a.Code < 0 {
		return reply{code: noCode}
	}
	r := reply{code: *a.Code, text: a.Text}
	if a.AckID != nil && *a.AckID >= 0 {
		r.ackID, r.hasAck = *a.AckID, true
	}
	if a.Invalid != nil {
		r.invalid, r.hasInvalid = *a.Invalid, true
	}
	return r
}

// maxWords bounds what of a collector's own words is kept, in bytes.
const maxWords = 200

// describe puts the reply, which a is, in words; with quote in the collector's
// own as well.
func (r *reply) describe(quote bool, a *httpclient.Answer) string {
	meaning, known := meanings[r.code]
	switch {
	case r.code == noCode:
		return "the answer is not a collector's"
	case !known && !quote:
		return fmt.Sprintf("code %d, which is not known", r.code)
	case !quote:
		return fmt.Sprintf("code %d: %s", r.code, meaning)
	case !known:
		meaning = "not known"
	}
	return fmt.Sprintf("code %d: %s (%s)", r.code, meaning, a.Sent.Words(r.text, maxWords))
}

// effect is what an answer means for the request.
type effect uint8

const (
	// failed: nothing is known about any event, but that the request failed.
	failed effect = iota
	// accepted: every event was accepted.
	accepted
	// poisoned: the event that the reply names was refused, those before it were
	// accepted, those behind it were not looked at.
	poisoned
	// misrouted: the event that the reply names may not go to its index. Of those
	// before it nothing is known, those behind it were not looked at.
	misrouted
)

// largeBody: a body above it can be refused with "invalid data format" for its
// length. Splunk Cloud's limit lies between 5,242,881 and 6,000,000 bytes, and
// one event has a limit of 5 MB by default.
const largeBody = 5_000_000

// judge says what an answer to n events in a body of size bytes means. at is the
// event that the answer is about, with poisoned and misrouted.
func judge(status int, r *reply, n, size int) (what effect, at int) {
	switch {
	case status == http.StatusOK:
		switch r.code {
		case codeSuccess, codeQueueNearlyFull, codeAckNearlyFull:
			return accepted, 0
		}
	case status == http.StatusBadRequest && r.hasInvalid:
		switch r.code {
		case codeInvalidFormat, codeEventRequired, codeEventBlank, codeIndexedFields:
			tooLong := r.code == codeInvalidFormat && r.invalid == 0 && size > largeBody
			if r.invalid >= 0 && r.invalid < n && !tooLong {
				return poisoned, r.invalid
			}
		case codeIncorrectIndex: // the number is that of the next event
			if r.invalid >= 1 && r.invalid <= n {
				return misrouted, r.invalid - 1
			}
		}
	}
	return failed, 0
}

// refusal is the error for an answer that failed. It rejects no record.
func refusal(a *httpclient.Answer, r *reply, endpoint string, quote bool) *sinks.RequestError {
	e := &sinks.RequestError{
		Status:     a.Status,
		Endpoint:   endpoint,
		RetryAfter: httpclient.RetryAfter(a.Header.Get("Retry-After"), time.Now()),
	}
	// Of these codes the text can be about an event, of the others it is fixed.
	switch r.code {
	case codeInvalidFormat, codeEventRequired, codeEventBlank, codeIndexedFields:
		e.Err = errors.New(r.describe(quote, a))
	default:
		_, known := meanings[r.code]
		e.Err = errors.New(r.describe(quote || !known, a))
	}
	switch status := a.Status; {
	case status == http.StatusOK:
		if r.code != noCode && a.Incomplete == nil {
			e.Err = fmt.Errorf("not an answer to events: %w", e.Err)
		}
	case status == http.StatusRequestEntityTooLarge:
		e.Split, e.Err = true, errors.New("the request is too long")
	case status == http.StatusBadRequest:
		switch r.code {
		case codeInvalidFormat, codeEventRequired, codeEventBlank, codeIndexedFields:
			// It names no event, or one that we did not send, or the body is too long.
			e.Split = true
		default:
			e.Misconfigured = true
		}
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
	case status < 500:
		// 401, 403, 404, a redirect, ...: what was asked, and not what was sent.
		e.Misconfigured = true
	}
	return e
}

// credentialsRefused reports whether an answer says that the token is no good.
func credentialsRefused(status int, r *reply) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return true
	case http.StatusBadRequest:
		return r.code == codeHealthToken || r.code == codeHealthDisabled
	}
	return false
}

// unwell reports whether an answer says that the endpoint has to be left alone
// for a while.
func unwell(status int, r *reply) bool {
	switch r.code {
	case codeQueuesFull, codeAckUnavailable, codeBothUnavailable, codeShuttingDown, codeAckFull:
		return true
	case noCode:
		return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
	}
	return false
}

// mayHaveID reports whether the collector may have given an acknowledgement id
// to a request that failed, and not said so.
func mayHaveID(status int, r *reply) bool {
	return status == http.StatusOK || status == http.StatusRequestTimeout ||
		r.code == codeInternalError || r.code == noCode && status >= 500
}
