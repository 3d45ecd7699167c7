package httpsink

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/sinks"
	"weir/sinks/sinktest"
)

// rotating is a secret that is changed now and then.
type rotating struct {
	mu    sync.Mutex
	value string
	err   error
	reads int
}

func (r *rotating) read() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	return r.value, r.err
}

func (r *rotating) set(v string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.value = v
}

func TestARotatedSecretIsTakenUpAfterARefusal(t *testing.T) {
	for _, status := range []int{401, 403, 404} {
		var key, token, path rotating
		key.set("one")
		token.set("Bearer one")
		h := sinktest.NewArrayIntake()
		want := "one"
		h.Admit = func(r *http.Request) int {
			if r.Header.Get("X-Key") != want || r.Header.Get("Authorization") != "Bearer "+want || r.URL.Path != "/"+want {
				return status
			}
			return 0
		}
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		path.set(srv.URL + "/one")
		cfg := testConfig("")
		cfg.URL, cfg.Authorization, cfg.Headers = path.read, token.read, []Header{{Name: "X-Key", Value: key.read}}
		s := mustNew(t, cfg)

		deliver(t, s, numbered(1))
		deliver(t, s, numbered(1))
		if key.reads != 1 || token.reads != 1 {
			t.Errorf("read %d and %d times, want once", key.reads, token.reads)
		}
		want = "two"
		if e := failed(t, s, numbered(1)); e.Status != status || !e.Misconfigured {
			t.Errorf("%+v", e)
		}
		key.set("two")
		token.set("Bearer two")
		path.set(srv.URL + "/two")
		if out := deliver(t, s, numbered(1)); out[0].Verdict != sinks.Ack {
			t.Errorf("%d: %+v", status, out)
		}
	}
}

func TestASecretThatCannotBeUsedIsNotShown(t *testing.T) {
	f := func(about string, edit func(*Config)) {
		t.Helper()
		s := serve(t, sinktest.NewArrayIntake(), edit)
		e := failed(t, s, numbered(1))
		if !e.Misconfigured || strings.Contains(e.Error(), "hunter2") {
			t.Errorf("%s: %v", about, e)
		}
	}
	unreadable := func() (string, error) { return "", errors.New("the file is gone") }
	f("header with a line break", func(c *Config) { c.Headers = []Header{{Name: "X", Value: text("hunter2\r\nX: y")}} })
	f("authorization with a line break", func(c *Config) { c.Authorization = text("Bearer hunter2\n") })
	f("header that cannot be read", func(c *Config) { c.Headers = []Header{{Name: "X", Value: unreadable}} })
	f("authorization that cannot be read", func(c *Config) { c.Authorization = unreadable })
	f("a client secret that cannot be read", func(c *Config) {
		c.OAuth2 = &OAuth2{TokenURL: "https://127.0.0.1:1/", ClientID: "c", ClientSecret: unreadable}
	})
	calls := 0
	f("a URL that changed into nonsense", func(c *Config) {
		url := c.URL
		c.URL = func() (string, error) {
			if calls++; calls > 1 {
				return "hunter2://hunter2", nil
			}
			return url()
		}
		c.Headers = []Header{{Name: "X", Value: unreadable}}
	})
}

// A file with the URL can change from https to http while weir runs.
func TestSecretsDoNotGoOverANetworkUnencrypted(t *testing.T) {
	f := func(about string, want bool, edit func(*Config)) {
		t.Helper()
		cfg := testConfig("")
		asked := 0
		cfg.URL = func() (string, error) {
			if asked++; asked == 1 {
				return "https://intake.invalid/", nil
			}
			return "http://intake.invalid/hunter2", nil
		}
		edit(&cfg)
		s := mustNew(t, cfg)
		s.login.url.Forget()
		_, e := s.login.say(t.Context())
		if got := e != nil; got != want || got && (!e.Misconfigured || !strings.Contains(e.Error(), "unencrypted") || strings.Contains(e.Error(), "hunter2")) {
			t.Errorf("%s: %v", about, e)
		}
	}
	f("authorization", true, func(c *Config) { c.Authorization = text("Bearer hunter2") })
	f("a header", true, func(c *Config) { c.Headers = []Header{{Name: "X-Honeycomb-Team", Value: text("hunter2")}} })
	f("a header that is none", false, func(c *Config) { c.Headers = []Header{{Name: "X-Scope-OrgID", Value: text("a"), Open: true}} })
	f("nothing", false, func(*Config) {})
}

// What we sent comes back in the server's words, in all the forms that servers
// have for it.
func TestSecretsAreTakenOutOfForeignText(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		quoted, _ := json.Marshal(r.Header)
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "bad %s %s %s %s %s %s %s", r.URL, r.URL.Path, r.URL.RawQuery, quoted, r.Header.Get("X-Key"), user+":"+password, r.RequestURI)
	})
	srv := httptest.NewServer(echo)
	t.Cleanup(srv.Close)
	cfg := testConfig(srv.URL + "/receiver/TOKEN-IN-THE-PATH-0123456789?key=TOKEN%2FIN-THE-QUERY")
	cfg.IncludeReasons = true
	r, _ := http.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth("user", `TOKEN"IN-BASIC`)
	cfg.Authorization = text(r.Header.Get("Authorization"))
	cfg.Headers = []Header{{Name: "X-Key", Value: text(`TOKEN"IN/A\HEADER`)}}
	s := mustNew(t, cfg)
	e := failed(t, s, numbered(1))
	said := e.Error()
	basic := strings.TrimPrefix(r.Header.Get("Authorization"), "Basic ")
	for _, leak := range []string{"TOKEN", basic} {
		if strings.Contains(said, leak) {
			t.Errorf("shows %s: %s", leak, said)
		}
	}
	if !strings.Contains(said, "***") || !strings.Contains(said, "bad") {
		t.Errorf("says nothing: %s", said)
	}
}

// tokenServer is a token server: it hands out token-1, token-2, ..., and the newest is
// the one that counts.
type tokenServer struct {
	secret  string
	expires int
	answer  func(w http.ResponseWriter) // instead, if it is not nil

	mu     sync.Mutex
	n      int
	scopes []string
}

func (l *tokenServer) token() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("token-%d", l.n)
}

func (l *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answer != nil {
		l.answer(w)
		return
	}
	id, secret, ok := r.BasicAuth()
	if !ok || id != "client" || secret != l.secret || r.FormValue("grant_type") != "client_credentials" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s is wrong"}`, secret)
		return
	}
	l.scopes = append(l.scopes, r.FormValue("scope"))
	l.n++
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":%d}`, l.n, l.expires)
}

// oauth is an intake behind a token server, both over TLS.
func oauth(t *testing.T, l *tokenServer, secret func() (string, error)) (*sinktest.HTTP, *Sink) {
	t.Helper()
	tokens := httptest.NewTLSServer(l)
	t.Cleanup(tokens.Close)
	h := sinktest.NewArrayIntake()
	h.Admit = func(r *http.Request) int {
		if r.Header.Get("Authorization") != "Bearer "+l.token() {
			return http.StatusUnauthorized
		}
		return 0
	}
	s := serve(t, h, func(c *Config) {
		c.OAuth2 = &OAuth2{
			TokenURL: tokens.URL + "/token", ClientID: "client", ClientSecret: secret,
			Scopes: []string{"a", "b"}, TLS: trust(tokens.Certificate()),
		}
	})
	return h, s
}

func trust(c *x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &tls.Config{RootCAs: pool}
}

func TestOneTokenForAllRequests(t *testing.T) {
	l := &tokenServer{secret: "s", expires: 3600}
	h, s := oauth(t, l, text("s"))
	s.cfg.MaxRecords, s.cfg.Parallel = 1, 8
	if out := deliver(t, s, numbered(100)); count(out, sinks.Ack) != 100 || h.Stored() != 100 {
		t.Errorf("%d acked", count(out, sinks.Ack))
	}
	if !slices.Equal(l.scopes, []string{"a b"}) {
		t.Errorf("tokens fetched with the scopes %q, want one", l.scopes)
	}
}

func TestATokenThatExpiresIsFetchedAnew(t *testing.T) {
	l := &tokenServer{secret: "s", expires: 3600}
	_, s := oauth(t, l, text("s"))
	deliver(t, s, numbered(1))
	s.login.tokens.mu.Lock()
	s.login.tokens.until = time.Now().Add(-time.Second)
	s.login.tokens.mu.Unlock()
	if out := deliver(t, s, numbered(1)); out[0].Verdict != sinks.Ack || len(l.scopes) != 2 {
		t.Errorf("%+v, %d tokens", out, len(l.scopes))
	}
}

func TestARefusedTokenIsFetchedAnewWithTheSecretOfNow(t *testing.T) {
	var secret rotating
	secret.set("one")
	l := &tokenServer{secret: "one", expires: 3600}
	_, s := oauth(t, l, secret.read)
	deliver(t, s, numbered(1))

	l.mu.Lock()
	l.secret, l.n = "two", l.n+1 // the token that was handed out is worth nothing now
	l.mu.Unlock()
	if e := failed(t, s, numbered(1)); e.Status != 401 || !e.Misconfigured {
		t.Errorf("%+v", e)
	}
	e := failed(t, s, numbered(1))
	if !e.Misconfigured || e.Status != 401 || !strings.Contains(e.Error(), "invalid_client") || strings.Contains(e.Error(), "wrong") {
		t.Errorf("the token server refuses: %v", e)
	}
	secret.set("two")
	if out := deliver(t, s, numbered(1)); out[0].Verdict != sinks.Ack {
		t.Errorf("%+v", out)
	}
}

func TestAHostileTokenServerGetsNothingAndSaysNothing(t *testing.T) {
	elsewhere := atomic.Int32{}
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	json := func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/json") }
	for about, answer := range map[string]func(http.ResponseWriter){
		"redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"quotes the secret": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte("hunter2 is wrong"))
		},
		"quotes the secret as code": func(w http.ResponseWriter) {
			json(w)
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"hunter2"}`))
		},
		"HTML":     func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>hunter2")) },
		"no token": func(w http.ResponseWriter) { json(w); _, _ = w.Write([]byte(`{"expires_in":1}`)) },
		"a token with a line break": func(w http.ResponseWriter) {
			json(w)
			_, _ = w.Write([]byte(`{"access_token":"a\r\nX: y","token_type":"bearer"}`))
		},
		"a token of half a megabyte": func(w http.ResponseWriter) {
			json(w)
			_, _ = w.Write([]byte(`{"token_type":"bearer","access_token":"` + strings.Repeat("x", 500<<10) + `"}`))
		},
		"a token of another kind": func(w http.ResponseWriter) {
			json(w)
			_, _ = w.Write([]byte(`{"access_token":"a","token_type":"mac"}`))
		},
		"an answer without end": func(w http.ResponseWriter) { json(w); forEver(w, []byte(strings.Repeat(" ", 1<<20))) },
		"a header without end":  func(w http.ResponseWriter) { w.Header().Set("X", strings.Repeat("x", 1<<20)) },
		"unavailable, and come back": func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
	} {
		t.Run(about, func(t *testing.T) {
			secret := "hunter2"
			if strings.HasSuffix(about, "as word") {
				secret = "hunter_two"
			}
			h, s := oauth(t, &tokenServer{answer: answer}, text(secret))
			e := failed(t, s, numbered(1))
			if len(h.Requests()) != 0 || elsewhere.Load() != 0 {
				t.Error("events or secrets were sent")
			}
			clean(t, e.Error(), secret)
			if e.Endpoint == "" || e.Split {
				t.Errorf("%+v", e)
			}
			if e.Status == 503 && (e.RetryAfter != 7*time.Second || e.Misconfigured) {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	f := func(h http.Handler, edit func(*Config), want sinks.State) {
		t.Helper()
		in := h
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodHead || r.ContentLength > 0 {
				t.Errorf("sent a %s", r.Method)
			}
			in.ServeHTTP(w, r)
		}), edit)
		found := s.Check(t.Context())
		if len(found) == 0 || found[len(found)-1].State != want {
			t.Errorf("%+v, want %d", found, want)
		}
	}
	status := func(n int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) })
	}
	f(sinktest.NewArrayIntake(), nil, sinks.Good)
	f(status(200), nil, sinks.Good)
	f(status(404), nil, sinks.Good)
	f(status(302), nil, sinks.Doubtful)
	f(status(503), nil, sinks.Doubtful)
	f(status(401), nil, sinks.Bad)
	f(status(403), nil, sinks.Bad)
	f(status(200), func(c *Config) { c.URL = text("http://127.0.0.1:1/") }, sinks.Bad)
	f(status(200), func(c *Config) { c.Authorization = func() (string, error) { return "", errors.New("gone") } }, sinks.Bad)

	_, s := oauth(t, &tokenServer{secret: "s", expires: 60}, text("s"))
	if found := s.Check(t.Context()); len(found) != 2 || found[0].State != sinks.Good || found[1].State != sinks.Good {
		t.Errorf("%+v", found)
	}
	_, s = oauth(t, &tokenServer{secret: "s"}, text("hunter2"))
	if found := s.Check(t.Context()); len(found) != 1 || found[0].State != sinks.Bad || strings.Contains(found[0].Detail, "hunter2") {
		t.Errorf("%+v", found)
	}
}

func TestAClientCertificateIsShown(t *testing.T) {
	h := sinktest.NewArrayIntake()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)

	cfg := testConfig(srv.URL)
	cfg.TLS = trust(srv.Certificate())
	if e := failed(t, mustNew(t, cfg), numbered(1)); h.Stored() != 0 {
		t.Errorf("without a certificate: %v", e)
	}
	cfg.TLS.Certificates = srv.TLS.Certificates[:1] // any will do
	if out := deliver(t, mustNew(t, cfg), numbered(1)); out[0].Verdict != sinks.Ack {
		t.Errorf("%+v", out)
	}
	cfg.TLS = nil
	if e := failed(t, mustNew(t, cfg), numbered(1)); !e.Misconfigured {
		t.Errorf("a server nobody vouches for: %+v", e)
	}
}
