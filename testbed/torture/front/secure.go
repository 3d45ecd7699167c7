package front

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// The names of a front's certificate and key in its folder.
const (
	CertFile = "front.crt"
	KeyFile  = "front.key"
)

// Secure makes l speak TLS where dir holds a certificate. It is read at each
// handshake, so that a renewed one is shown at once.
func Secure(l net.Listener, dir string) (net.Listener, error) {
	cert, key := filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile)
	if _, err := os.Stat(cert); errors.Is(err, fs.ErrNotExist) {
		return l, nil
	} else if err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		},
	}), nil
}
