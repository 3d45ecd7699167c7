// Package httpclient sends requests to destinations that nobody trusts: what is
// read of an answer is bounded in bytes and time, no redirect is followed, and
// when a request is over nothing of it is read any more.
package httpclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"weir/sinks"
)

// Client makes one attempt a request; whether there is another one is the
// caller's business. It is safe for concurrent use.
type Client struct {
	// Transport is NewTransport's.
	Transport *http.Transport
	// Timeout bounds one request from its first byte to the last of its answer.
	Timeout time.Duration
	// MaxAnswer bounds the body of an answer, in bytes.
	MaxAnswer int
}

// Request is what is sent.
type Request struct {
	Method, URL string
	// Header is sent as it is; nil: none.
	Header http.Header
	// Body is read until its end, or until Do returns and no longer; nil: none. It
	// need not be safe for concurrent use.
	Body io.Reader
	// Length of Body in bytes; 0: not known, it is sent in chunks. A body of another
	// length is an error.
	Length int64
}

// Answer is what came back. What the server chose of it (a header, Body) is shown
// by Sent.Words only.
type Answer struct {
	Status int
	Header http.Header
	// Body has MaxAnswer bytes at most, or, where it is longer than that, one more.
	Body []byte
	// Incomplete says why Body is not the whole answer: it was cut off, too long,
	// or given before the request had been read. Nil when it is whole. An
	// incomplete answer acknowledges nothing. It is fit to be shown.
	Incomplete error
	// Sent is what was answered.
	Sent Sent
}

// NewTransport is a transport for Client. t is for https URLs; nil: the system's
// roots and no certificate of our own.
func NewTransport(t *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		TLSClientConfig:       t.Clone(),
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // the answers are short, and a bomb stays small

		// The default is 10 MiB a request.
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         32 << 10,
	}
}

// Do sends r and reads the answer, whatever its status.
//
// Errors: a *sinks.RequestError when there was no answer, fit to be shown.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ctx, gone := Watch(ctx)
	var in io.Reader
	if r.Body != nil {
		b := NewBody(r.Body)
		defer b.Stop()
		in = b
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, in)
	if err != nil {
		return Answer{}, &sinks.RequestError{Misconfigured: true, Err: errors.New("the URL or the method cannot be used")}
	}
	if r.Body != nil && r.Length > 0 {
		req.ContentLength = r.Length
	}
	if r.Header != nil {
		req.Header = r.Header.Clone()
	}
	// A bare RoundTripper follows no redirect: what we send, credentials included,
	// goes nowhere but where the configuration says.
	sent := Sent{URL: r.URL, Header: req.Header}
	res, err := c.Transport.RoundTrip(req)
	if err != nil {
		return Answer{}, c.failed(req, sent.Error(err))
	}
	defer res.Body.Close()
	a := Answer{Status: res.StatusCode, Header: res.Header, Sent: sent}
	a.Body, err = ReadBounded(res.Body, c.MaxAnswer, nil)
	a.Incomplete = sent.Error(err)
	switch {
	case err != nil && context.Cause(ctx) != nil:
		a.Incomplete = fmt.Errorf("%w (%w)", a.Incomplete, context.Cause(ctx))
	case err == nil && gone():
		a.Incomplete = ErrEarly
	}
	return a, nil
}

// failed says why there was no answer to req.
func (c *Client) failed(req *http.Request, err error) error {
	re := &sinks.RequestError{Endpoint: Endpoint(req.URL), Err: err}
	switch cause := context.Cause(req.Context()); {
	case errors.Is(cause, context.DeadlineExceeded):
		re.Err = fmt.Errorf("no answer within %s", c.Timeout)
	case cause != nil:
		re.Err = cause
	case IsCertificateError(err):
		re.Misconfigured = true
	}
	return re
}

// ParseBase reads the URL of a server, to which paths are added. credentials is
// the setting where they belong that must not be in it.
//
// Errors: they do not quote a URL that may hold a password.
func ParseBase(raw, credentials string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case err != nil:
		return nil, errors.New("a URL that cannot be read")
	case u.User != nil:
		return nil, fmt.Errorf("credentials in the URL of %s: they belong in %s", u.Host, credentials)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("URL %q: want http://host:port or https://host:port", raw)
	case u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("URL %q: no query and no fragment here", raw)
	}
	return u, nil
}

// Endpoint is what of u may be shown: its scheme and host.
func Endpoint(u *url.URL) string { return u.Scheme + "://" + u.Host }

// IsCertificateError reports whether the two sides do not trust each other,
// which no retry mends.
func IsCertificateError(err error) bool {
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	return errors.As(err, &verify) || errors.As(err, &alert) || errors.As(err, &record)
}

// dial connects to a server.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &patientConn{Conn: conn}, nil
}

// ErrEarly says that an answer came before the request had been read.
var ErrEarly = errors.New("answered before it had read the request")

// ErrTooLong says that an answer is longer than any honest one.
var ErrTooLong = errors.New("answer too long")

// ReadBounded appends r to buf up to its end.
//
// Errors: ErrTooLong when there are more than limit bytes (what was read of them
// is in the result), those of r.
func ReadBounded(r io.Reader, limit int, buf []byte) ([]byte, error) {
	out := bytes.NewBuffer(buf)
	n, err := out.ReadFrom(io.LimitReader(r, int64(limit)+1))
	switch {
	case n > int64(limit):
		return out.Bytes(), fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit)
	case err != nil:
		return out.Bytes(), fmt.Errorf("answer cut off after %d bytes: %w", n, err)
	}
	return out.Bytes(), nil
}
