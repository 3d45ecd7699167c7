package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"weir/buffer"
	"weir/config"
	"weir/connector"
	"weir/sinks"
	"weir/sinks/file"
)

// obeyed is where s holds what a terminal obeys, -1 for nowhere. Line breaks are
// the program's own.
func obeyed(s string) int {
	return strings.IndexFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
}

const evil = "evil\x1b[2J\a\r\u202e\u2028\u009b31m\xff"

// An Elasticsearch whose every word is meant for the terminal of whoever checks
// it.
func TestCheckCannotMoveTheTerminal(t *testing.T) {
	said := `"` + strings.NewReplacer("\x1b", `\u001b`, "\a", `\u0007`, "\r", `\r`).Replace(evil) + `"`
	for name, answer := range map[string]http.HandlerFunc{
		"in its names": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"name":%s,"cluster_name":%s,"cluster_uuid":%s,"version":{"number":%s},"index_templates":[{"name":%s,"index_template":{"index_patterns":[%s]}}]}`,
				said, said, said, said, said, said)
		},
		"in its errors": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"error":{"type":%s,"reason":%s}}`, said, said)
		},
	} {
		t.Run(name, func(t *testing.T) {
			es := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Elastic-Product", "Elasticsearch")
				answer(w, r)
			}))
			defer es.Close()
			path := filepath.Join(t.TempDir(), "weir.yaml")
			if err := os.WriteFile(path, fmt.Appendf(nil, `
kafka: {brokers: ["127.0.0.1:1"]}
connectors:
  - name: a
    topics: [t]
    sink: {elasticsearch: {urls: [%q], index: i}}
`, es.URL), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			if code := execute(t.Context(), []string{"check", "--online", "-c", path}, &out, &errs); code != exitFailed {
				t.Errorf("exit code %d: %s", code, errs.String())
			}
			for _, s := range []string{out.String(), errs.String()} {
				if i := obeyed(s); i >= 0 {
					t.Errorf("at byte %d of %q", i, s)
				}
			}
			if !strings.Contains(out.String(), "evil") {
				t.Errorf("nothing of it is shown: %s", out.String())
			}
		})
	}
}

// weir health shows what it is answered, and --url can be anybody's.
func TestHealthCannotMoveTheTerminal(t *testing.T) {
	for _, status := range []int{200, 503} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintln(w, evil)
		}))
		defer srv.Close()
		var out, errs bytes.Buffer
		execute(t.Context(), []string{"health", "--url", srv.URL}, &out, &errs)
		for _, s := range []string{out.String(), errs.String()} {
			if i := obeyed(s); i >= 0 {
				t.Errorf("at byte %d of %q", i, s)
			}
		}
	}
}

// Both log formats keep one entry on one line, whatever an error quotes.
func TestLogCannotBeForged(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		log := newLog(config.Log{Level: "info", Format: format}, &b)
		log.Warn("the sink fails", "error", errors.New(evil+"\nlevel=ERROR msg=forged"), "topic", evil, "reason", evil)
		got, ended := strings.CutSuffix(b.String(), "\n")
		if i := obeyed(got); i >= 0 || !ended || strings.Contains(got, "\n") {
			t.Errorf("%s: at byte %d of %q", format, i, got)
		}
		var entry struct{ Topic string }
		if format == "json" && (json.Unmarshal(b.Bytes(), &entry) != nil || entry.Topic != strings.ToValidUTF8(evil, "\uFFFD")) {
			t.Errorf("it says something else: %q", got)
		}
	}
}

// A letter that somebody forged has any text as its reason.
func TestListOfLettersCannotMoveTheTerminal(t *testing.T) {
	for _, format := range []string{"", "--json"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "weir.yaml")
		dead, err := file.New(filepath.Join(dir, "dead.jsonl"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r := &buffer.Record{Origin: &buffer.Origin{Topic: "t", Partition: 1}, Offset: 1, Value: []byte("{}")}
		said := strings.ToValidUTF8(evil, "")
		for _, h := range [][2]string{{"connector", "a"}, {"topic", "t"}, {"topic_id", ""}, {"partition", "1"}, {"offset", "1"},
			{"timestamp", "2026-05-01T08:00:00.000Z"}, {"status", "400"}, {"reason", said}, {"failed_at", "2026-05-01T08:00:00.000Z"}} {
			r.Headers = append(r.Headers, buffer.Header{Key: "weir." + h[0], Value: []byte(h[1])})
		}
		if _, err := dead.Deliver(t.Context(), &buffer.Batch{Records: []*buffer.Record{r}}, nil); err != nil {
			t.Fatal(err)
		}
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		text := "kafka: {brokers: [127.0.0.1:9]}\nconnectors:\n- {name: a, topics: [t], dead_letter: {file: dead.jsonl}, sink: {elasticsearch: {urls: [http://127.0.0.1:9], index: x}}}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"dlq", "ls", "-c", path}
		if format != "" {
			args = append(args, format)
		}
		var out, errs bytes.Buffer
		if code := execute(t.Context(), args, &out, &errs); code != exitDone || !strings.Contains(out.String(), "evil") {
			t.Fatalf("exit code %d: %s%s", code, out.String(), errs.String())
		}
		if i := obeyed(out.String()); i >= 0 {
			t.Errorf("%s: at byte %d of %q", format, i, out.String())
		}
	}
}

// A sink may answer with any of a thousand codes; each would be a histogram of
// its own.
func TestStatusesOfAHostileSinkAreFewSeries(t *testing.T) {
	h := requestSeconds()
	observe := observer(h, "a")
	for status := range 1000 {
		observe(status, 0)
	}
	if n := series(h); n > 80 {
		t.Errorf("%d series", n)
	}
}

func series(c prometheus.Collector) int {
	ch := make(chan prometheus.Metric, 2000)
	c.Collect(ch)
	return len(ch)
}

// A name that is not UTF-8 is no metric's label; it must not end the process.
func TestForeignTopicNamesDoNotEndMetrics(t *testing.T) {
	cfg := config.Default()
	cfg.Kafka.Brokers = []string{"127.0.0.1:1"}
	c, e := config.DefaultConnector(), config.DefaultElasticsearch()
	c.Name, c.Group, c.Topics = "idle", "weir.idle", []string{"a"}
	e.URLs, e.Index = []string{"http://127.0.0.1:1"}, "a"
	c.Sink.Elasticsearch = &e
	cfg.Connectors = []config.Connector{c}
	b, err := newBridge(&cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, topic := range []string{evil, strings.Repeat("x", 249), "a\nb"} {
		if err := b.links[0].connector.Lane(t.Context(), &buffer.Origin{Topic: topic}, ended{}); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v", p)
		}
	}()
	if n := series(bridgeCollector{b}); n == 0 {
		t.Error("no series")
	}
}

// ended is a source without records.
type ended struct{}

func (ended) Start() int64                                { return 0 }
func (ended) Next(context.Context) (connector.Run, error) { return connector.Run{}, io.EOF }
func (ended) Commit(connector.Progress)                   {}
func (ended) End() int64                                  { return 0 }

// What makes a record a dead letter is told in headers of clean text, behind
// those that the record brought, whatever those are called.
func TestReasonsOfDeadLettersAreClean(t *testing.T) {
	es := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		fmt.Fprint(w, `{"items":[{"create":{"status":400,"error":{"type":"a\u001b[2J\r\nb","reason":"c\u0000\u2028`+strings.Repeat("x", 3000)+`"}}}]}`)
	}))
	defer es.Close()
	letters := &mailbox{}
	c := config.DefaultConnector()
	e := config.DefaultElasticsearch()
	e.URLs, e.Index = []string{es.URL}, "i"
	c.Name, c.Sink.Elasticsearch, c.DeadLetter.Reasons = "a", &e, "full"
	sink, err := newElastic(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	conn := connector.New(connector.Options{
		Name: "a", BatchRecords: 1, BatchBytes: 1 << 20, InFlightMin: 1, InFlightMax: 1, RetryInitial: 1e6, RetryMax: 1e6, Drain: 1e10,
		Sink: sink, DeadLetter: letters, Budget: buffer.NewBudget(64 << 20), Log: slog.New(slog.DiscardHandler),
	})
	defer conn.Close()
	headers := []buffer.Header{{Key: "weir.reason", Value: []byte(evil)}, {Key: evil, Value: []byte("v")}, {Key: "", Value: nil}}
	for range 10_000 {
		headers = append(headers, buffer.Header{Key: "h\n", Value: []byte("\x00")})
	}
	r := buffer.Record{Origin: &buffer.Origin{Topic: "t"}, Key: []byte("k\x00\n"), Value: []byte("{}\r\n{\"delete\":{}}\r\n"), Headers: headers}
	if err := conn.Lane(t.Context(), r.Origin, &once{records: []buffer.Record{r}}); err != nil {
		t.Fatal(err)
	}
	if len(letters.got) != 1 {
		t.Fatalf("%d dead letters", len(letters.got))
	}
	got := letters.got[0].Headers
	if len(got) != len(headers)+9 || !bytes.Equal(letters.got[0].Value, r.Value) || !bytes.Equal(letters.got[0].Key, r.Key) {
		t.Fatalf("%d headers of %d, value %q", len(got), len(headers), letters.got[0].Value)
	}
	for i, h := range headers {
		if got[i].Key != h.Key || !bytes.Equal(got[i].Value, h.Value) {
			t.Fatalf("header %d became %q", i, got[i].Key)
		}
	}
	for _, h := range got[len(headers):] {
		if strings.ContainsFunc(string(h.Value), unicode.IsControl) || len(h.Value) > 1024 || !strings.HasPrefix(h.Key, "weir.") {
			t.Errorf("%s: %.300q", h.Key, h.Value)
		}
	}
}

// mailbox takes every dead letter.
type mailbox struct{ got []buffer.Record }

func (m *mailbox) Deliver(_ context.Context, b *buffer.Batch, _ func(sinks.Note)) ([]sinks.Outcome, error) {
	out := make([]sinks.Outcome, len(b.Records))
	for i, r := range b.Records {
		c := *r
		c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		m.got = append(m.got, c)
		out[i].Verdict = sinks.Ack
	}
	return out, nil
}

// once hands out its records and ends.
type once struct{ records []buffer.Record }

func (*once) Start() int64 { return 0 }
func (o *once) Next(context.Context) (connector.Run, error) {
	if o.records == nil {
		return connector.Run{}, io.EOF
	}
	run := connector.Run{Records: o.records, Next: int64(len(o.records))}
	o.records = nil
	return run, nil
}
func (*once) Commit(connector.Progress) {}
func (*once) End() int64                { return -1 }
