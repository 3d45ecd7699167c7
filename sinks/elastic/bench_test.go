package elastic

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/httpclient"
)

// benchBatch is 5000 records of 500 bytes in runs of 100 of 6 partitions.
func benchBatch() *buffer.Batch {
	b := new(buffer.Batch)
	origins := make([]*buffer.Origin, 6)
	for i := range origins {
		origins[i] = &buffer.Origin{Cluster: "5L6g3nShT-eMCtK--X86sw", Topic: "edr.events", TopicID: "YliYLvSoSSGAov0MzWytyg", Partition: int32(i)}
	}
	value := []byte(fmt.Sprintf(`{"event":{"kind":"event","id":%d},"message":%q}`, 1, strings.Repeat("x", 445)))
	for i := range 5000 {
		b.Add(&buffer.Record{
			Origin: origins[i/100%6], Offset: int64(1000000 + i), Time: time.UnixMilli(1700000000000 + int64(i)/4),
			Value: value, Shape: buffer.ShapeObject,
		})
	}
	return b
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct {
		name string
		edit func(*Config)
	}{
		{"fixed", func(*Config) {}},
		{"topic", func(c *Config) { c.Index = "security-{topic}" }},
		{"day", func(c *Config) { c.Index = "security-{topic}-{time:2006.01.02}" }},
		{"field", func(c *Config) { c.Index = "security-{event.kind}" }},
		{"gzip", func(c *Config) { c.Compression = "gzip" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := testConfig("http://127.0.0.1:1")
			c.edit(&cfg)
			s, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			rs := benchBatch().Records
			out := make([]sinks.Outcome, len(rs))
			var e encoder
			z := httpclient.NewCompressor()
			p := make([]byte, 32<<10)
			b.ReportAllocs()
			for b.Loop() {
				e.start(&s.layout, rs, out, time.Now())
				var src io.Reader = &e
				if cfg.Compression == "gzip" {
					z.Start(&e)
					src = z
				}
				for {
					if _, err := src.Read(p); err == io.EOF {
						break
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rs)), "ns/record")
		})
	}
}

// BenchmarkDeliver includes the server that reads the requests and says yes,
// which is in the same process.
func BenchmarkDeliver(b *testing.B) {
	batch := benchBatch()
	answer := []byte(`{"items":[` + strings.TrimSuffix(strings.Repeat(`{"create":{"status":201}},`, len(batch.Records)), ",") + `]}`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		_, _ = w.Write(answer)
	}))
	defer srv.Close()
	for _, compression := range []string{"none", "gzip"} {
		b.Run(compression, func(b *testing.B) {
			cfg := testConfig(srv.URL)
			cfg.Compression = compression
			s, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Deliver(b.Context(), batch, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch.Records)), "ns/record")
		})
	}
}

// BenchmarkAnswer: the share of items that are refused in a hundred. full is what
// a node without room says, the same of all items of a shard; there is what
// meets its own id, when a batch is sent a second time.
func BenchmarkAnswer(b *testing.B) {
	const n = 5000
	full := func(i int) string {
		return fmt.Sprintf(`{"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of primary operation `+
			`[coordinating_and_primary_bytes=53612123, replica_bytes=0, all_bytes=53612123, primary_operation_bytes=%d, max_coordinating_and_primary_bytes=53687091]"}}}`, 1400000+i%3)
	}
	there := func(i int) string {
		return fmt.Sprintf(`{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[5L6g3nShT-eMCtK--X86sw:YliYLvSoSSGAov0MzWytyg:3:%d]: `+
			`version conflict, document already exists (current version [1])"}}}`, 1000000+i)
	}
	for _, c := range []struct {
		name    string
		percent int
		refused func(int) string
	}{
		{"0", 0, full}, {"full-1", 1, full}, {"full-5", 5, full}, {"full-20", 20, full}, {"full-100", 100, full}, {"there-20", 20, there}, {"there-100", 100, there},
	} {
		b.Run(c.name, func(b *testing.B) {
			said := make([]string, n)
			for i := range said {
				if said[i] = `{"create":{"status":201}}`; i*37%100 < c.percent {
					said[i] = c.refused(i)
				}
			}
			answer := []byte(`{"items":[` + strings.Join(said, ",") + `]}`)
			items := make([]item, 0, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseAnswer(answer, "create", n, items[:0]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/item")
		})
	}
}
