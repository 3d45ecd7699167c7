package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// tokenServer answers the client credentials grant for weir / rotated-secret
// with tokens named 1, 2, 3 ...
func tokenServer(t *testing.T, lifetime int) (srv *httptest.Server, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	srv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		user, secret, _ := r.BasicAuth()
		if r.FormValue("grant_type") != "client_credentials" || user != "weir" || secret != "rotated-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"no \u001b[31mred","you_sent":%q}`, secret+r.FormValue("client_secret"))
			return
		}
		_, _ = fmt.Fprintf(w, `{"access_token":"token-%d+%s","token_type":"bearer","expires_in":%d}`, asked.Add(1), strings.ReplaceAll(r.FormValue("scope"), " ", "+"), lifetime)
	}))
	t.Cleanup(srv.Close)
	return srv, asked
}

func trusting(srv *httptest.Server) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return &tls.Config{RootCAs: roots}
}

func fixed(secret string) func() (string, error) {
	return func() (string, error) { return secret, nil }
}

func TestTokenIsFetchedOnceForAllConnections(t *testing.T) {
	srv, asked := tokenServer(t, 3600)
	s := &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: fixed("rotated-secret"), TokenURL: srv.URL, Scopes: []string{"a", "b"}, TokenTLS: trusting(srv)}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			token, err := s.Token()
			if err != nil || token.Token != "token-1+a+b" {
				t.Errorf("token %v, error %v", token, err)
			}
		})
	}
	wg.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	srv, asked := tokenServer(t, 25) // within the half minute that it is renewed ahead
	s := &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: fixed("rotated-secret"), TokenURL: srv.URL, TokenTLS: trusting(srv)}
	for range 3 {
		if _, err := s.Token(); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 3 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestTokenErrorTellsNoSecretAndRecovers(t *testing.T) {
	srv, _ := tokenServer(t, 3600)
	secret := "old-secret"
	s := &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: func() (string, error) { return secret, nil }, TokenURL: srv.URL, TokenTLS: trusting(srv)}
	_, err := s.Token()
	if err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "invalid_client") {
		t.Fatalf("error %v", err)
	}
	if strings.Contains(err.Error(), "old-secret") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("the error quotes what it should not: %q", err)
	}
	secret = "rotated-secret"
	if _, err := s.Token(); err != nil {
		t.Errorf("with the new secret: %v", err)
	}
}

// A token server was sent the secret, and can quote it wherever its words would
// show.
func TestWordsOfATokenServerThatQuotesTheSecretAreNotShown(t *testing.T) {
	const secret = "hunter2secret"
	refused := "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n\r\n"
	for about, answer := range map[string]string{
		"as explanation": refused + `{"error":"invalid_client","error_description":"no client with the secret hunter2secret"}`,
		"as code":        refused + `{"error":"hunter2secret"}`,
		"no JSON":        "HTTP/1.1 400 Bad Request\r\n\r\nhunter2secret is wrong",
		"no HTTP":        "hunter2secret \x1b[31m is wrong\r\n\r\n",
		"as header":      "HTTP/1.1 401 Unauthorized\r\nhunter2secret is wrong\r\n\r\n",
		"as trailer":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nhunter2secret is wrong\r\n\r\n",
		"a long line":    strings.Repeat("hunter2secret ", 200) + "\r\n\r\n",
		"a long header":  refused[:len(refused)-2] + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n" + `{"error":"unbounded"}`,
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, got, ok := r.BasicAuth(); got != secret && (ok || r.FormValue("client_secret") != secret) {
				t.Errorf("%s: it was not sent the secret", about)
			}
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}))
		s := &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: fixed(secret), TokenURL: srv.URL}
		_, err := s.Token()
		srv.Close()
		if err == nil {
			t.Errorf("%s: got a token", about)
			continue
		}
		said := err.Error()
		if strings.Contains(said, secret) || strings.ContainsFunc(said, unicode.IsControl) || len(said) > 500 {
			t.Errorf("%s: not fit for a log: %.600q", about, said)
		}
		if strings.Contains(said, "unbounded") {
			t.Errorf("%s: all of it was read", about)
		}
	}
}

func TestTokenThatWouldBreakTheLoginIsRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"a\u0001host=elsewhere","token_type":"bearer"}`)
	}))
	defer srv.Close()
	s := &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: fixed("secret"), TokenURL: srv.URL}
	if token, err := s.Token(); err == nil {
		t.Errorf("token %q", token.Token)
	}
}

func TestTokenSecretIsNotCarriedToAnotherHost(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host was asked: %s", r.URL)
	}))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	s := &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: fixed("rotated-secret"), TokenURL: srv.URL}
	if _, err := s.Token(); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("error %v", err)
	}
}

func TestTokenServerIsVerified(t *testing.T) {
	srv, asked := tokenServer(t, 3600)
	s := &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: fixed("rotated-secret"), TokenURL: srv.URL}
	if _, err := s.Token(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %v", err)
	}
	if asked.Load() != 0 {
		t.Error("an unknown server got the secret")
	}
}

// What is not the answer is bounded, too.
func TestTokenServerWithEndlessHeadersIsHungUpOn(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X", strings.Repeat("x", 1<<20))
		fmt.Fprint(w, `{"access_token":"a","token_type":"bearer"}`)
	}))
	defer srv.Close()
	s := &SASL{Mechanism: "OAUTHBEARER", Username: "weir", Password: fixed("s"), TokenURL: srv.URL}
	if token, err := s.Token(); err == nil {
		t.Errorf("token %v", token)
	}
}

// A server in the middle could ask for so many iterations that we hash for
// minutes, or for so few that the password is easily guessed.
func TestScramBoundsIterations(t *testing.T) {
	for _, n := range []string{"1", "16385", "2147483647", "99999999999999999999", "x"} {
		c := &scramClient{sasl: &SASL{Password: fixed("secret")}, hash: scram.SHA256}
		if err := c.Begin("weir", "unused", ""); err != nil {
			t.Fatal(err)
		}
		first, err := c.Step("")
		if err != nil {
			t.Fatal(err)
		}
		nonce := first[strings.Index(first, "r=")+2:]
		salt := base64.StdEncoding.EncodeToString([]byte("salt"))
		if _, err := c.Step("r=" + nonce + "srv,s=" + salt + ",i=" + n); err == nil || !strings.Contains(err.Error(), "iterations") {
			t.Errorf("%s iterations: error %v", n, err)
		}
	}
}

func TestScramRefusesAServerThatDoesNotKnowThePassword(t *testing.T) {
	c := &scramClient{sasl: &SASL{Password: fixed("secret")}, hash: scram.SHA512}
	if err := c.Begin("weir", "unused", ""); err != nil {
		t.Fatal(err)
	}
	first, err := c.Step("")
	if err != nil {
		t.Fatal(err)
	}
	nonce := first[strings.Index(first, "r=")+2:]
	if _, err := c.Step("r=" + nonce + "srv,s=c2FsdA==,i=4096"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Step("v=" + base64.StdEncoding.EncodeToString(make([]byte, 64))); err == nil {
		t.Error("accepted")
	}
}

func TestUnknownMechanismIsRefused(t *testing.T) {
	if _, err := (Options{SASL: &SASL{Mechanism: "GSSAPI", Password: fixed("")}}).config(); err == nil {
		t.Error("accepted")
	}
}

// Each of these, left at sarama's default or set wrong, loses or skips records,
// or throws us out of the group.
func TestConfigIsSafe(t *testing.T) {
	for name, o := range map[string]Options{
		"plaintext": {Brokers: []string{"b:9092"}, ClientID: "weir", Rack: "r1"},
		"SCRAM":     {ClientID: "weir", Rack: "r1", TLS: &tls.Config{}, SASL: &SASL{Mechanism: "SCRAM-SHA-512", Username: "u", Password: fixed("p")}},
		"OAuth":     {ClientID: "weir", Rack: "r1", SASL: &SASL{Mechanism: "OAUTHBEARER", Username: "u", Password: fixed("p")}},
	} {
		c, err := o.config()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		group := c.Consumer.Group
		for what, bad := range map[string]bool{
			"newest instead of oldest":         c.Consumer.Offsets.Initial != sarama.OffsetOldest,
			"resets offsets silently":          group.ResetInvalidOffsets,
			"drops marks at a revocation":      !c.Consumer.Offsets.AutoCommit.Enable,
			"commits late":                     c.Consumer.Offsets.AutoCommit.Interval > commitInterval,
			"swallows commit errors":           !c.Consumer.Return.Errors,
			"delivers rolled back records":     c.Consumer.IsolationLevel != sarama.ReadCommitted,
			"creates topics by asking":         c.Metadata.AllowAutoTopicCreation,
			"not cooperative":                  len(group.Rebalance.GroupStrategies) != 1 || group.Rebalance.GroupStrategies[0].Name() != sarama.CooperativeStickyBalanceStrategyName,
			"gives up a JoinGroup that waits":  c.Net.ReadTimeout <= group.Rebalance.Timeout,
			"no topic ids":                     !c.Version.IsAtLeast(sarama.V2_8_0_0) || !c.ApiVersionsRequest,
			"TLS lost":                         c.Net.TLS.Enable != (o.TLS != nil),
			"login lost":                       c.Net.SASL.Enable != (o.SASL != nil),
			"rack lost":                        c.RackID != "r1",
			"client id lost":                   c.ClientID != "weir",
			"heartbeats too rare for sessions": group.Heartbeat.Interval*3 > group.Session.Timeout,
		} {
			if bad {
				t.Errorf("%s: %s", name, what)
			}
		}
	}
}
