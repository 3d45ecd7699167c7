package httpsink

import (
	"context"
	"crypto/tls"
	"errors"
	"net/url"
	"sync"
	"time"

	"weir/sinks"
	"weir/sinks/httpclient"
)

// OAuth2 is the client credentials grant (RFC 6749 4.4).
type OAuth2 struct {
	TokenURL string // https, or http to loopback
	ClientID string
	// ClientSecret is read for each new token.
	ClientSecret func() (string, error)
	Scopes       []string
	// TLS to the token server; nil: the system's roots.
	TLS *tls.Config
}

// tokens keeps one token for all requests until it is about to expire or was
// refused.
type tokens struct {
	server   *httpclient.TokenServer
	endpoint string
	turn     chan struct{} // who holds it asks the token server; the others wait for what comes of it

	mu    sync.Mutex
	token string
	until time.Time // zero: it does not expire
}

// tokenLead is how long before it expires a token is replaced, at most.
const tokenLead = time.Minute

func newTokens(cfg *OAuth2) (*tokens, error) {
	u, err := url.Parse(cfg.TokenURL)
	switch {
	case err != nil, u.Hostname() == "", u.User != nil, u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("token URL: want https://HOST/PATH")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("token URL: must be https: the client secret is sent there")
	case cfg.ClientID == "", cfg.ClientSecret == nil:
		return nil, errors.New("OAuth 2: wants a client id and a client secret")
	}
	server := httpclient.TokenServer{URL: cfg.TokenURL, ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret, Scopes: cfg.Scopes}
	return &tokens{
		server:   httpclient.NewTokenServer(server, cfg.TLS),
		endpoint: httpclient.Endpoint(u),
		turn:     make(chan struct{}, 1),
	}, nil
}

// value is a token that is valid for a while.
func (t *tokens) value(ctx context.Context) (string, *sinks.RequestError) {
	if token := t.current(); token != "" {
		return token, nil
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return "", &sinks.RequestError{Endpoint: t.endpoint, Err: context.Cause(ctx)}
	}
	defer func() { <-t.turn }()
	if token := t.current(); token != "" {
		return token, nil
	}
	token, failed := t.server.Token(ctx)
	if failed != nil {
		return "", failed
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.until = token.AccessToken, time.Time{}
	if !token.Expiry.IsZero() {
		t.until = token.Expiry.Add(-min(time.Until(token.Expiry)/4, tokenLead))
	}
	return t.token, nil
}

func (t *tokens) current() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() || time.Now().Before(t.until) {
		return t.token
	}
	return ""
}

// refused makes the next request fetch a new token, unless that was done since.
func (t *tokens) refused(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == token {
		t.token = ""
	}
}
