package elastic

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"weir/sinks/httpclient"
)

// secrets are the forms in which our credentials could come back: a proxy, or a
// server that explains too much, quotes the header that it was sent. The
// credentials before the present ones count, too: an answer can be about a
// request that was sent before they changed.
type secrets struct {
	last   string // the header's value that forms[0] are of; guarded by Sink.credentials
	now    []string
	hidden atomic.Pointer[[]string] // those of both, longest first
}

// learn takes note of the value of the Authorization header. Not safe for
// concurrent use, but beside hide.
func (s *secrets) learn(authorization string) {
	if authorization == s.last {
		return
	}
	before := s.now
	s.last, s.now = authorization, forms(authorization)
	all := slices.Concat(s.now, before)
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	s.hidden.Store(&all)
}

// hide is text without our credentials.
func (s *secrets) hide(text string) string {
	all := s.hidden.Load()
	if all == nil {
		return text
	}
	for _, secret := range *all {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

// minSecret is the length from which on a form is looked for, in bytes: without
// the letters of a shorter one no text could be read, and where they are missing
// says what they are.
const minSecret = 4

// forms are the credentials in the value of an Authorization header: as they are
// sent, and what is in them. In "Basic" that is the password and the name with
// it, but not the name alone, which Elasticsearch's explanations are full of; in
// "ApiKey" the key and its id.
func forms(authorization string) []string {
	scheme, sent, ok := strings.Cut(authorization, " ")
	if !ok {
		scheme, sent = "", authorization
	}
	sent = strings.TrimRight(strings.TrimSpace(sent), "=")
	all := []string{sent}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		text, err := encoding.DecodeString(sent)
		name, secret, ok := strings.Cut(string(text), ":")
		if err != nil || !ok || !utf8.Valid(text) {
			continue
		}
		all = append(all, string(text), secret)
		if strings.EqualFold(scheme, "ApiKey") {
			all = append(all, name)
		}
	}
	for _, plain := range all {
		// As the HTTP client's errors quote it.
		q := strconv.Quote(plain)
		all = append(all, q[1:len(q)-1])
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(form string) bool { return len(form) < minSecret })
}

// said is what a server said, fit for an error, a verdict or a log: without our
// credentials, on one line, cut after at most n bytes. What a caller shows in quotes
// (%q) needs no more than hide.
func (s *Sink) said(text string, n int) string { return httpclient.OneLine(s.secrets.hide(text), n) }

// quoted is err, which can quote what a server said.
func (s *Sink) quoted(err error) error { return &quotedError{err, s.said(err.Error(), maxReason)} }

type quotedError struct {
	error
	said string
}

func (e *quotedError) Error() string { return e.said }
func (e *quotedError) Unwrap() error { return e.error }
