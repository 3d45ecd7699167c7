package splunk

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
	value := []byte(fmt.Sprintf(`{"event":{"kind":"event","id":%d,"t":1700000000123456789},"message":%q}`, 1, strings.Repeat("x", 421)))
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
		{"plain", func(c *Config) { c.Track = false }},
		{"tracked", func(c *Config) {}},
		{"fixed", func(c *Config) { c.Index, c.Sourcetype = "security", "_json" }},
		{"topic", func(c *Config) { c.Index, c.Source, c.Sourcetype = "security", "kafka:{topic}", "_json" }},
		{"field", func(c *Config) { c.Index, c.Sourcetype = "security", "{event.kind}" }},
		{"time", func(c *Config) { c.Time = "event.t" }},
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
			var e encoder
			z := httpclient.NewCompressor()
			p := make([]byte, 32<<10)
			b.ReportAllocs()
			for b.Loop() {
				e.start(&s.layout, rs)
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
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"text":"Success","code":0}`)
	}))
	defer srv.Close()
	for _, compression := range []string{"none", "gzip"} {
		b.Run(compression, func(b *testing.B) {
			cfg := testConfig(srv.URL)
			cfg.Compression, cfg.Ack = compression, "off"
			s, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Deliver(b.Context(), batch, func(sinks.Note) {}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch.Records)), "ns/record")
		})
	}
}

func BenchmarkAcks(b *testing.B) {
	const n = 100
	var ids []int64
	var said []string
	for i := range n {
		ids = append(ids, int64(i))
		said = append(said, fmt.Sprintf(`"%d":%t`, i, i%2 == 0))
	}
	body := []byte(`{"acks":{` + strings.Join(said, ",") + `}}`)
	b.ReportAllocs()
	for b.Loop() {
		if got, err := parseAcks(body, ids); err != nil || len(got) != n/2 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/id")
}

func BenchmarkAnswer(b *testing.B) {
	body := []byte(`{"text":"Success","code":0,"ackId":17}`)
	b.ReportAllocs()
	for b.Loop() {
		if r := parseReply(body); r.code != 0 {
			b.Fatal(r)
		}
	}
}
