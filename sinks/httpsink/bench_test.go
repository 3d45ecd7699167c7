package httpsink

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"weir/buffer"
	"weir/sinks/httpclient"
)

// events are n events of 500 bytes.
func events(n int) *buffer.Batch {
	b := new(buffer.Batch)
	for i := range n {
		v := fmt.Sprintf(`{"@timestamp":"2023-11-14T22:13:20.123Z","event":{"kind":"event","code":%d},"host":{"name":"web-%d"},"message":"`, i, i%10)
		b.Add(record(int64(i), v+strings.Repeat("lorem ipsum dolor ", 30)[:498-len(v)]+`"}`))
	}
	return b
}

var benchTemplates = []struct{ name, event string }{
	{"event", `{event}`},
	{"sumo", `{"timestamp":{time:unix_ms},"event":{event},"kafka":{"topic":{topic},"partition":{partition},"offset":{offset}}}`},
	{"loki", `["{time:unix_nano}","{event_text}",{"kafka_topic":"{topic}","kafka_partition":"{partition}","kafka_offset":"{offset}"}]`},
	{"sentinel", `{"TimeGenerated":{time:2006-01-02T15:04:05.000Z},"RawData":{event_text},"Topic":{topic},"Partition":{partition},"Offset":{offset}}`},
	{"field", `{"host":{host.name},"event":{event}}`},
}

// What one event costs: measured, then encoded.
func BenchmarkEncode(b *testing.B) {
	batch := events(1000)
	for _, c := range benchTemplates {
		b.Run(c.name, func(b *testing.B) {
			cfg := testConfig("http://127.0.0.1/")
			cfg.Event = c.event
			s := mustNew(b, cfg)
			buf := make([]byte, 64<<10)
			b.ReportAllocs()
			for b.Loop() {
				d := &delivery{sink: s, begun: at}
				items := s.measure(batch.Records, d)
				e := s.encoder(*items, at)
				for {
					if _, err := e.Read(buf); err != nil {
						break
					}
				}
				s.done(e)
				s.keep(items)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch.Records)), "ns/event")
		})
	}
}

// A whole Deliver over loopback, the server's reading included.
func BenchmarkDeliver(b *testing.B) {
	batch := events(5000)
	for _, gzip := range []string{compressNone, compressGzip} {
		b.Run(gzip, func(b *testing.B) {
			s := serve(b, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
			}), func(c *Config) {
				c.Compression, c.MaxRecords, c.MaxBytes = gzip, 1000, 1<<20
				c.Event = benchTemplates[1].event
			})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Deliver(b.Context(), batch, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch.Records)), "ns/event")
		})
	}
}

func BenchmarkAnswer(b *testing.B) {
	cfg := testConfig("http://127.0.0.1/")
	cfg.AnswerRefused = "partialSuccess.rejectedLogRecords"
	s := mustNew(b, cfg)
	a := httpclient.Answer{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":""}}`)}
	b.ReportAllocs()
	for b.Loop() {
		if v, err := s.believe(&a); v != ack {
			b.Fatal(v, err)
		}
	}
}
