package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// FuzzBearer: nothing but the token behind the scheme is taken for the token.
func FuzzBearer(f *testing.F) {
	for _, h := range []string{"", "Bearer", "Bearer ", "Bearer abc", "bearer abc", "Bearer  abc", "Basic abc", "Bearer abc, Bearer def", "Bearer \x00"} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := &http.Request{Header: http.Header{"Authorization": {header}}}
		token, ok := bearer(r)
		if ok != strings.HasPrefix(header, "Bearer ") || ok && "Bearer "+token != header || !ok && token != "" {
			t.Errorf("%q holds the token %q, %v", header, token, ok)
		}
	})
}

// FuzzCleanJSON: what is printed as JSON moves no cursor, and says the same.
func FuzzCleanJSON(f *testing.F) {
	for _, s := range []string{"", "plain\ntext", "\x1b[2J\x7f", "\u202e\u2028\u009b", "\xff\xfe\ufffd", `\u202e`, "\U000e0001\U0001f600"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var out strings.Builder
		if err := printJSON(&out, map[string]string{s: s}); err != nil {
			t.Fatal(err)
		}
		if i := obeyed(out.String()); i >= 0 {
			t.Errorf("%q becomes %q", s, out.String())
		}
		var got map[string]string
		want := string([]rune(s)) // each byte that is no text stands for one character
		if err := json.Unmarshal([]byte(out.String()), &got); err != nil || got[want] != want {
			t.Errorf("%q becomes %q: %v", s, out.String(), err)
		}
	})
}

// FuzzClean: what is printed moves no cursor, and says the same.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "plain\ntext", "\x1b[2J", "\u202e\u2028\u009b", "\xff\xfe", `\x1b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if i := obeyed(clean(s)); i >= 0 {
			t.Errorf("%q becomes %q", s, clean(s))
		}
		if strings.Contains(cleanLine(s), "\n") {
			t.Errorf("%q becomes %q", s, cleanLine(s))
		}
		if obeyed(s) < 0 && strings.ToValidUTF8(s, "") == s && clean(s) != s {
			t.Errorf("%q becomes %q for nothing", s, clean(s))
		}
	})
}
