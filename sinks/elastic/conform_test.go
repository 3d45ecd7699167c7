package elastic

import (
	"crypto/tls"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/sinks"
	"weir/sinks/sinktest"
)

var sentNumber = regexp.MustCompile(`"conform_n":(\d+)`)

func TestConformance(t *testing.T) {
	for _, compression := range []string{"none", "gzip"} {
		t.Run(compression, func(t *testing.T) {
			sinktest.ConformHTTP(t, sinktest.HTTPSubject{
				Once:     true,
				Delivery: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "_bulk") },
				Server: func(t *testing.T) (http.Handler, func() map[int]int, func(int)) {
					poisoned := map[int]bool{}
					es := &sinktest.Elasticsearch{Verdict: func(d sinktest.Document) (e sinktest.ItemError) {
						m := sentNumber.FindSubmatch(d.Source)
						if m == nil {
							return e
						}
						if n, _ := strconv.Atoi(string(m[1])); poisoned[n] {
							e = sinktest.ItemError{Status: 400, Type: "document_parsing_exception", Reason: "poison"}
						}
						return e
					}}
					t.Cleanup(func() {
						for _, fault := range es.Broken() {
							t.Errorf("broken framing: %s", fault)
						}
					})
					stored := func() map[int]int {
						var texts [][]byte
						for _, d := range es.Documents("events") {
							texts = append(texts, d.Source)
						}
						return sinktest.Numbers(texts...)
					}
					return es, stored, func(n int) { poisoned[n] = true }
				},
				Sink: func(t *testing.T, url string, trust *tls.Config) sinks.Sink {
					cfg := testConfig(url)
					cfg.Timeout, cfg.TLS, cfg.Compression = time.Minute, trust, compression
					s, err := New(cfg)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(s.Close)
					return s
				},
			})
		})
	}
}
