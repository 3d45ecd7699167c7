package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Anybody can write such a file: it is read before a signature is checked, or says
// itself which key it is signed with.
func TestATextOfEmptyElementsTakesNoMoreMemoryThanAnother(t *testing.T) {
	m, key, envelope := someCase(t)
	public := key.Public().(ed25519.PublicKey)
	many := func(text []byte, list string) []byte {
		t.Helper()
		before, after, ok := bytes.Cut(text, fmt.Appendf(nil, "%q: [\n", list))
		if !ok {
			t.Fatalf("there is no list %q that is not empty in %s", list, text)
		}
		element := "{},"
		if list == "path" {
			element = "null,"
		}
		all := slices.Concat(before, fmt.Appendf(nil, "%q: [", list), bytes.Repeat([]byte(element), 1<<17), after)
		if !json.Valid(all) {
			t.Fatalf("%s: no JSON", list)
		}
		return all
	}
	sealed := func(payload []byte) []byte {
		text, err := EncodeJSON(Seal(key, ManifestType, payload))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	m.Custody = []CustodyHead{{}}
	payload, err := EncodeJSON(m)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := EncodeJSON(&Proof{Version: 1, Record: ProofRecord{Headers: []ProofHeader{{Key: []byte("k")}}}, Path: []Hash{{}}})
	if err != nil {
		t.Fatal(err)
	}
	open := func(text []byte) error { _, err := OpenManifest(public, text); return err }
	decode := func(text []byte) error { _, err := DecodeProof(text); return err }
	for name, c := range map[string]struct {
		text []byte
		read func([]byte) error
	}{
		"signatures": {many(envelope, "signatures"), open},
		"topics":     {sealed(many(payload, "topics")), open},
		"partitions": {sealed(many(payload, "partitions")), open},
		"gaps":       {sealed(many(payload, "listed")), open},
		"custody":    {sealed(many(payload, "custody")), open},
		"headers":    {many(proof, "headers"), decode},
		"path":       {many(proof, "path"), decode},
	} {
		n := allocated(func() { err = c.read(c.text) })
		if err == nil || n > 40*uint64(len(c.text)) {
			t.Errorf("%s: a text of %d bytes takes %d: %.200v", name, len(c.text), n, err)
		}
	}
}

func TestASignatureThatIsThereTwiceIsRefused(t *testing.T) {
	_, key, text := someCase(t)
	var e Envelope
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	e.Signatures = append(e.Signatures, e.Signatures[0])
	twice, err := EncodeJSON(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenManifest(key.Public().(ed25519.PublicKey), twice); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
	for len(e.Signatures) <= maxSignatures {
		e.Signatures = append(e.Signatures, Signature{fmt.Sprint("of another ", len(e.Signatures)), []byte("x")})
	}
	many, err := EncodeJSON(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeEnvelope(many); err == nil {
		t.Errorf("%d signatures", len(e.Signatures))
	}
}

// What the manifest does not speak of is named, and not read; nor is anything when
// the signature does not hold.
func TestNoFileIsReadThatTheSignedManifestDoesNotSpeakOf(t *testing.T) {
	_, key, envelope := someCase(t)
	names := []string{FileEnvelope, "more/1"}
	for i := range 1000 {
		names = append(names, fmt.Sprint("other/", i))
	}
	for _, signed := range []bool{true, false} {
		public := key.Public().(ed25519.PublicKey)
		if !signed {
			other, _ := someKey(t)
			public = other.Public().(ed25519.PublicKey)
		}
		m, faults := CheckFiles(public, names, func(name string, limit int64) ([]byte, error) {
			if name != FileEnvelope || limit != MaxManifest {
				t.Errorf("%s was read, up to %d bytes", name, limit)
			}
			return envelope, nil
		})
		if (m != nil) != signed || signed && (len(faults) != maxFaults+1 || !strings.HasPrefix(faults[maxFaults].Problem, "and ")) || !signed && len(faults) != 1 {
			t.Errorf("%v, %d faults: %v", m, len(faults), faults)
		}
	}
}

func TestCustodyLogsThatAreTooLongAreNotSealed(t *testing.T) {
	m, key, _ := someCase(t)
	m.Plan = sha256.Sum256(nil)
	m.Custody = make([]CustodyHead, 3)
	log := make([]byte, MaxCustody/2)
	if _, err := m.Files(key, nil, [][]byte{log, log, log}); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Error(err)
	}
}
