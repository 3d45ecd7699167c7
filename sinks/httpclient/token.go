package httpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"weir/sinks"
)

// A TokenServer hands out access tokens to who shows a client's secret: the
// client credentials grant (RFC 6749 4.4). It is safe for concurrent use.
type TokenServer struct {
	URL      string
	ClientID string
	// ClientSecret is read for each token.
	ClientSecret func() (string, error)
	Scopes       []string

	client *http.Client
}

const (
	// tokenTimeout bounds one request to a token server.
	tokenTimeout = 10 * time.Second
	// maxToken bounds a token: servers take headers of 8 to 64 KiB.
	maxToken = 16 << 10
)

// NewTokenServer is s, with t for an https URL; nil: the system's roots.
func NewTokenServer(s TokenServer, t *tls.Config) *TokenServer {
	transport := NewTransport(t)
	transport.DisableKeepAlives = true // once an hour or so
	s.client = &http.Client{
		Timeout:   tokenTimeout,
		Transport: transport,
		// A redirect would carry the client's secret to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &s
}

// Token asks for a token, with the secret as it is now, and takes ten seconds at
// most. The token can stand in a header.
//
// Errors: with no word of what the server said but the code of RFC 6749: it was
// sent the secret and could quote it.
func (s *TokenServer) Token(ctx context.Context) (*oauth2.Token, *sinks.RequestError) {
	failed := &sinks.RequestError{}
	if u, err := url.Parse(s.URL); err == nil {
		failed.Endpoint = Endpoint(u)
	}
	misconfigured := func(err error) (*oauth2.Token, *sinks.RequestError) {
		failed.Misconfigured, failed.Err = true, err
		return nil, failed
	}
	secret, err := s.ClientSecret()
	if err != nil {
		return misconfigured(fmt.Errorf("secret of client %q: %w", s.ClientID, err))
	}
	sent := Sent{URL: s.URL, Secret: secret}
	cc := clientcredentials.Config{ClientID: s.ClientID, ClientSecret: secret, TokenURL: s.URL, Scopes: s.Scopes}
	// The answer is read up to 1 MiB by the library.
	token, err := cc.Token(context.WithValue(ctx, oauth2.HTTPClient, s.client))
	var refused *oauth2.RetrieveError
	var netErr *url.Error
	switch {
	case err == nil:
	case ctx.Err() != nil:
		failed.Err = context.Cause(ctx)
		return nil, failed
	case errors.As(err, &refused):
		failed.Err = errors.New("the token server gave no token")
		if legalCode(refused.ErrorCode) {
			failed.Err = fmt.Errorf("the token server gave no token: %s", sent.Words(refused.ErrorCode, maxError))
		}
		if r := refused.Response; r != nil {
			failed.Status = r.StatusCode
			failed.RetryAfter = RetryAfter(r.Header.Get("Retry-After"), time.Now())
			failed.Misconfigured = r.StatusCode < 500 && r.StatusCode != http.StatusTooManyRequests && r.StatusCode != http.StatusRequestTimeout
		}
		return nil, failed
	case errors.As(err, &netErr):
		failed.Err = sent.Error(netErr.Err)
		return nil, failed
	default:
		failed.Err = errors.New("the token server gave no usable answer")
		return nil, failed
	}
	if !strings.EqualFold(token.Type(), "Bearer") {
		return misconfigured(errors.New("the token is not a bearer token"))
	}
	illegal := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if len(token.AccessToken) > maxToken || strings.ContainsFunc(token.AccessToken, illegal) {
		return misconfigured(errors.New("the token cannot stand in a header"))
	}
	return token, nil
}

// legalCode reports whether an error code is a word, as those of RFC 6749 are.
func legalCode(s string) bool {
	illegal := func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }
	return s != "" && len(s) <= 40 && !strings.ContainsFunc(s, illegal)
}
