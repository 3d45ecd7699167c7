package archive

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"weir/buffer"
)

// benchBatch is 5000 different records of 500 bytes in runs of 100.
func benchBatch(partitions int, at int64) *buffer.Batch {
	b := new(buffer.Batch)
	origins := make([]*buffer.Origin, partitions)
	for i := range origins {
		origins[i] = &buffer.Origin{Cluster: "5L6g3nShT-eMCtK--X86sw", Topic: "edr.events", TopicID: "YliYLvSoSSGAov0MzWytyg", Partition: int32(i)}
	}
	for i := range int64(5000) {
		n := uint64(at*5000+i) * 0x9e3779b97f4a7c15
		value := fmt.Appendf(nil, `{"@timestamp":"2024-05-17T09:21:33.518Z","event.code":%d,"host.name":"ws-%04d.corp.example","user.name":"u%d","user.domain":"CORP",`+
			`"process.pid":%d,"process.entity_id":"%016x%016x","process.executable":"C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",`+
			`"process.command_line":"powershell.exe -NoProfile -ExecutionPolicy Bypass -File C:\\Scripts\\nightly-%d.ps1 -Quiet","source.ip":"10.20.%d.%d",`+
			`"event.outcome":"success","labels":{"site":"cph","tier":2,"managed":true}}`, n%5000, n>>8%4000, n>>16%900, n>>20%60000, n, n^0xabcdef, n>>40%3000, n>>33%255, n>>50%255)
		b.Add(&buffer.Record{
			Origin: origins[i/100%int64(partitions)], Offset: at*5000 + i, Time: time.UnixMilli(1700000000000 + i/4), Value: value, Shape: buffer.ShapeObject,
		})
	}
	return b
}

func BenchmarkEncode(b *testing.B) {
	batch := benchBatch(6, 1)
	for c, ext := range extensions {
		b.Run(ext[1:], func(b *testing.B) {
			e, err := newEncoder(codec(c))
			if err != nil {
				b.Fatal(err)
			}
			var out bytes.Buffer
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				e.start(&out)
				start := lineStart(batch.Records[0].Origin)
				for _, r := range batch.Records {
					e.lines.record(start, r)
				}
				if err := e.finish(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch.Records)), "ns/record")
			b.ReportMetric(float64(batch.Bytes)/float64(out.Len()), "ratio")
		})
	}
}

// BenchmarkDeliver writes to the disk that TMPDIR is on, with its fsyncs.
func BenchmarkDeliver(b *testing.B) {
	for _, partitions := range []int{1, 6, 50, 300} {
		for _, compression := range []string{"zstd", "none"} {
			b.Run(fmt.Sprintf("%d-%s", partitions, compression), func(b *testing.B) {
				cfg := testConfig(b.TempDir())
				cfg.Compression = compression
				s := mustNew(b, cfg)
				const ahead = 8 // the batches in flight
				at := int64(0)
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					var batches [ahead]*buffer.Batch
					for i := range batches {
						batches[i] = benchBatch(partitions, at)
						at++
					}
					b.StartTimer()
					done := make(chan error, ahead)
					for _, batch := range batches {
						go func() {
							_, err := s.Deliver(b.Context(), batch, nil)
							done <- err
						}()
					}
					for range batches {
						if err := <-done; err != nil {
							b.Fatal(err)
						}
					}
				}
				b.ReportMetric(ahead*5000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkReadOffsets reads what a killed process left, which every partition's first
// record waits for.
func BenchmarkReadOffsets(b *testing.B) {
	batch := benchBatch(1, 1)
	prefix := filePrefix(batch.Records[0].Origin)
	for c, ext := range extensions {
		b.Run(ext[1:], func(b *testing.B) {
			e, err := newEncoder(codec(c))
			if err != nil {
				b.Fatal(err)
			}
			var out bytes.Buffer
			e.start(&out)
			for _, r := range batch.Records {
				e.lines.record(lineStart(r.Origin), r)
			}
			if err := e.finish(); err != nil {
				b.Fatal(err)
			}
			f := &fakeHandle{newFakeDisk(1).process(), &fakeFile{seen: out.Bytes()}}
			for b.Loop() {
				got, ext, err := readOffsets(f, int64(out.Len()), codec(c), prefix)
				if err != nil || ext.why != nil || len(got.spans) != 1 {
					b.Fatal(got, ext, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch.Records)), "ns/record")
		})
	}
}
