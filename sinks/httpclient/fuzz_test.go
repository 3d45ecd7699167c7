package httpclient

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
)

// Of a secret nothing is left, whatever surrounds it, and what is left is one line
// of the length that was asked for.
func FuzzWords(f *testing.F) {
	f.Add("before ", "hunter2hunter2", " after", 300)
	f.Add("*", `a"b\c/d`, "*", 10)
	f.Add("\u2028\r\n", "\x1b[31m", "\xff", 0)
	f.Fuzz(func(t *testing.T, before, secret, after string, n int) {
		if len(secret) < 4 || strings.Contains(secret, "*") || n < 0 {
			return
		}
		for _, s := range []Sent{
			{URL: "https://example.com/", Header: http.Header{"X-Key": {secret}}},
			{Header: http.Header{"Authorization": {"Bearer " + secret}}},
			{Secret: secret},
		} {
			if got := s.redact(before + secret + after); strings.Contains(got, secret) || !strings.Contains(got, hidden) {
				t.Fatalf("%q", got)
			}
			got := s.Words(before+secret+after, n)
			if len(got) > n || strings.ContainsFunc(got, unicode.IsControl) {
				t.Fatalf("%q", got)
			}
		}
	})
}

// Whatever a server asks for is a pause, and never one into the past.
func FuzzRetryAfter(f *testing.F) {
	for _, h := range []string{
		"", "0", "120", "-1", "1.5", "18446744073709551615", "99999999999999999999", " 7", "7 ", "+7",
		"Fri, 31 Dec 1999 23:59:59 GMT", "Friday, 31-Dec-99 23:59:59 GMT", "Fri Dec 31 23:59:59 9999", "Wed, 01 May 2024 12:00:30 GMT",
	} {
		f.Add(h)
	}
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, h string) {
		got := RetryAfter(h, now)
		if got < 0 {
			t.Fatalf("%q: %s", h, got)
		}
		at, err := http.ParseTime(h)
		digits := h != "" && strings.Trim(h, "0123456789") == ""
		if got > 0 && !digits && (err != nil || !at.After(now)) {
			t.Fatalf("%q asks for nothing, got %s", h, got)
		}
	})
}
