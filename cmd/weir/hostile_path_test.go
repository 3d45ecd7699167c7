package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"weir/config"
	"weir/sinks/file"
	"weir/sinks/sinktest"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A producer that means harm, from a topic to the index, the dead letters, the
// log and the metrics: every record arrives in one of the two places as it was,
// and nothing of it is taken for a word of ours.
func TestAHostileProducerDoesNoHarm(t *testing.T) {
	topic := strings.Repeat("t", 249) // the longest that Kafka takes
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": "104857600"}))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	es := &sinktest.Elasticsearch{Verdict: func(d sinktest.Document) sinktest.ItemError {
		if bytes.Contains(d.Source, []byte("refuse-me")) {
			return sinktest.ItemError{Status: 400, Type: "document_parsing_exception\x1b[2J\n", Reason: evil}
		}
		return sinktest.ItemError{}
	}}
	srv := httptest.NewServer(es)
	defer srv.Close()

	type sent struct {
		name string
		rec  *kgo.Record
		dead bool
	}
	var all []sent
	add := func(name string, dead bool, r *kgo.Record) {
		r.Topic = topic
		all = append(all, sent{name, r, dead})
	}
	many := make([]kgo.RecordHeader, 10_000)
	for i := range many {
		many[i] = kgo.RecordHeader{Key: "h\r\n\x00\xff", Value: []byte("\x1b")}
	}
	smuggle := "\r\n{\"delete\":{\"_index\":\"x-ok\",\"_id\":\"1\"}}\r\n"
	ok := []byte(`{"n":"ok"}`)
	add("10,000 headers", false, &kgo.Record{Value: ok, Headers: many})
	add("10,000 headers of a dead letter", true, &kgo.Record{Value: []byte(`{"n":"ok","x":"refuse-me"}`), Headers: many})
	add("a header name of 1 MB", true, &kgo.Record{Value: []byte(`{"n":"ok","x":"refuse-me"}`), Headers: []kgo.RecordHeader{{Key: strings.Repeat("\n", 1<<20)}}})
	add("a header called as ours", true, &kgo.Record{Value: []byte(`{"n":"ok","x":"refuse-me"}`), Headers: []kgo.RecordHeader{{Key: "weir.offset", Value: []byte(evil)}}})
	add("a key of line breaks and NUL", false, &kgo.Record{Key: []byte(smuggle + "\x00"), Value: ok})
	add("actions behind an object", true, &kgo.Record{Value: []byte(`{"n":"ok"}` + smuggle)})
	add("actions for a value", true, &kgo.Record{Value: []byte(smuggle)})
	add("line breaks between tokens", false, &kgo.Record{Value: []byte("{\r\n\"n\"\r\n:\r\n\"ok\"\r\n}\r\n")})
	add("an action within", false, &kgo.Record{Value: []byte(`{"n":"ok","x":"\r\n{\"delete\":{\"_id\":\"1\"}}\r\n"}`)})
	add("20 MB", false, &kgo.Record{Value: []byte(`{"n":"ok","x":"` + strings.Repeat("x", 20<<20) + `"}`)})
	add("20 MB that is no JSON", true, &kgo.Record{Value: bytes.Repeat([]byte("\x00"), 20<<20)})
	add("100,000 deep", true, &kgo.Record{Value: []byte(strings.Repeat(`{"n":`, 100_000) + `1` + strings.Repeat(`}`, 100_000))})
	add("names of JavaScript's", false, &kgo.Record{Value: []byte(`{"n":"ok","__proto__":{"a":1},"constructor":{"prototype":1}}`)})
	add("names of Elasticsearch's", false, &kgo.Record{Value: []byte(`{"n":"ok","_id":"x","_index":".security","_routing":"r","_source":null}`)})
	add("coordinates of its own", false, &kgo.Record{Value: []byte(`{"n":"ok","kafka":{"offset":-1}}`)})
	add("a tombstone", true, &kgo.Record{Key: []byte(evil)})
	add("year 292278994", false, &kgo.Record{Value: ok, Timestamp: time.UnixMilli(1<<63 - 1)})
	add("before the epoch", false, &kgo.Record{Value: ok, Timestamp: time.UnixMilli(-1 << 40)})
	for _, name := range []string{"../../etc/passwd", "%2e%2e/x", "a/b", `a\\b`, `a\u0000b`, `a\nb`, `a\u001b[2Jb`, strings.Repeat("a", 300),
		"<a-{now/d}>", "a,b", "*", "a b", `a\"b`, "#", "a:b"} {
		add("index "+name, true, &kgo.Record{Value: []byte(`{"n":"` + name + `"}`)})
	}
	// Harmless behind the x- of the template.
	for _, name := range []string{"UPPER", "-dash", "_all", ".security", "..", "日本", "%2e%2e", "\u212a"} {
		add("index "+name, false, &kgo.Record{Value: []byte(`{"n":"` + name + `"}`)})
	}

	dir := t.TempDir()
	cfg := config.Default()
	cfg.Kafka.Brokers = kafka.ListenAddrs()
	cfg.Memory = 64 << 20
	c, e := config.DefaultConnector(), config.DefaultElasticsearch()
	c.Name, c.Group, c.Topics = "hostile", "weir.hostile", []string{topic}
	c.DeadLetter.File, c.DeadLetter.Reasons = filepath.Join(dir, "dead.jsonl"), "full"
	e.URLs, e.Index = []string{srv.URL}, "x-{n}"
	c.Sink.Elasticsearch = &e
	cfg.Connectors = []config.Connector{c}

	producer, err := kgo.NewClient(kgo.SeedBrokers(cfg.Kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(64<<20), kgo.BrokerMaxWriteBytes(100<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	dead, stored := 0, 0
	for i := range all {
		if err := producer.ProduceSync(t.Context(), all[i].rec).FirstErr(); err != nil {
			t.Fatalf("%s: %v", all[i].name, err)
		}
		if all[i].dead {
			dead++
		} else {
			stored++
		}
	}

	logged := new(lockedBuffer)
	log := slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b, err := newBridge(&cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- b.run(ctx) }()
	settled := func() (n int64) {
		for _, l := range b.links[0].connector.Stats().Lanes {
			n += l.Counts.Delivered + l.Counts.DeadLettered
		}
		return n
	}
	for deadline := time.Now().Add(3 * time.Minute); settled() < int64(len(all)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d settled: %v\n%.3000s", settled(), len(all), b.troubles(time.Now()), logged)
		}
	}
	page := httptest.NewRecorder()
	promhttp.HandlerFor(newRegistry(b), promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	status, err := json.Marshal(b.status())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	b.close()

	for _, fault := range es.Broken() {
		t.Errorf("broken framing: %s", fault)
	}
	for index := range es.Indices() {
		if !strings.HasPrefix(index, "x-") || obeyed(index) >= 0 || strings.ContainsAny(index, `/\`) {
			t.Errorf("index %q", index)
		}
	}
	inIndex := 0
	for _, n := range es.Indices() {
		inIndex += n
	}
	letters := map[int64]bool{}
	for r, err := range file.Read(c.DeadLetter.File) {
		if err != nil {
			t.Fatal(err)
		}
		s := all[r.Offset]
		letters[r.Offset] = true
		if !s.dead {
			t.Errorf("%s is a dead letter", s.name)
		}
		if !bytes.Equal(r.Key, s.rec.Key) || !bytes.Equal(r.Value, s.rec.Value) || len(r.Headers) != len(s.rec.Headers)+9 {
			t.Errorf("%s came out otherwise: %d headers, a value of %d bytes", s.name, len(r.Headers), len(r.Value))
			continue
		}
		for i, h := range s.rec.Headers {
			if r.Headers[i].Key != h.Key || !bytes.Equal(r.Headers[i].Value, h.Value) {
				t.Errorf("%s: header %d came out otherwise", s.name, i)
				break
			}
		}
		for _, h := range r.Headers[len(s.rec.Headers):] {
			if i := strings.IndexFunc(string(h.Value), unicode.IsControl); i >= 0 || len(h.Value) > 1024 {
				t.Errorf("%s: %s is %.200q", s.name, h.Key, h.Value)
			}
		}
	}
	if len(letters) != dead || inIndex != stored {
		t.Errorf("%d dead letters and %d documents, want %d and %d", len(letters), inIndex, dead, stored)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("files: %v", files)
	}
	for i, line := range strings.Split(strings.TrimSpace(logged.String()), "\n") {
		if !strings.HasPrefix(line, "time=") || obeyed(line) >= 0 || len(line) > 8192 {
			t.Errorf("line %d of the log is %.300q", i, line)
		}
	}
	if obeyed(page.Body.String()) >= 0 || bytes.ContainsFunc(status, unicode.IsControl) {
		t.Error("control characters in the metrics or the status")
	}
	if n := strings.Count(page.Body.String(), "\n"); n > 500 {
		t.Errorf("%d lines of metrics", n)
	}
}
