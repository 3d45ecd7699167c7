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
			z := newCompressor()
			p := make([]byte, 32<<10)
			b.ReportAllocs()
			for b.Loop() {
				e.start(&s.layout, rs, out, time.Now())
				var src io.Reader = &e
				if cfg.Compression == "gzip" {
					z.start(&e)
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

func BenchmarkAnswer(b *testing.B) {
	const n = 5000
	answer := []byte(`{"items":[` + strings.TrimSuffix(strings.Repeat(`{"create":{"status":201}},`, n), ",") + `]}`)
	items := make([]item, 0, n)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseAnswer(answer, "create", n, items[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}
