package elastic

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzClipper: clipped JSON is JSON with the same strings, the long ones cut,
// however small the pieces are that it is read in.
func FuzzClipper(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":"b"}`, `{"a":"` + strings.Repeat("x", maxReason+5) + `"}`, `"` + strings.Repeat(`\u00e9`, 400) + `"`,
		`"` + strings.Repeat("x", maxReason-1) + `\\"`, `"` + strings.Repeat("x", maxReason-1) + `\""`, `"` + strings.Repeat("é", 900) + `"`, `"\`, `"\u`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := io.ReadAll(&clipper{src: bytes.NewReader(in)})
		if err != nil {
			t.Fatal(err)
		}
		one, err := io.ReadAll(&clipper{src: iotest.OneByteReader(bytes.NewReader(in))})
		if err != nil || !bytes.Equal(got, one) {
			t.Fatalf("%q, a byte at a time %q", got, one)
		}
		if !json.Valid(in) {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q became %q", in, got)
		}
		var s, cut string
		if json.Unmarshal(in, &s) == nil && s != "" {
			if err := json.Unmarshal(got, &cut); err != nil {
				t.Fatal(err)
			}
			if len(in) < maxReason && cut != s || !strings.HasPrefix(s, strings.TrimRight(cut, "\uFFFD")) {
				t.Fatalf("%q became %q", s, cut)
			}
		}
	})
}
