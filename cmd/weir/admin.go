package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weir/config"
)

// admin is the listener for health, metrics and status. It only tells: nothing
// that is asked of it changes anything. Go's profiler is not part of it.
type admin struct {
	server   *http.Server
	listener net.Listener
}

// maxAdminConns bounds the connections at a time: each takes a file descriptor,
// of which the bridge itself needs some. What is beyond is hung up on.
const maxAdminConns = 128

// newAdmin listens as cfg says. Everything but /livez and the bare answer of
// /readyz is for those alone who are let in: see gate.
func newAdmin(cfg *config.Config, b *bridge, registry *prometheus.Registry, log *slog.Logger) (*admin, error) {
	t, err := adminTLS(cfg.ListenTLS)
	if err != nil {
		return nil, fmt.Errorf("listen_tls: %w", err)
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	listener = &boundedListener{Listener: listener, places: make(chan struct{}, maxAdminConns)}
	if t != nil {
		listener = tls.NewListener(listener, t)
	}
	g := gate{token: cfg.ListenAuth.Token, certificate: cfg.ListenTLS.ClientCAFile != ""}
	a := &admin{listener: listener, server: adminServer(adminHandler(g, b, registry, log), log)}
	go func() {
		if err := a.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin listener ended; the bridge goes on without it", "error", err)
		}
	}()
	return a, nil
}

// adminServer gives nobody more than a few seconds and kilobytes.
func adminServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// adminHandler answers GET, and HEAD with it, and nothing else.
func adminHandler(g gate, b *bridge, registry *prometheus.Registry, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	guard := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status, why := g.refuses(r); status != 0 {
				if status == http.StatusUnauthorized {
					w.Header().Set("WWW-Authenticate", "Bearer")
				}
				http.Error(w, why, status)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		// A snapshot takes every connector's mutex: an answer means that none of
		// them hangs.
		b.status()
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		troubles := b.troubles(time.Now())
		if len(troubles) == 0 {
			fmt.Fprintln(w, "ok")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		if status, _ := g.refuses(r); status != 0 {
			fmt.Fprintln(w, "not ready")
			return
		}
		for _, t := range troubles {
			fmt.Fprintln(w, cleanLine(t.String()))
		}
	})
	mux.Handle("GET /metrics", guard(promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)})))
	mux.Handle("GET /status", guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = printJSON(w, b.status())
	})))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Errors quote foreign names: no browser is to take them for a page, and no
		// cache is to keep them.
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

func (a *admin) url() string { return "http://" + a.listener.Addr().String() }

func (a *admin) stop(ctx context.Context) { _ = a.server.Shutdown(ctx) }

// gate says who may see more than whether weir is well: who has the token, or
// who showed a certificate in the handshake, or, with neither configured, who is
// on this machine.
type gate struct {
	token       config.Secret
	certificate bool // of a client, verified by the handshake
}

// refuses gives the status to refuse r with, and why; 0: r may see everything.
func (g gate) refuses(r *http.Request) (status int, why string) {
	switch {
	case g.certificate:
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			return http.StatusForbidden, "a client certificate is required (listen_tls.client_ca_file)"
		}
	case g.token.IsSet():
		want, err := g.token.Value()
		got, ok := bearer(r)
		if err != nil || len(want) < config.MinToken {
			// The file changed since the configuration was checked.
			return http.StatusUnauthorized, "nobody is let in: listen_auth.token cannot be read, or is too short"
		}
		if !ok || subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
			return http.StatusUnauthorized, "a bearer token is required (listen_auth.token)"
		}
	case !local(r.Host):
		// A browser here that visits a hostile page can be made to ask us: by a name
		// that is resolved to 127.0.0.1 the second time, the answer would be the
		// page's to read. Such a request says the page's name.
		return http.StatusForbidden, "without listen_auth.token only requests to an IP address or localhost are answered"
	}
	return 0, ""
}

// local reports whether host, as a request says it, is no name that somebody
// else can resolve.
func local(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	return host == "localhost" || net.ParseIP(host) != nil
}

func bearer(r *http.Request) (string, bool) {
	const scheme = "Bearer "
	h := r.Header.Get("Authorization")
	if len(h) < len(scheme) || h[:len(scheme)] != scheme {
		return "", false
	}
	return h[len(scheme):], true
}

// adminTLS is what the listener speaks, nil for plain HTTP. The files are read
// at each handshake, so that renewed ones are taken up without a restart.
//
// Errors: the files cannot be used as they are now.
func adminTLS(c config.ListenTLS) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	read := func() (*tls.Config, error) {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
		if c.ClientCAFile == "" {
			return t, nil
		}
		pem, err := os.ReadFile(c.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("client_ca_file: %w", err)
		}
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("client_ca_file %s holds no certificate in PEM form", c.ClientCAFile)
		}
		// One that is shown has to be good; who shows none can ask whether we live.
		t.ClientAuth = tls.VerifyClientCertIfGiven
		return t, nil
	}
	t, err := read()
	if err != nil {
		return nil, err
	}
	t.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return read() }
	return t, nil
}

// boundedListener hangs up on connections for which there is no place.
type boundedListener struct {
	net.Listener
	places chan struct{}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
			return &placedConn{Conn: conn, leave: sync.OnceFunc(func() { <-l.places })}, nil
		default:
			_ = conn.Close()
		}
	}
}

type placedConn struct {
	net.Conn
	leave func()
}

func (c *placedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
