package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is taken for a public key is one: written anew it is read as the same.
func FuzzParsePublicKey(f *testing.F) {
	key, _ := someKey(f)
	text := EncodePublicKey(key.Public().(ed25519.PublicKey))
	f.Add(text)
	f.Add(append([]byte("comment\n"), text...))
	f.Add(bytes.Replace(text, []byte("\n"), []byte("\nA: b\n\n"), 1))
	f.Add(append(bytes.Clone(text), text...))
	f.Add(bytes.ReplaceAll(text, []byte("PUBLIC"), []byte("PRIVATE")))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePublicKey(text)
		if err != nil {
			return
		}
		if len(key) != ed25519.PublicKeySize {
			t.Fatalf("a key of %d bytes", len(key))
		}
		again, err := ParsePublicKey(EncodePublicKey(key))
		if err != nil || !again.Equal(key) {
			t.Errorf("%x is read as %x: %v", key, again, err)
		}
	})
}

// What is taken for a private key signs, and is read as the same when it is written
// anew. No error quotes the file.
func FuzzLoadKey(f *testing.F) {
	key, path := someKey(f)
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(append(bytes.Clone(text), text...))
	f.Add(EncodePublicKey(key.Public().(ed25519.PublicKey)))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END PRIVATE KEY-----\n"))
	path = filepath.Join(f.TempDir(), "key")
	load := func(t *testing.T, text []byte) (ed25519.PrivateKey, error) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadKey(path)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := load(t, text)
		if err != nil {
			for line := range strings.Lines(string(text)) {
				if line = strings.TrimSpace(line); len(line) > 20 && strings.Contains(err.Error(), line) {
					t.Errorf("%q is quoted: %v", line, err)
				}
			}
			return
		}
		if sig := ed25519.Sign(key, text); !ed25519.Verify(key.Public().(ed25519.PublicKey), text, sig) {
			t.Error("what it signs does not hold")
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := load(t, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der})); err != nil || !again.Equal(key) {
			t.Errorf("it is read as another one: %v", err)
		}
	})
}
