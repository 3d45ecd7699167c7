package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/sinks/httpclient"
)

func healthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running weir whether it is well (for container health checks)",
		Long: `Ask a running weir whether it is well (for container health checks).

With -c it asks the listener of that configuration, on this machine, believes
the certificate that is configured there and no other, and shows the token. It
asks /livez, or with --ready /readyz: whether everything is delivered, and why
not. Without -c it asks http://127.0.0.1:9600, or whatever --url names.`,
	}
	path := cmd.Flags().StringP("config", "c", "", "the configuration `file` of the weir to ask")
	ready := cmd.Flags().Bool("ready", false, "ask whether everything is delivered, not only whether it lives")
	url := cmd.Flags().String("url", "", "ask this instead; its certificate is verified as the system does")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *url != "" && (*path != "" || *ready) {
			return usageError{errors.New("--url names all that is asked: it goes without -c and --ready")}
		}
		l := &listenerAt{base: "http://" + config.Default().Listen, transport: askingOver(nil)}
		if *path != "" {
			cfg, err := loadConfig(*path)
			if err != nil {
				return err
			}
			if l, err = newListenerAt(cfg); err != nil {
				return err
			}
		}
		what := l.base + "/livez"
		if *ready {
			what = l.base + "/readyz"
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
		defer cancel()
		what = cmp.Or(*url, what)
		status, body, err := l.get(ctx, what)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprint(cmd.OutOrStdout(), clean(body))
		if status != http.StatusOK {
			return fmt.Errorf("%s answered %d", what, status)
		}
		return nil
	}
	return cmd
}

// listenerAt is how a listener is asked.
type listenerAt struct {
	base      string // scheme, host and port
	token     string // "" for none
	transport *http.Transport
}

// newListenerAt says how the listener of cfg is asked on the machine it runs on.
//
// Errors: its certificate or token cannot be read.
func newListenerAt(cfg *config.Config) (*listenerAt, error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6zero):
		host = "::1"
	}
	l := &listenerAt{base: "http://" + net.JoinHostPort(host, port), transport: askingOver(nil)}
	if cfg.ListenAuth.Token.IsSet() {
		if l.token, err = cfg.ListenAuth.Token.Value(); err != nil {
			return nil, fmt.Errorf("listen_auth.token: %w", err)
		}
	}
	if cfg.ListenTLS.CertFile == "" {
		return l, nil
	}
	t, err := trustOnly(cfg.ListenTLS.CertFile)
	if err != nil {
		return nil, fmt.Errorf("listen_tls.cert_file: %w", err)
	}
	l.base = "https://" + net.JoinHostPort(host, port)
	l.transport = askingOver(t)
	return l, nil
}

// askingOver is what a listener is asked over: without a proxy, which would get the
// token and is not on this machine. t is for https; nil: as the system verifies.
func askingOver(t *tls.Config) *http.Transport {
	return &http.Transport{TLSClientConfig: t, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10}
}

// trustOnly believes the first certificate of file and no other, under whatever
// name it is for: the address at which we ask need not be in it.
func trustOnly(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	for block != nil && block.Type != "CERTIFICATE" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	t.RootCAs.AddCert(cert)
	switch {
	case len(cert.DNSNames) > 0:
		t.ServerName = cert.DNSNames[0]
	case len(cert.IPAddresses) > 0:
		t.ServerName = cert.IPAddresses[0].String()
	}
	return t, nil
}

// maxAsked bounds what is shown of a listener's answer, in bytes: it can have a line
// for each partition.
const maxAsked = 64 << 10

// get performs one GET.
//
// Errors: there was no answer, or one that no listener gives.
func (l *listenerAt) get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", usageError{err}
	}
	if l.token != "" {
		req.Header.Set("Authorization", "Bearer "+l.token)
	}
	// A bare RoundTripper follows no redirect.
	res, err := l.transport.RoundTrip(req)
	sent := httpclient.Sent{URL: url, Header: req.Header}
	if err != nil {
		return 0, "", fmt.Errorf("asking %s: %w", httpclient.Endpoint(req.URL), sent.Error(err))
	}
	defer res.Body.Close()
	b, err := httpclient.ReadBounded(res.Body, maxAsked, nil)
	if err != nil && !errors.Is(err, httpclient.ErrTooLong) {
		return 0, "", fmt.Errorf("asking %s: %w", httpclient.Endpoint(req.URL), sent.Error(err))
	}
	return res.StatusCode, string(b[:min(len(b), maxAsked)]), nil
}
