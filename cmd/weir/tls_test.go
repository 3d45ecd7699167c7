package main

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"weir/config"
)

// A server is believed only with a certificate that is valid now, for its name,
// from an authority that was named, over TLS 1.2 at least. Both ends of the
// bridge are asked.
func TestServersAreVerified(t *testing.T) {
	ca := newAuthority(t)
	const year = 365 * 24 * time.Hour
	f := func(name string, server *tls.Config, client config.TLS, want string) {
		t.Run(name, func(t *testing.T) {
			for end, ask := range map[string]func(*testing.T, *tls.Config, config.TLS) error{
				"elasticsearch": askElastic, "kafka": askBroker,
			} {
				err := ask(t, server.Clone(), client)
				switch {
				case want == "" && err != nil:
					t.Errorf("%s: %v", end, err)
				case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
					t.Errorf("%s: got %v, want %q", end, err, want)
				}
			}
		})
	}
	with := func(files config.TLS) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{pair(t, files)}}
	}
	trust := config.TLS{CAFile: ca.file}
	good := with(ca.server())

	f("good", good, trust, "")
	f("unknown authority", good, config.TLS{}, "unknown authority")
	f("another authority", good, config.TLS{CAFile: newAuthority(t).file}, "unknown authority")
	f("self-signed", with(selfSigned(t)), trust, "unknown authority")
	f("expired", with(ca.server(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-year), time.Now().Add(-time.Minute)
	})), trust, "expired")
	f("not yet valid", with(ca.server(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(year)
	})), trust, "not yet valid")
	f("another name", with(ca.server(func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = nil, []string{"es.example.com"}
	})), trust, "127.0.0.1")
	f("a client's certificate", with(ca.server(func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})), trust, "incompatible key usage")
	f("the name that was set", with(ca.server(func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = nil, []string{"es.example.com"}
	})), config.TLS{CAFile: ca.file, ServerName: "es.example.com"}, "")
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	f("TLS 1.1", old, trust, "protocol version")
	f("the user's word", with(selfSigned(t)), config.TLS{InsecureSkipVerify: true}, "")

	mutual := good.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
	f("with our certificate", mutual, ca.client(), "")
	f("without our certificate", mutual, trust, "certificate required")
	stranger := newAuthority(t).client()
	stranger.CAFile = ca.file
	f("with a stranger's certificate", mutual, stranger, "tls:")
}

func selfSigned(t *testing.T) config.TLS {
	t.Helper()
	return (&authority{t: t}).server()
}

// askElastic sends one request to an Elasticsearch behind server.
func askElastic(t *testing.T, server *tls.Config, client config.TLS) error {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		_, _ = w.Write([]byte(`{"version":{"number":"8.19.21"}}`))
	}))
	srv.TLS = server
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.StartTLS()
	defer srv.Close()
	e := config.DefaultElasticsearch()
	e.URLs, e.Index, e.TLS = []string{srv.URL}, "a", client
	sink, err := newElastic(config.Connector{Sink: config.Sink{Elasticsearch: &e}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	_, err = sink.Ping(t.Context())
	return err
}

// askBroker connects to a broker behind server, up to its first answer. It has
// none to give, and so hangs up: to get there is success.
func askBroker(t *testing.T, server *tls.Config, client config.TLS) error {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan bool, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		n, _ := conn.Read(make([]byte, 1)) // it is a request, or the handshake has failed
		reached <- n > 0
	}()
	client.Enabled = true
	options, err := kafkaOptions(config.Kafka{Brokers: []string{l.Addr().String()}, ClientID: "weir", TLS: client}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = options.Metadata(t.Context(), "a")
	_ = l.Close()
	<-done
	select {
	case ok := <-reached:
		if ok {
			return nil
		}
	default:
	}
	return err
}

// What cannot work is said at the start, not at the first handshake.
func TestTLSFilesThatCannotBeUsed(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	key := ca.client().KeyFile
	f := func(c config.TLS, want string) {
		t.Helper()
		if _, err := tlsConfig(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", c, err, want)
		}
	}
	f(config.TLS{CAFile: key}, "holds no certificate in PEM form")
	f(config.TLS{CertFile: other.client().CertFile, KeyFile: key}, "private key does not match")
	f(config.TLS{CertFile: key, KeyFile: key}, "cert_file and key_file")
}
