package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"weir/buffer/regular"
)

// The types of PEM blocks, which are those of openssl (RFC 7468, 10 and 13).
const (
	privateBlock = "PRIVATE KEY" // PKCS #8
	publicBlock  = "PUBLIC KEY"  // SubjectPublicKeyInfo
)

// MaxKey bounds a key file that is read.
const MaxKey = 16 << 10

// PublicSuffix is what the name of a public key's file ends with, behind that of
// the private key's.
const PublicSuffix = ".pub"

// GenerateKey makes an Ed25519 key and writes it to path, for its owner only, and
// its public half to path.pub. Neither may be there. Both are durable when it
// returns.
func GenerateKey(path string) (ed25519.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	// The public half first: a private key that is there is a whole pair.
	if err := writeNew(path+PublicSuffix, EncodePublicKey(public), 0o644); err != nil {
		return nil, err
	}
	if err := writeNew(path, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), 0o600); err != nil {
		return nil, errors.Join(err, os.Remove(path+PublicSuffix))
	}
	return public, nil
}

// writeNew writes a file that must not be there, and leaves none when it fails.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q is there already, and is not written over", path)
	} else if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes sure that the names in a folder are there after a power loss.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LoadKey reads a private key's file.
//
// Errors: others than its owner may read or change it; it is no such key. None
// quotes it.
func LoadKey(path string) (ed25519.PrivateKey, error) {
	content, info, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(content)
	if block != nil && block.Type == publicBlock {
		return nil, fmt.Errorf("key file %q holds a public key, and the private one is needed", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("key file %q may be used by others than its owner (mode %04o): chmod 600 it, and think about whether the key is still a secret", path, mode)
	}
	if block == nil || block.Type != privateBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("key file %q is not one PEM block of the type %q (weir keygen makes one)", path, privateBlock)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key file %q does not hold a key in PKCS #8", path)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key file %q holds a key that is not Ed25519", path)
	}
	return private, nil
}

// LoadPublicKey reads a public key's file.
func LoadPublicKey(path string) (ed25519.PublicKey, error) {
	content, _, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ParsePublicKey(content)
	if err != nil {
		return nil, fmt.Errorf("key file %q: %w", path, err)
	}
	return key, nil
}

func readKeyFile(path string) ([]byte, fs.FileInfo, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > MaxKey {
		return nil, nil, fmt.Errorf("%q is not the file of a key", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, MaxKey))
	return content, info, err
}

// EncodePublicKey is the PEM block of a public key.
func EncodePublicKey(key ed25519.PublicKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: publicDER(key)})
}

// ParsePublicKey reads the PEM block of a public key.
func ParsePublicKey(content []byte) (ed25519.PublicKey, error) {
	block, rest := pem.Decode(content)
	if block == nil || block.Type != publicBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("not one PEM block of the type %q", publicBlock)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a public key")
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("not an Ed25519 key")
	}
	return public, nil
}

func publicDER(key ed25519.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic("evidence: " + err.Error()) // an Ed25519 key has a form
	}
	return der
}

// KeyID names a key: the SHA-256 of its SubjectPublicKeyInfo in DER, which is what
// `openssl pkey -pubin -outform DER | sha256sum` prints.
func KeyID(key ed25519.PublicKey) string { return Hash(sha256.Sum256(publicDER(key))).String() }
