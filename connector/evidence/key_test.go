package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func someKey(t testing.TB) (ed25519.PrivateKey, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "case.key")
	if _, err := GenerateKey(path); err != nil {
		t.Fatal(err)
	}
	key, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return key, path
}

func TestKeyIsItsOwnersOnly(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	key, path := someKey(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	public, err := LoadPublicKey(path + PublicSuffix)
	if err != nil || !public.Equal(key.Public()) {
		t.Errorf("the public half is another: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o660, 0o644, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestKeyIsNotWrittenOver(t *testing.T) {
	_, path := someKey(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := GenerateKey(path); err == nil {
		t.Error("both are there")
	}
	if err := os.Remove(path + PublicSuffix); err != nil {
		t.Fatal(err)
	}
	if _, err := GenerateKey(path); err == nil {
		t.Error("the private key is there")
	}
	if _, err := os.Stat(path + PublicSuffix); err == nil {
		t.Error("half a pair was left behind")
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key was changed: %v", err)
	}
}

func TestFilesThatAreNoKeys(t *testing.T) {
	dir := t.TempDir()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "c2VjcmV0c2VjcmV0"
	for name, content := range map[string]string{
		"empty": "", "text": secret, "another block": "-----BEGIN SECRET-----\n" + secret + "\n-----END SECRET-----\n",
		"no key":    "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n",
		"not 25519": string(pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der})),
		"large":     strings.Repeat(secret, 10_000),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(path); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := LoadPublicKey(path); err == nil {
			t.Errorf("%s is a public key", name)
		}
	}
	if _, err := LoadKey(dir); err == nil {
		t.Error("a folder is a key")
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(pipe); err == nil {
		t.Error("a pipe is a key")
	}
}

// What openssl signs and says about the key is what weir does.
func TestOpensslChecksTheSignature(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not there")
	}
	key, path := someKey(t)
	e := Seal(key, ManifestType, []byte(`{"case":"x"}`))
	dir := t.TempDir()
	signed, sig := filepath.Join(dir, "signed"), filepath.Join(dir, "sig")
	if err := errors.Join(os.WriteFile(signed, preAuth(e.PayloadType, e.Payload), 0o600), os.WriteFile(sig, e.Signatures[0].Sig, 0o600)); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		out, err := exec.Command(openssl, args...).CombinedOutput()
		if err != nil {
			t.Errorf("openssl %s: %v: %s", args, err, out)
		}
		return string(out)
	}
	run("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", path+PublicSuffix, "-in", signed, "-sigfile", sig)
	der := filepath.Join(dir, "der")
	run("pkey", "-in", path, "-pubout", "-outform", "DER", "-out", der)
	if out := run("dgst", "-sha256", "-r", der); !strings.HasPrefix(out, KeyID(key.Public().(ed25519.PublicKey))) {
		t.Errorf("openssl names the key %s", out)
	}
	made := filepath.Join(dir, "made.key")
	run("genpkey", "-algorithm", "ed25519", "-out", made)
	if err := os.Chmod(made, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(made); err != nil {
		t.Errorf("a key of openssl's: %v", err)
	}
}

// The texts of DSSE's own example.
func TestWhatIsSignedIsDSSEs(t *testing.T) {
	if got := string(preAuth("http://example.com/HelloWorld", []byte("hello world"))); got != "DSSEv1 29 http://example.com/HelloWorld 11 hello world" {
		t.Errorf("%q", got)
	}
}

func TestEveryChangedBitOfAnEnvelopeIsNoticed(t *testing.T) {
	key, _ := someKey(t)
	public := key.Public().(ed25519.PublicKey)
	e := Seal(key, ManifestType, []byte(`{"case":"A-1"}`))
	text, err := EncodeJSON(e)
	if err != nil {
		t.Fatal(err)
	}
	check := func(text []byte) error {
		e, err := DecodeEnvelope(text)
		if err != nil {
			return err
		}
		return e.Verify(public, ManifestType)
	}
	if err := check(text); err != nil {
		t.Fatal(err)
	}
	for i := range len(text) * 8 {
		b := bytes.Clone(text)
		b[i/8] ^= 1 << (i % 8)
		if check(b) == nil {
			t.Fatalf("bit %d of byte %d (%q) may change", i%8, i/8, text[max(0, i/8-9):i/8+1])
		}
	}
	other, _ := someKey(t)
	if err := e.Verify(other.Public().(ed25519.PublicKey), ManifestType); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if err := e.Verify(public, "text/plain"); err == nil {
		t.Error("as something else it holds")
	}
}

func TestCheckpointIsReadByOthers(t *testing.T) {
	key, _ := someKey(t)
	public := key.Public().(ed25519.PublicKey)
	var tree Tree
	for _, l := range someLeaves(13) {
		tree.Append(l)
	}
	name := KeyName("MkU3+OEVBNTcw", "A 1/x")
	if name != "weir.rehydrate/MkU3%2BOEVBNTcw/A%201%2Fx" {
		t.Errorf("the name is %s", name)
	}
	origin := checkpointOrigin(name, "edr.events", 3, treeRecords)
	text, err := Checkpoint(key, name, origin, tree.Head())
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := VerifierKey(public, name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(text, note.VerifierList(v))
	if err != nil || len(n.Sigs) != 1 || !strings.HasPrefix(n.Text, origin+"\n13\n") {
		t.Fatalf("%q: %v", text, err)
	}
	gotOrigin, head, err := OpenCheckpoint(public, name, text)
	if err != nil || gotOrigin != origin || head != tree.Head() {
		t.Fatalf("%s %+v: %v", gotOrigin, head, err)
	}
	for i := range len(text) * 8 {
		b := bytes.Clone(text)
		b[i/8] ^= 1 << (i % 8)
		if _, _, err := OpenCheckpoint(public, name, b); err == nil {
			t.Fatalf("bit %d of byte %d may change", i%8, i/8)
		}
	}
	// A witness adds a line.
	other, _ := someKey(t)
	witness, err := newSigner(other, "witness.example")
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(n, witness)
	if err != nil {
		t.Fatal(err)
	}
	if _, head, err := OpenCheckpoint(public, name, both); err != nil || head != tree.Head() {
		t.Errorf("with a witness: %v", err)
	}
	if _, _, err := OpenCheckpoint(other.Public().(ed25519.PublicKey), name, text); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	key, _ := someKey(f)
	public := key.Public().(ed25519.PublicKey)
	text, err := Checkpoint(key, "n", "o", TreeHead{Size: 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := OpenCheckpoint(public, "n", b); err == nil && !bytes.HasPrefix(b, []byte("o\n5\n")) {
			t.Fatalf("%q was never signed", b)
		}
	})
}
