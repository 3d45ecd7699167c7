package syslog

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks/sinktest"
)

// benchBatch is 5000 records of 500 bytes.
func benchBatch() *buffer.Batch {
	b := new(buffer.Batch)
	o := &buffer.Origin{Cluster: "5L6g3nShT-eMCtK--X86sw", Topic: "edr.events", TopicID: "YliYLvSoSSGAov0MzWytyg", Partition: 3}
	value := fmt.Appendf(nil, `{"id":"4688","name":"process started","source":{"ip":"10.20.31.173"},"cmd":"powershell.exe -File C:\\Scripts\\a.ps1","x":%q}`, strings.Repeat("x", 370))
	for i := range int64(5000) {
		b.Add(&buffer.Record{Origin: o, Offset: 1_000_000 + i, Time: time.UnixMilli(1700000000000 + i), Value: value, Shape: buffer.ShapeObject})
	}
	return b
}

func BenchmarkEncode(b *testing.B) {
	batch := benchBatch()
	for _, payload := range []string{"json", "cef", "leef"} {
		b.Run(payload, func(b *testing.B) {
			cfg := testConfig("127.0.0.1:1")
			if payload != "json" {
				extended(payload)(&cfg)
			}
			s := mustNew(b, cfg)
			e := &encoder{layout: &s.layout}
			b.ReportAllocs()
			for b.Loop() {
				for _, r := range batch.Records {
					if _, err := e.message(r); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch.Records)), "ns/record")
		})
	}
}

// BenchmarkDeliver includes the receiver, which is in the same process.
func BenchmarkDeliver(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	r := &sinktest.Syslog{Framing: "octet_counting", Forget: true}
	go r.Serve(l)
	s := mustNew(b, testConfig(l.Addr().String()))
	batch := benchBatch()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Deliver(b.Context(), batch, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch.Records)), "ns/record")
}
