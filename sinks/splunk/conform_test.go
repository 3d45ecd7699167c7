package splunk

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"weir/sinks"
	"weir/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	for _, acks := range []bool{false, true} {
		for _, compression := range []string{"none", "gzip"} {
			t.Run(fmt.Sprint("acks ", acks, " ", compression), func(t *testing.T) {
				sinktest.ConformHTTP(t, sinktest.HTTPSubject{
					Delivery: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/event") },
					Server: func(t *testing.T) (http.Handler, func() map[int]int, func(int)) {
						poisoned := map[int]bool{}
						hec := &sinktest.Splunk{Acks: acks, Token: testToken, Verdict: func(e sinktest.HECEvent) int {
							for n := range sinktest.Numbers(e.Event) {
								if poisoned[n] {
									return codeInvalidFormat
								}
							}
							return codeSuccess
						}}
						t.Cleanup(func() { sound(t, hec) })
						stored := func() map[int]int {
							var texts [][]byte
							for _, e := range hec.Events() {
								texts = append(texts, e.Event)
							}
							return sinktest.Numbers(texts...)
						}
						return hec, stored, func(n int) { poisoned[n] = true }
					},
					Sink: func(t *testing.T, url string, trust *tls.Config) sinks.Sink {
						cfg := testConfig(url)
						cfg.Timeout, cfg.TLS, cfg.Compression = time.Minute, trust, compression
						s := make1(t, cfg)
						s.pace.pollMin, s.pace.pollMax = time.Millisecond, 10*time.Millisecond
						t.Cleanup(s.Close)
						return s
					},
				})
			})
		}
	}
}
