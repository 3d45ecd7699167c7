package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/config"
)

// health runs `weir health` and gives its exit code and what it wrote.
func health(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	code = execute(t.Context(), append([]string{"health"}, args...), &b, &b)
	return code, b.String()
}

// listening writes a weir.yaml whose listener is at addr.
func listening(t *testing.T, addr, more string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "weir.yaml")
	text := fmt.Sprintf(`
kafka: {brokers: ["127.0.0.1:1"]}
listen: %q
%s
connectors: [{name: a, topics: [a], sink: {elasticsearch: {urls: ["http://127.0.0.1:1"], index: a}}}]
`, addr, more)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The listener's certificate is from a private authority and for the name that
// others know it by, not for the address at which a health check asks.
func TestHealthOfAListenerWithAPrivateCertificate(t *testing.T) {
	const token = "0123456789abcdef"
	named := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"weir.example.com"} }
	files := newAuthority(t).server(named)
	a := openAdmin(t, func(c *config.Config) {
		c.ListenTLS = config.ListenTLS{CertFile: files.CertFile, KeyFile: files.KeyFile}
		c.ListenAuth.Token = config.NewSecret(token)
	})
	addr := a.listener.Addr().String()
	ours := fmt.Sprintf("listen_tls: {cert_file: %q, key_file: %q}\nlisten_auth: {token: %s}", files.CertFile, files.KeyFile, token)
	path := listening(t, addr, ours)
	if code, out := health(t, "-c", path); code != exitDone || out != "ok\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
	// With the token it says why.
	if code, out := health(t, "--ready", "-c", path); code != exitFailed || !strings.Contains(out, "idle: kafka: connecting") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if code, out := health(t, "--url", "https://"+addr+"/livez"); code != exitFailed || !strings.Contains(out, "verify certificate") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// Whoever else has taken the port is neither believed nor told the token.
func TestHealthDoesNotAskAStrangerWithTheToken(t *testing.T) {
	named := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"weir.example.com"} }
	ca := newAuthority(t)
	ours, theirs := ca.server(named), ca.server(named)
	asked := false
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair(t, theirs)}}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.StartTLS()
	path := listening(t, srv.Listener.Addr().String(),
		fmt.Sprintf("listen_tls: {cert_file: %q, key_file: %q}\nlisten_auth: {token: 0123456789abcdef}", ours.CertFile, ours.KeyFile))
	code, out := health(t, "-c", path)
	srv.Close()
	if code != exitFailed || asked || !strings.Contains(out, "certificate") {
		t.Errorf("exit code %d, asked %t: %s", code, asked, out)
	}
}

// A listener on all addresses is asked at loopback.
func TestHealthOfAListenerOnAllAddresses(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(w, r.URL.Path, r.Header.Get("Authorization"))
	}))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"0.0.0.0", ""} {
		path := listening(t, net.JoinHostPort(host, port), "listen_auth: {token: 0123456789abcdef}")
		if code, out := health(t, "-c", path); code != exitDone || out != "/livez Bearer 0123456789abcdef\n" {
			t.Errorf("host %q: exit code %d: %s", host, code, out)
		}
	}
}

func TestHealthOfTwoThingsAtOnce(t *testing.T) {
	for _, more := range []string{"-c=weir.yaml", "--ready"} {
		if code, out := health(t, "--url", "http://127.0.0.1:1", more); code != exitUsage || !strings.Contains(out, "--url") {
			t.Errorf("%s: exit code %d: %s", more, code, out)
		}
	}
}

// Whoever sits at the address in weir's place, or is named as a proxy, gets no
// word out of a health check, and the token no further.
func TestHealthGoesNowhereElse(t *testing.T) {
	const token = "0123456789abcdef"
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("another was asked: %s %s, Authorization %q", r.Host, r.URL, r.Header.Get("Authorization"))
		_, _ = w.Write([]byte("the metadata of this machine"))
	}))
	defer elsewhere.Close()
	redirecting := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer redirecting.Close()
	addr := redirecting.Listener.Addr().String()
	path := listening(t, addr, "listen_auth: {token: "+token+"}")
	for _, args := range [][]string{{"-c", path}, {"-c", path, "--ready"}, {"--url", redirecting.URL}} {
		if code, out := health(t, args...); code == exitDone || !strings.Contains(out, "302") || strings.Contains(out, token) {
			t.Errorf("%q: exit code %d: %s", args, code, out)
		}
	}
	// net/http reads these variables once and takes loopback out of them: what would
	// be asked for is compared.
	for _, at := range []string{"http://127.0.0.1:9600/livez", "https://weir.example.com/livez"} {
		r := httptest.NewRequest(http.MethodGet, at, nil)
		if l := askingOver(nil); l.Proxy != nil {
			proxy, err := l.Proxy(r)
			t.Errorf("%s: goes to the proxy %v, %v", at, proxy, err)
		}
	}
}

// A listener that is none can answer without end.
func TestHealthReadsABoundedAnswer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"body": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		},
		"header": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) },
	} {
		srv := httptest.NewServer(answer)
		code, out := health(t, "--url", srv.URL)
		srv.Close()
		if code != exitFailed || len(out) > maxAsked+1000 {
			t.Errorf("%s: exit code %d, %d bytes", name, code, len(out))
		}
	}
}
