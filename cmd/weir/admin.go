package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weir/config"
)

// admin is the listener for health, metrics and status.
type admin struct {
	server   *http.Server
	listener net.Listener
}

// startAdmin listens on address. token is asked for everything but /livez and
// the bare answer of /readyz, unless it is not set.
func startAdmin(address string, token config.Secret, b *bridge, registry *prometheus.Registry, log *slog.Logger) (*admin, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	mux := http.NewServeMux()
	guard := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !allowed(r, token) {
				w.Header().Set("WWW-Authenticate", "Bearer")
				http.Error(w, "a bearer token is required (listen_auth.token)", http.StatusUnauthorized)
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
		if !allowed(r, token) {
			fmt.Fprintln(w, "not ready")
			return
		}
		for _, t := range troubles {
			fmt.Fprintln(w, t)
		}
	})
	mux.Handle("GET /metrics", guard(promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)})))
	mux.Handle("GET /status", guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(b.status())
	})))
	a := &admin{
		listener: listener,
		server: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
	go func() {
		if err := a.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin listener ended; the bridge goes on without it", "error", err)
		}
	}()
	return a, nil
}

func (a *admin) url() string { return "http://" + a.listener.Addr().String() }

func (a *admin) stop(ctx context.Context) { _ = a.server.Shutdown(ctx) }

// allowed reports whether r may see details.
func allowed(r *http.Request, token config.Secret) bool {
	if !token.IsSet() {
		return true
	}
	want, err := token.Value()
	got, ok := bearer(r)
	return err == nil && want != "" && ok && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

func bearer(r *http.Request) (string, bool) {
	const scheme = "Bearer "
	h := r.Header.Get("Authorization")
	if len(h) < len(scheme) || h[:len(scheme)] != scheme {
		return "", false
	}
	return h[len(scheme):], true
}
