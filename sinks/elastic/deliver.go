package elastic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/httpclient"
)

// pools keep what one Deliver leaves for the next.
type pools struct {
	encoders, compressors, answers sync.Pool
}

// answer is the memory that one answer is read with.
type answer struct {
	text  []byte
	items []item
}

// Deliver sends b as one _bulk request. A record that there is no legal index
// name or id for is rejected and not sent.
func (s *Sink) Deliver(ctx context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	outcomes := make([]sinks.Outcome, len(b.Records))
	e, ok := s.pools.encoders.Get().(*encoder)
	if !ok {
		e = new(encoder)
	}
	defer func() {
		e.release()
		s.pools.encoders.Put(e)
	}()
	if !e.start(&s.layout, b.Records, outcomes, time.Now()) {
		return outcomes, nil
	}

	var src io.Reader = e
	if s.cfg.Compression == compressGzip {
		c, ok := s.pools.compressors.Get().(*httpclient.Compressor)
		if !ok {
			c = httpclient.NewCompressor()
		}
		defer s.pools.compressors.Put(c)
		c.Start(e)
		src = c
	}
	a, ok := s.pools.answers.Get().(*answer)
	if !ok {
		a = new(answer)
	}
	defer func() {
		clear(a.items)
		if cap(a.text) <= 4*maxKept {
			s.pools.answers.Put(a)
		}
	}()

	endpoint, err := s.bulk(ctx, src, b, a)
	if err != nil {
		return nil, err
	}
	// The transport reads no more: e is ours again.
	var items []item
	if e.done() {
		items, err = parseAnswer(a.text, s.cfg.Op, e.sent, a.items[:0])
	} else {
		err = httpclient.ErrEarly
	}
	if err != nil {
		return nil, &sinks.RequestError{Status: http.StatusOK, Endpoint: endpoint, Err: err}
	}
	a.items = items
	if blamedTogether(items) {
		return nil, &sinks.RequestError{
			Status: http.StatusOK, Endpoint: endpoint, Split: true,
			Err: errors.New("it is said of several records that the ingest pipeline cannot read them, which can be about one of them only"),
		}
	}
	next := 0
	for i := range outcomes {
		if outcomes[i].Verdict == sinks.Reject {
			continue // by the encoder
		}
		outcomes[i] = s.verdict(&items[next])
		if outcomes[i].Status == http.StatusForbidden {
			s.credentials.Forget() // another key may have more rights
		}
		next++
	}
	return outcomes, nil
}

// bulk sends src, which holds of, as a _bulk request and reads the answer, which
// is 200, into a. When it returns, src is not read any more.
func (s *Sink) bulk(ctx context.Context, src io.Reader, of *buffer.Batch, a *answer) (from string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	ctx, gone := httpclient.Watch(ctx)
	b := httpclient.NewBody(src)
	defer b.Stop()

	req, err := newRequest(ctx, http.MethodPost, s.bulkPath, b)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if s.cfg.Compression == compressGzip {
		req.Header.Set("Content-Encoding", "gzip")
	}

	begun, status := time.Now(), 0
	if s.cfg.Observe != nil {
		defer func() { s.cfg.Observe(status, time.Since(begun)) }()
	}
	res, err := s.perform(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	status = res.StatusCode
	from = endpoint(req)
	limit := maxErrorAnswer
	if status == http.StatusOK {
		limit = answerLimit(len(of.Records))
	}
	a.text, err = httpclient.ReadBounded(res.Body, limit, a.text[:0])
	if status == http.StatusOK && errors.Is(err, httpclient.ErrTooLong) {
		// Beyond that it can quote every event, each byte as an escape of six.
		rest := io.MultiReader(bytes.NewReader(a.text), io.LimitReader(res.Body, 8*of.Bytes))
		a.text, err = httpclient.ReadBounded(&clipper{src: rest}, limit, nil)
	}
	if status != http.StatusOK {
		// What could be read of the explanation is good enough.
		return "", s.refused(res, from, a.text)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (after %s)", err, time.Since(begun).Round(time.Millisecond))
		}
		return "", &sinks.RequestError{Status: status, Endpoint: from, Err: s.quoted(err)}
	}
	if gone() {
		return "", &sinks.RequestError{Status: status, Endpoint: from, Err: httpclient.ErrEarly}
	}
	return from, nil
}

// maxErrorAnswer bounds the explanation of a request that was refused.
const maxErrorAnswer = 64 << 10

// refused says what an answer other than 200 means.
func (s *Sink) refused(res *http.Response, from string, text []byte) error {
	e := &sinks.RequestError{
		Status:     res.StatusCode,
		Endpoint:   from,
		RetryAfter: httpclient.RetryAfter(res.Header.Get("Retry-After"), time.Now()),
	}
	// A proxy in between answers too, in its own words: those are not read.
	genuine := s.flavor.wrote(res.Header)
	var answer struct {
		Error itemError `json:"error"`
	}
	parsed := json.Unmarshal(text, &answer) == nil && answer.Error.Type != ""
	switch {
	// The server's security refuses before anything has named the server, that of
	// OpenSearch with a 401 in plain text.
	case res.StatusCode == http.StatusUnauthorized:
		e.Err = errors.New("the credentials were refused")
	case res.StatusCode == http.StatusForbidden && parsed && answer.Error.Type == "security_exception":
		e.Err = errors.New(s.said(answer.Error.missingRight(), maxReason))
	case !genuine:
		e.Err = fmt.Errorf("the answer is not %s's (%s)", s.flavor.product, s.said(strconv.Quote(res.Header.Get("Content-Type")), 80))
	case !parsed:
		e.Err = errors.New("no explanation")
	}
	quote := s.cfg.IncludeReasons
	switch status := res.StatusCode; {
	case status == http.StatusRequestEntityTooLarge:
		// Written by the server's HTTP layer, without a header that names it.
		e.Split, e.Err = true, errors.New("the request is too long")
	case status == http.StatusTooManyRequests && genuine && aboveLimit(answer.Error.Reason, s.flavor.largest):
		e.Split = true
	case status == http.StatusBadRequest:
		// Of a 400 it is not known which record it is about. But when a proxy says it,
		// or the server of the path or the parameters (then often in a bare
		// string), it is about none of them, and halving would end in refusing all.
		if genuine && answer.Error.Type != "" && !ofRequest(&answer.Error) {
			e.Split = true
		} else {
			e.Misconfigured = true
		}
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
	case status < 500:
		// 401, 403, 404, a redirect, ...: what was asked, and not what was sent.
		e.Misconfigured = true
		quote = true
	}
	if e.Err == nil {
		e.Err = errors.New(s.said(answer.Error.text(quote), maxReason))
	}
	return e
}

// aboveLimit reports whether a 429 says that this request alone is more than the
// node's indexing pressure limit: it would be refused for ever as it is. The
// reason reads "rejected execution of coordinating operation [...,
// coordinating_operation_bytes=62914919, max_coordinating_bytes=53687091]"; what
// the last one is called, largest, is the flavor's.
func aboveLimit(reason, largest string) bool {
	number := func(key string) int64 {
		_, rest, _ := strings.Cut(reason, key+"=")
		digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 0 {
			return 0
		}
		n, _ := strconv.ParseInt(rest[:digits], 10, 64)
		return n
	}
	limit := number(largest)
	return limit > 0 && number("coordinating_operation_bytes") > limit
}

// ofRequest reports whether a 400 is about the request's path, parameters or
// headers.
func ofRequest(e *itemError) bool {
	switch e.Type {
	case "media_type_header_exception", "invalid_index_name_exception":
		return true
	case "illegal_argument_exception":
		return strings.HasPrefix(e.Reason, "request [/") && strings.Contains(e.Reason, "unrecognized parameter")
	}
	return false
}
