package httpsink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

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
	cfg      OAuth2
	endpoint string
	client   *http.Client
	turn     chan struct{} // who holds it asks the token server; the others wait for what comes of it

	mu    sync.Mutex
	token string
	until time.Time // zero: it does not expire
}

const (
	// tokenTimeout bounds one request to the token server.
	tokenTimeout = 10 * time.Second
	// tokenLead is how long before it expires a token is replaced, at most.
	tokenLead = time.Minute
	// maxToken bounds a token: servers take headers of 8 to 64 KiB.
	maxToken = 16 << 10
)

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
	return &tokens{
		cfg:      *cfg,
		endpoint: httpclient.Endpoint(u),
		client: &http.Client{
			Timeout:   tokenTimeout,
			Transport: httpclient.NewTransport(cfg.TLS),
			// A redirect would carry the client's secret to wherever it points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		turn: make(chan struct{}, 1),
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
	token, failed := t.fetch(ctx)
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

// fetch asks the token server, with the secret as it is now.
//
// Errors: without a word of what the server said but the code of RFC 6749: it was
// sent the secret and could quote it.
func (t *tokens) fetch(ctx context.Context) (*oauth2.Token, *sinks.RequestError) {
	failed := &sinks.RequestError{Endpoint: t.endpoint}
	secret, err := t.cfg.ClientSecret()
	if err != nil {
		failed.Misconfigured, failed.Err = true, fmt.Errorf("client secret: %w", err)
		return nil, failed
	}
	cc := clientcredentials.Config{ClientID: t.cfg.ClientID, ClientSecret: secret, TokenURL: t.cfg.TokenURL, Scopes: t.cfg.Scopes}
	// What of the server's words can be shown, and is not the secret.
	quoted := said{url: t.cfg.TokenURL, header: http.Header{"Secret": {secret}}}
	// The answer is read up to 1 MiB by the library.
	token, err := cc.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	var refused *oauth2.RetrieveError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		failed.Err = context.Cause(ctx)
		return nil, failed
	case errors.As(err, &refused):
		failed.Err = errors.New("the token server gave no token")
		if legalCode(refused.ErrorCode) {
			failed.Err = fmt.Errorf("the token server gave no token: %s", quoted.redact(refused.ErrorCode))
		}
		if r := refused.Response; r != nil {
			failed.Status = r.StatusCode
			failed.RetryAfter = httpclient.RetryAfter(r.Header.Get("Retry-After"), time.Now())
			failed.Misconfigured = r.StatusCode < 500 && r.StatusCode != http.StatusTooManyRequests && r.StatusCode != http.StatusRequestTimeout
		}
		return nil, failed
	default:
		failed.Err = errors.New("the token server gave no usable answer")
		if netErr := (*url.Error)(nil); errors.As(err, &netErr) {
			failed.Err = errors.New(httpclient.OneLine(quoted.redact(netErr.Err.Error()), maxReason))
		}
		return nil, failed
	}
	if !strings.EqualFold(token.Type(), "Bearer") {
		failed.Misconfigured, failed.Err = true, errors.New("the token is not a bearer token")
		return nil, failed
	}
	illegal := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if len(token.AccessToken) > maxToken || strings.ContainsFunc(token.AccessToken, illegal) {
		failed.Misconfigured, failed.Err = true, errors.New("the token cannot stand in a header")
		return nil, failed
	}
	return token, nil
}

// legalCode reports whether an error code is a word, as those of RFC 6749 are.
func legalCode(s string) bool {
	illegal := func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }
	return s != "" && len(s) <= 40 && !strings.ContainsFunc(s, illegal)
}
