package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

// idleBridge has one connector that nobody has started.
func idleBridge(t *testing.T) *bridge {
	t.Helper()
	cfg := config.Default()
	cfg.Kafka.Brokers = []string{"127.0.0.1:1"}
	c, e := config.DefaultConnector(), config.DefaultElasticsearch()
	c.Name, c.Group, c.Topics = "idle", "weir.idle", []string{"a"}
	e.URLs, e.Index = []string{"http://127.0.0.1:1"}, "a"
	c.Sink.Elasticsearch = &e
	cfg.Connectors = []config.Connector{c}
	b, err := newBridge(&cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

// openAdmin starts the listener that change makes of a free port on loopback.
func openAdmin(t *testing.T, change func(*config.Config)) *admin {
	t.Helper()
	cfg := config.Default()
	cfg.Listen = "127.0.0.1:0"
	change(&cfg)
	b := idleBridge(t)
	a, err := newAdmin(&cfg, b, newRegistry(b), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.stop(context.Background()) })
	return a
}

func TestDefaultListenerIsOnLoopback(t *testing.T) {
	host, _, err := net.SplitHostPort(config.Default().Listen)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("listen is %q by default", config.Default().Listen)
	}
}

// Without the token nobody learns more than whether weir is well.
func TestTokenOpensTheListener(t *testing.T) {
	const token = "0123456789abcdef"
	b := idleBridge(t)
	h := adminHandler(gate{token: config.NewSecret(token)}, b, newRegistry(b), slog.New(slog.DiscardHandler))
	f := func(path, authorization string, status int, detailed bool) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != status || strings.Contains(w.Body.String(), "idle") != detailed {
			t.Errorf("%s with %q: %d %s", path, authorization, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), token) {
			t.Errorf("%s shows the token: %s", path, w.Body)
		}
	}
	for _, path := range []string{"/status", "/metrics"} {
		f(path, "Bearer "+token, 200, true)
		for _, wrong := range []string{"", "Bearer", "Bearer ", "bearer" + token, "Bearer 0123456789abcdeF", "Bearer " + token + "x", "Basic " + token, token} {
			f(path, wrong, 401, false)
		}
	}
	f("/livez", "", 200, false)
	f("/readyz", "", 503, false)
	f("/readyz", "Bearer wrong", 503, false)
	f("/readyz", "Bearer "+token, 503, true)
}

// A token whose file is gone, or holds one that can be guessed, opens nothing: least
// of all to an empty one.
func TestTokenThatCannotBeUsedOpensNothing(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/token"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(file, []byte("0123456789abcdef"), 0o600))
	must(os.WriteFile(dir+"/weir.yaml", []byte(`
kafka: {brokers: ["127.0.0.1:1"]}
listen_auth: {token: "${file:token}"}
connectors: [{name: a, topics: [a], sink: {elasticsearch: {urls: ["http://127.0.0.1:1"], index: a}}}]
`), 0o600))
	cfg, err := config.Load(dir + "/weir.yaml")
	must(err)
	g := gate{token: cfg.ListenAuth.Token}
	f := func(token string, want int) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/status", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if got, _ := g.refuses(r); got != want {
			t.Errorf("token %q: %d, want %d", token, got, want)
		}
	}
	f("0123456789abcdef", 0)
	must(os.WriteFile(file, []byte("fedcba9876543210"), 0o600))
	f("0123456789abcdef", 401)
	f("fedcba9876543210", 0)
	must(os.WriteFile(file, []byte("x"), 0o600)) // check would not have it
	f("x", 401)
	f("fedcba9876543210", 401)
	must(os.WriteFile(file, []byte("fedcba9876543210"), 0o600))
	f("fedcba9876543210", 0)
	must(os.Remove(file))
	f("fedcba9876543210", 401)
	f("", 401)
}

// A hostile page in a browser on this machine reaches the listener under a name
// of its own (DNS rebinding), and must not read from it.
func TestWithoutTokenOnlyLocalNamesAreAnswered(t *testing.T) {
	b := idleBridge(t)
	h := adminHandler(gate{}, b, newRegistry(b), slog.New(slog.DiscardHandler))
	f := func(host string, status int) {
		t.Helper()
		for _, path := range []string{"/status", "/metrics"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != status {
				t.Errorf("Host %q: %s answers %d, want %d", host, path, w.Code, status)
			}
		}
	}
	for _, host := range []string{"127.0.0.1:9600", "127.0.0.1", "localhost:9600", "localhost", "[::1]:9600", "[::1]", "10.0.0.1:9600"} {
		f(host, 200)
	}
	for _, host := range []string{"evil.example:9600", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9600", "", ":9600"} {
		f(host, 403)
	}
}

// There is nothing to change, no profiler, and nothing for a browser to run.
func TestListenerOnlyTells(t *testing.T) {
	b := idleBridge(t)
	h := adminHandler(gate{}, b, newRegistry(b), slog.New(slog.DiscardHandler))
	ask := func(method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Host = "127.0.0.1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, path := range []string{"/", "/debug/pprof", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/vars", "/config"} {
		if w := ask(http.MethodGet, path); w.Code != 404 {
			t.Errorf("%s answers %d", path, w.Code)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/status"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			if w := ask(method, path); w.Code != 405 {
				t.Errorf("%s %s answers %d", method, path, w.Code)
			}
		}
		w := ask(http.MethodGet, path)
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, w.Header())
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s can be read by any page", path)
		}
	}
}

// onePipe is a listener with one connection.
type onePipe struct {
	conns chan net.Conn
	once  sync.Once
}

func (p *onePipe) Accept() (net.Conn, error) {
	if conn, ok := <-p.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p *onePipe) Close() error {
	p.once.Do(func() { close(p.conns) })
	return nil
}

func (p *onePipe) Addr() net.Addr { return &net.TCPAddr{} }

// Who says nothing, or a byte a second, or does not read the answer, is hung up
// on. Time is virtual.
func TestSlowClientsAreHungUpOn(t *testing.T) {
	f := func(name, says string, pause time.Duration, reads bool, within time.Duration) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				defer wg.Wait()
				l := &onePipe{conns: make(chan net.Conn, 1)}
				srv := adminServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
				}), slog.New(slog.DiscardHandler))
				wg.Go(func() { _ = srv.Serve(l) })
				defer srv.Close()
				here, there := net.Pipe()
				defer here.Close()
				closed := make(chan struct{})
				l.conns <- &placedConn{Conn: there, leave: sync.OnceFunc(func() { close(closed) })}
				wg.Go(func() {
					for _, c := range []byte(says) {
						if _, err := here.Write([]byte{c}); err != nil {
							return
						}
						time.Sleep(pause)
					}
				})
				if reads {
					wg.Go(func() { _, _ = io.Copy(io.Discard, here) })
				}
				began := time.Now()
				select {
				case <-closed:
					if took := time.Since(began); took > within+time.Second {
						t.Errorf("hung up on after %s, want %s at most", took, within)
					}
				case <-time.After(time.Hour):
					t.Error("never hung up on")
				}
			})
		})
	}
	const get = "GET /status HTTP/1.1\r\nHost: a\r\n"
	f("says nothing", "", 0, true, 5*time.Second)
	f("a header that does not end", get+"X: "+strings.Repeat("x", 600), time.Second, true, 5*time.Second)
	f("a body that does not end", get+"Content-Length: 1000\r\n\r\n"+strings.Repeat("x", 900), 20*time.Millisecond, true, 10*time.Second)
	f("an answer that is not read", get+"\r\n", 0, false, 30*time.Second)
	f("a connection that is not used again", get+"\r\n", 0, true, time.Minute)
}

func TestLongHeadersAreRefused(t *testing.T) {
	a := openAdmin(t, func(*config.Config) {})
	ask := func(header string) string {
		t.Helper()
		conn, err := net.Dial("tcp", a.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		go func() { _, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n"+header+"\r\n\r\n") }()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	if got := ask("X: " + strings.Repeat("x", 8<<10)); !strings.Contains(got, " 200 ") {
		t.Errorf("8 KiB of header: %s", got)
	}
	if got := ask("X: " + strings.Repeat("x", 64<<10)); !strings.Contains(got, " 431 ") {
		t.Errorf("64 KiB of header: %s", got)
	}
	if got := ask(strings.Repeat("X: x\r\n", 10_000) + "Y: y"); !strings.Contains(got, " 431 ") {
		t.Errorf("10,000 headers: %s", got)
	}
}

// A flood of connections must not take the file descriptors that the bridge needs.
func TestConnectionsAreBounded(t *testing.T) {
	a := openAdmin(t, func(*config.Config) {})
	addr := a.listener.Addr().String()
	// live asks over conn and leaves it open.
	live := func(conn net.Conn) error {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && !strings.Contains(line, " 200 ") {
			err = errors.New(line)
		}
		return err
	}
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var conns []net.Conn
	for i := range maxAdminConns {
		conn := dial()
		if err := live(conn); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conns = append(conns, conn)
	}
	if err := live(dial()); err == nil {
		t.Fatalf("%d connections at a time", maxAdminConns+1)
	}
	_ = conns[0].Close()
	for deadline := time.Now().Add(20 * time.Second); ; { // the server has yet to notice
		if err := live(dial()); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("a place that was given back cannot be taken: %v", err)
		}
	}
}

// askTLS asks path at a over TLS and gives the status.
func askTLS(a *admin, path string, t *tls.Config) (int, error) {
	c := http.Client{Transport: &http.Transport{TLSClientConfig: t, DisableKeepAlives: true}, Timeout: 20 * time.Second}
	res, err := c.Get("https://" + a.listener.Addr().String() + path)
	if err != nil {
		return 0, err
	}
	_ = res.Body.Close()
	return res.StatusCode, nil
}

// With a client authority the certificate stands for the token.
func TestClientCertificateOpensTheListener(t *testing.T) {
	ca, clients := newAuthority(t), newAuthority(t)
	server := ca.server()
	a := openAdmin(t, func(c *config.Config) {
		c.ListenTLS = config.ListenTLS{CertFile: server.CertFile, KeyFile: server.KeyFile, ClientCAFile: clients.file}
	})
	f := func(path string, status int, certs ...tls.Certificate) {
		t.Helper()
		// One that the server does not name as wanted would not be sent by itself.
		send := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil
		}
		got, err := askTLS(a, path, &tls.Config{RootCAs: ca.pool(), GetClientCertificate: send})
		if got != status || (status == 0) != (err != nil) {
			t.Errorf("%s: %d, %v, want %d", path, got, err, status)
		}
	}
	known, stranger := pair(t, clients.client()), pair(t, newAuthority(t).client())
	for _, path := range []string{"/status", "/metrics"} {
		f(path, 200, known)
		f(path, 403)
		f(path, 0, stranger)
		f(path, 0, pair(t, clients.server())) // not one for clients
	}
	f("/livez", 200)
	f("/readyz", 503)
	f("/livez", 0, stranger)

	if _, err := askTLS(a, "/livez", &tls.Config{RootCAs: ca.pool(), MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if res, err := http.Get("http://" + a.listener.Addr().String() + "/livez"); err == nil {
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP is answered %d", res.StatusCode)
		}
	}
}

// A renewed certificate is taken up, and a broken one harms nobody but those who
// come while it is there.
func TestListenerTakesUpARenewedCertificate(t *testing.T) {
	ca := newAuthority(t)
	server := ca.server()
	a := openAdmin(t, func(c *config.Config) {
		c.ListenTLS = config.ListenTLS{CertFile: server.CertFile, KeyFile: server.KeyFile}
	})
	serial := func() (n string, err error) {
		conn, err := tls.Dial("tcp", a.listener.Addr().String(), &tls.Config{RootCAs: ca.pool()})
		if err != nil {
			return "", err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
	}
	put := func(from config.TLS) {
		t.Helper()
		for to, file := range map[string]string{server.CertFile: from.CertFile, server.KeyFile: from.KeyFile} {
			b, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	first, err := serial()
	if err != nil {
		t.Fatal(err)
	}
	renewed := ca.server()
	put(config.TLS{CertFile: renewed.KeyFile, KeyFile: renewed.KeyFile})
	if n, err := serial(); err == nil {
		t.Errorf("certificate %s from a file that holds none", n)
	}
	put(renewed)
	if second, err := serial(); err != nil || second == first {
		t.Errorf("certificate %s, before %s, %v", second, first, err)
	}
}

func TestListenerDoesNotStartWithoutItsFiles(t *testing.T) {
	ca := newAuthority(t)
	server := ca.server()
	b := idleBridge(t)
	f := func(c config.ListenTLS, want string) {
		t.Helper()
		cfg := config.Default()
		cfg.Listen, cfg.ListenTLS = "127.0.0.1:0", c
		a, err := newAdmin(&cfg, b, newRegistry(b), slog.New(slog.DiscardHandler))
		if err == nil {
			a.stop(context.Background())
		}
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	f(config.ListenTLS{CertFile: server.CertFile, KeyFile: ca.client().KeyFile}, "private key does not match")
	f(config.ListenTLS{CertFile: server.CertFile, KeyFile: server.KeyFile, ClientCAFile: server.KeyFile}, "holds no certificate")
}
