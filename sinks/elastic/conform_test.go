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
	for _, c := range []struct {
		flavor, compression string
	}{
		{"elasticsearch", "none"}, {"elasticsearch", "gzip"}, {"opensearch", "none"},
	} {
		t.Run(c.flavor+" "+c.compression, func(t *testing.T) {
			sinktest.ConformHTTP(t, sinktest.HTTPSubject{
				Once:     true,
				Delivery: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "_bulk") },
				Server: func(t *testing.T) (http.Handler, func() map[int]int, func(int)) {
					poisoned := map[int]bool{}
					es := &sinktest.Elasticsearch{OpenSearch: c.flavor == "opensearch"}
					es.Verdict = func(d sinktest.Document) (e sinktest.ItemError) {
						m := sentNumber.FindSubmatch(d.Source)
						if m == nil {
							return e
						}
						if n, _ := strconv.Atoi(string(m[1])); poisoned[n] {
							e = sinktest.ItemError{Status: 400, Type: es.ParsingException(), Reason: "poison"}
						}
						return e
					}
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
					cfg.Flavor, cfg.Timeout, cfg.TLS, cfg.Compression = c.flavor, time.Minute, trust, c.compression
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
