package httpsink

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"testing"

	"weir/sinks"
	"weir/sinks/sinktest"
)

// intake is one that reads bodies with read, with what of the suite's records it
// holds and a way to have it refuse one.
func intake(t *testing.T, read func([]byte) ([]json.RawMessage, error)) (http.Handler, func() map[int]int, func(int)) {
	poisoned := map[int]bool{}
	h := sinktest.NewArrayIntake()
	h.Read = read
	h.Verdict = func(event json.RawMessage) int {
		for n := range sinktest.Numbers(event) {
			if poisoned[n] {
				return http.StatusBadRequest
			}
		}
		return 0
	}
	t.Cleanup(func() {
		for _, fault := range h.Broken() {
			t.Errorf("broken framing: %s", fault)
		}
	})
	stored := func() map[int]int {
		var texts [][]byte
		for _, e := range h.Events() {
			texts = append(texts, e)
		}
		return sinktest.Numbers(texts...)
	}
	return h, stored, func(n int) { poisoned[n] = true }
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		framing, compression string
		read                 func([]byte) ([]json.RawMessage, error)
	}{
		{framingArray, compressNone, sinktest.ReadArray},
		{framingArray, compressGzip, sinktest.ReadArray},
		{framingNDJSON, compressNone, sinktest.ReadLines},
		{framingConcatenated, compressNone, sinktest.ReadConcatenated},
	} {
		t.Run(c.framing+" "+c.compression, func(t *testing.T) {
			sinktest.ConformHTTP(t, sinktest.HTTPSubject{
				Delivery: func(r *http.Request) bool { return r.Method == http.MethodPost },
				Server: func(t *testing.T) (http.Handler, func() map[int]int, func(int)) {
					return intake(t, c.read)
				},
				Sink: func(t *testing.T, url string, trust *tls.Config) sinks.Sink {
					cfg := testConfig(url)
					cfg.Framing, cfg.Compression, cfg.TLS = c.framing, c.compression, trust
					return mustNew(t, cfg)
				},
			})
		})
	}
}

// A request of one record is refused for that record: a 413 is a verdict on it,
// which the suite's scripts for HTTP do not expect.
func TestConformanceOfSingleRecords(t *testing.T) {
	sinktest.Conform(t, sinktest.Subject{Open: func(t *testing.T) sinktest.Place {
		h, stored, poison := intake(t, sinktest.ReadConcatenated)
		return sinktest.Place{Sink: serve(t, h, func(c *Config) { c.Framing = framingSingle }), Stored: stored, Poison: poison}
	}})
}
