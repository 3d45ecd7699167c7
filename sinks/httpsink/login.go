package httpsink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"weir/sinks"
	"weir/sinks/httpclient"
)

// login knows what each request says beside the events: where it goes, the
// headers, who we are.
type login struct {
	url           httpclient.Credentials
	authorization httpclient.Credentials
	headers       []header
	fixed         http.Header // that hold no secret
	tokens        *tokens     // nil: none
	secrets       bool        // there is something that must not go over a network unencrypted
}

type header struct {
	name  string
	value *httpclient.Credentials
}

// said is what one request said.
type said struct {
	url      string
	endpoint string // what may be shown of url
	header   http.Header
	token    string // of OAuth 2
}

// Headers that are ours, or that would change how a request is framed.
var ours = []string{
	"Connection", "Content-Encoding", "Content-Length", "Expect", "Host", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// legalHeader is a token of RFC 9110 5.6.2.
var legalHeader = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// init takes cfg over.
//
// Errors: all faults.
func (l *login) init(cfg *Config) (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	loggedIn := cfg.Authorization != nil || cfg.OAuth2 != nil
	l.secrets = loggedIn || slices.ContainsFunc(cfg.Headers, func(h Header) bool { return !h.Open })
	l.authorization.Read = cfg.Authorization
	l.fixed = http.Header{"Content-Type": {contentType(cfg.Framing)}, "User-Agent": {"weir"}}
	if cfg.Compression == compressGzip {
		l.fixed.Set("Content-Encoding", "gzip")
	}
	seen := map[string]bool{"Authorization": loggedIn}
	for _, h := range cfg.Headers {
		name := http.CanonicalHeaderKey(h.Name)
		switch {
		case !legalHeader.MatchString(h.Name):
			fault("header %q: not a legal name", h.Name)
		case slices.Contains(ours, name):
			fault("header %s: is set by the sink", name)
		case seen[name]:
			fault("header %s: is set twice", name)
		case h.Value == nil:
			fault("header %s: has no value", name)
		}
		seen[name] = true
		l.headers = append(l.headers, header{name, &httpclient.Credentials{Read: h.Value}})
	}
	if cfg.OAuth2 != nil {
		if cfg.Authorization != nil {
			fault("both OAuth 2 and another login")
		}
		t, err := newTokens(cfg.OAuth2)
		if err != nil {
			faults = append(faults, err)
		}
		l.tokens = t
	}
	if cfg.URL == nil {
		return append(faults, errors.New("no URL"))
	}
	l.url.Read = cfg.URL
	raw, err := l.url.Value()
	if err == nil {
		_, err = l.parse(raw)
	}
	if err != nil {
		fault("url: %w", err)
	}
	return faults
}

// parse reads a URL that requests can go to.
//
// Errors: they show no more of it than its host.
func (l *login) parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil: // which quotes it
		return nil, errors.New("cannot be read")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("want http://HOST:PORT/PATH or https://HOST:PORT/PATH")
	case u.User != nil:
		return nil, errors.New("credentials in the URL: they have settings of their own")
	case u.Scheme == "http" && l.secrets && !loopback(u.Hostname()):
		return nil, fmt.Errorf("%s: secrets would go over the network unencrypted", httpclient.Endpoint(u))
	}
	return u, nil
}

func loopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// say is what the next request says.
func (l *login) say(ctx context.Context) (*said, *sinks.RequestError) {
	bad := func(what string, err error) (*said, *sinks.RequestError) {
		return nil, &sinks.RequestError{Misconfigured: true, Err: fmt.Errorf("%s: %w", what, err)}
	}
	raw, err := l.url.Value()
	if err != nil {
		return bad("url", err)
	}
	u, err := l.parse(raw)
	if err != nil {
		// What the file says now cannot be used: it may be in the middle of a change.
		l.url.Refused(raw)
		return bad("url", err)
	}
	s := &said{url: raw, endpoint: httpclient.Endpoint(u), header: l.fixed.Clone()}
	for _, h := range l.headers {
		v, err := h.value.Value()
		if err == nil && strings.ContainsFunc(v, unicode.IsControl) {
			// net/http would refuse it with an error that quotes it.
			h.value.Refused(v)
			err = errors.New("the value holds a control character")
		}
		if err != nil {
			return bad("header "+h.name, err)
		}
		s.header[h.name] = []string{v}
	}
	authorization, err := l.authorization.Value()
	if err != nil {
		return bad("credentials", err)
	}
	if l.tokens != nil {
		token, failed := l.tokens.value(ctx)
		if failed != nil {
			return nil, failed
		}
		s.token = token
		authorization = "Bearer " + token
	}
	if authorization != "" {
		s.header["Authorization"] = []string{authorization}
	}
	return s, nil
}

// refused makes the next request read everything anew that s said.
func (l *login) refused(s *said) {
	l.url.Refused(s.url)
	for _, h := range l.headers {
		h.value.Refused(s.header.Get(h.name))
	}
	if l.tokens != nil {
		l.tokens.refused(s.token)
		return
	}
	l.authorization.Refused(s.header.Get("Authorization"))
}

// failed is an error of the HTTP client.
func (s *said) failed(err error) *sinks.RequestError {
	var re *sinks.RequestError
	if !errors.As(err, &re) {
		re = &sinks.RequestError{Err: err}
	}
	if re.Endpoint == "" {
		re.Endpoint = s.endpoint
	}
	return re
}
