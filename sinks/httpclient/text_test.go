package httpclient

import (
	"math"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	for h, want := range map[string]time.Duration{
		"": 0, "0": 0, "3": 3 * time.Second, "3600": time.Hour, "3601": time.Hour + time.Second,
		"9223372036": 9223372036 * time.Second, "9223372037": 9223372036 * time.Second, "18446744073709551615": 9223372036 * time.Second,
		"99999999999999999999999": 0, "-1": 0, "1.5": 0, "soon": 0,
		"Wed, 01 May 2024 12:00:30 GMT": 30 * time.Second,
		"Wed, 01 May 2024 11:00:30 GMT": 0,
		"Wed, 01 May 2024 14:00:00 GMT": 2 * time.Hour,
		"Fri, 31 Dec 9999 23:59:59 GMT": math.MaxInt64,
	} {
		if got := RetryAfter(h, now); got != want {
			t.Errorf("%q: %s, want %s", h, got, want)
		}
	}
}
