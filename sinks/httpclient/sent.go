package httpclient

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"weir/sinks/splice"
)

// Sent is what a server was sent, and can quote when it explains itself, as can a
// proxy before it. None of that is shown of what it says.
type Sent struct {
	URL    string
	Header http.Header
	// Secret is one that was sent in neither of them; empty: none.
	Secret string
}

// Words are what a server said, fit for an error or a log: without what it was
// sent, on one line, cut to at most n bytes.
func (s *Sent) Words(text string, n int) string { return OneLine(s.redact(text), n) }

// Error is err, which can quote what a server said, in words that are fit to be
// shown; nil for nil.
func (s *Sent) Error(err error) error {
	if err == nil {
		return nil
	}
	return &shownError{err, s.Words(err.Error(), maxError)}
}

// maxError bounds the words of an error, in bytes.
const maxError = 300

// shownError is an error in other words than its own.
type shownError struct {
	error
	words string
}

func (e *shownError) Error() string { return e.words }
func (e *shownError) Unwrap() error { return e.error }

// hidden is what stands for a secret.
const hidden = "***"

// redact takes out of foreign text whatever was sent that can be a secret, in the
// forms in which a server would quote it, or an error that quotes the server.
func (s *Sent) redact(text string) string {
	var secrets []string
	for _, v := range s.secrets() {
		// Shorter ones are no secrets, and would shred the text.
		if len(v) < 4 {
			continue
		}
		quoted := strconv.Quote(v)
		secrets = append(secrets, v, url.QueryEscape(v), url.PathEscape(v), quoted[1:len(quoted)-1],
			string(splice.AppendEscaped(nil, []byte(v))), strings.ReplaceAll(v, "/", `\/`))
	}
	// The longest first: one can be part of another.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(secrets))
	for _, v := range secrets {
		pairs = append(pairs, v, hidden)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// secrets is everything that was sent and can be one.
func (s *Sent) secrets() []string {
	all := []string{s.Secret}
	for name, values := range s.Header {
		switch name {
		case "Content-Type", "Content-Encoding", "User-Agent":
			continue
		}
		all = append(all, values...)
	}
	if kind, value, ok := strings.Cut(s.Header.Get("Authorization"), " "); ok {
		all = append(all, value)
		if r := (&http.Request{Header: s.Header}); strings.EqualFold(kind, "Basic") {
			_, password, _ := r.BasicAuth()
			all = append(all, password)
		}
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return all
	}
	all = append(all, s.URL)
	if len(u.Path) > 1 {
		all = append(all, u.RequestURI(), u.Path)
	}
	for step := range strings.SplitSeq(u.Path, "/") {
		// Those of a version or a resource are words that every text has.
		if len(step) >= 16 {
			all = append(all, step)
		}
	}
	for _, values := range u.Query() {
		all = append(all, values...)
	}
	return all
}
