package httpsink

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/sinktest"
)

// example is the sink that the documentation has under a heading, sending to h in
// place of the vendor. That the example is a configuration that loads is tested
// where configurations are.
func example(t *testing.T, heading string, h *sinktest.HTTP, login func(*Config)) *Sink {
	t.Helper()
	page, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n### "+heading+"\n")
	_, section, fenced := strings.Cut(section, "```yaml\n")
	section, _, closed := strings.Cut(section, "```")
	if !found || !fenced || !closed {
		t.Fatalf("no example %q in docs/http.md", heading)
	}
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^ +` + key + `: '?(.*?)'?$`).FindStringSubmatch(section)
		if m == nil {
			return ""
		}
		return m[1]
	}
	number := func(key string, otherwise int64) int64 {
		s := value(key)
		if s == "" {
			return otherwise
		}
		for unit, size := range map[string]int64{"KiB": 1 << 10, "MB": 1e6, "": 1} {
			if digits, ok := strings.CutSuffix(s, unit); ok {
				if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
					return n * size
				}
			}
		}
		t.Fatalf("%s: %q is no number", key, s)
		return 0
	}

	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	target, err := url.Parse(strings.ReplaceAll(value("url"), "${env:SUMO_TOKEN}", "SUMO-TOKEN"))
	if err != nil {
		t.Fatal(err)
	}
	target.Scheme, target.Host = "http", strings.TrimPrefix(srv.URL, "http://")
	cfg := testConfig(target.String())
	cfg.Event, cfg.Body = value("event"), value("body")
	cfg.MaxRecords, cfg.MaxBytes = int(number("max_records", 1000)), number("max_bytes", 1<<20)
	cfg.MaxEventBytes, cfg.Parallel = number("max_event_bytes", 0), int(number("parallel", 4))
	cfg.AnswerRefused = value("refused")
	if v := value("framing"); v != "" {
		cfg.Framing = v
	}
	if v := value("compression"); v != "" {
		cfg.Compression = v
	}
	for _, m := range regexp.MustCompile(`\{name: (\S+), value: "?([^"}]+\}?)"?\}`).FindAllStringSubmatch(section, -1) {
		cfg.Headers = append(cfg.Headers, Header{Name: m[1], Value: text(strings.ReplaceAll(m[2], "${env:DD_API_KEY}", "DD-KEY"))})
	}
	for _, m := range regexp.MustCompile(`\{status: "([^"]+)", verdict: (\w+)\}`).FindAllStringSubmatch(section, -1) {
		cfg.Verdicts = append(cfg.Verdicts, StatusVerdict{m[1], m[2]})
	}
	if login != nil {
		login(&cfg)
	}
	return mustNew(t, cfg)
}

// mixed are n records of every kind: objects, text, bytes, tombstones.
func mixed(n int, at time.Time) *buffer.Batch {
	b := new(buffer.Batch)
	for i := range n {
		r := record(int64(i), []string{`{"user":"u","n":1}`, "no object", "\xff\"\n", `{}`, "{\n}"}[i%5])
		r.Time = at
		if i%11 == 10 {
			r.Value, r.Shape = nil, 0
		}
		b.Add(r)
	}
	return b
}

// arrived checks that all of b was acknowledged and stored, each once.
func arrived(t *testing.T, s *Sink, h *sinktest.HTTP, b *buffer.Batch) {
	t.Helper()
	if out := deliver(t, s, b); count(out, sinks.Ack) != len(b.Records) {
		t.Errorf("%d of %d acknowledged: %+v", count(out, sinks.Ack), len(b.Records), out[0])
	}
	if h.Stored() != len(b.Records) || len(h.Events()) != len(b.Records) {
		t.Errorf("%d different of %d events stored, want %d", h.Stored(), len(h.Events()), len(b.Records))
	}
	inOrder(t, h)
}

// has checks that one of the stored events is want.
func has(t *testing.T, h *sinktest.HTTP, want string) {
	t.Helper()
	events := h.Events()
	for _, e := range events {
		if string(e) == want {
			return
		}
	}
	t.Errorf("no event %s; the first is %s", want, events[0])
}

var now = time.UnixMilli(1700000000123)

func TestSentinel(t *testing.T) {
	l := &tokenServer{secret: "s", expires: 3600}
	tokens := httptest.NewTLSServer(l)
	t.Cleanup(tokens.Close)
	h := sinktest.Sentinel(l.token)
	s := example(t, "Microsoft Sentinel", h, func(c *Config) {
		c.OAuth2 = &OAuth2{
			TokenURL: tokens.URL, ClientID: "client", ClientSecret: text("s"),
			Scopes: []string{"https://monitor.azure.com/.default"}, TLS: trust(tokens.Certificate()),
		}
	})
	arrived(t, s, h, mixed(3000, now))
	if l.scopes[0] != "https://monitor.azure.com/.default" {
		t.Errorf("scopes %q", l.scopes)
	}
	has(t, h, `{"TimeGenerated":"2023-11-14T22:13:20.123Z","RawData":"{\"user\":\"u\",\"n\":1}","Topic":"events","Partition":3,"Offset":0}`)

	// 1 MB a request, and one that is longer alone is refused alone.
	big := func(offset int64, n int) *buffer.Record { return record(offset, strings.Repeat("x", n)) }
	out := deliver(t, s, batch(big(9000, 600_000), big(9001, 600_000), big(9002, 1_100_000), big(9003, 10)))
	if count(out, sinks.Ack) != 3 || out[2].Verdict != sinks.Reject || out[2].Status != 413 {
		t.Errorf("%+v", out)
	}
	h.Fail(sinktest.Fault{Status: 429, Header: http.Header{"Retry-After": {"10"}}})
	if e := failed(t, s, numbered(1)); e.RetryAfter != 10*time.Second || e.Misconfigured {
		t.Errorf("%+v", e)
	}
}

func TestSumo(t *testing.T) {
	h := sinktest.Sumo("SUMO-TOKEN")
	s := example(t, "Sumo Logic", h, nil)
	arrived(t, s, h, mixed(3000, now))
	has(t, h, `{"timestamp":1700000000123,"event":{"user":"u","n":1},"kafka":{"topic":"events","partition":3,"offset":0}}`)
	has(t, h, `{"timestamp":1700000000123,"event":{"event":{"original":"no object"}},"kafka":{"topic":"events","partition":3,"offset":1}}`)

	for _, status := range []int{202, 401, 408, 429, 503, 504} {
		h.Fail(sinktest.Fault{Status: status})
		e := failed(t, s, numbered(1))
		if e.Misconfigured != (status == 202 || status == 401) || strings.Contains(e.Error(), "SUMO-TOKEN") {
			t.Errorf("%d: %+v", status, e)
		}
	}
}

func TestDatadog(t *testing.T) {
	h := sinktest.Datadog("DD-KEY", now)
	s := example(t, "Datadog", h, nil)
	arrived(t, s, h, mixed(3000, now))
	has(t, h, `{"ddsource":"kafka","service":"events","timestamp":1700000000123,"message":"{\"user\":\"u\",\"n\":1}",`+
		`"kafka":{"topic":"events","partition":3,"offset":0}}`)

	// It would be cut off with a 202.
	stored := h.Stored()
	out := deliver(t, s, batch(record(9000, strings.Repeat("x", 1_000_001)), record(9001, "x")))
	if out[0].Verdict != sinks.Reject || out[1].Verdict != sinks.Ack || h.Stored() != stored+1 {
		t.Errorf("%+v, %d stored", out, h.Stored()-stored)
	}
	for _, r := range h.Requests() {
		if r.Documents > 1000 || r.Bytes > 5_000_000 {
			t.Errorf("a request of %d events and %d bytes", r.Documents, r.Bytes)
		}
	}
}

func TestLoki(t *testing.T) {
	h := sinktest.Loki(now.Add(-time.Hour), now)
	s := example(t, "Grafana Loki", h, nil)
	arrived(t, s, h, mixed(2000, now))
	has(t, h, `["1700000000123000000","{\"user\":\"u\",\"n\":1}",{"kafka_topic":"events","kafka_partition":"3","kafka_offset":"0"}]`)
	if got := h.Requests()[0].Header.Get("X-Scope-OrgID"); got != "security" {
		t.Errorf("tenant %q", got)
	}

	// One line that is too far behind is found out; its neighbours are there once.
	h = sinktest.Loki(now.Add(-time.Hour), now)
	s = example(t, "Grafana Loki", h, nil)
	b := mixed(500, now)
	b.Records[77].Time = now.Add(-2 * time.Hour)
	out := deliver(t, s, b)
	if out[77].Verdict != sinks.Reject || out[77].Status != 400 || count(out, sinks.Ack) != 499 || len(h.Events()) != 499 {
		t.Errorf("%+v, %d acknowledged, %d stored", out[77], count(out, sinks.Ack), len(h.Events()))
	}
}

func TestVictoriaLogs(t *testing.T) {
	h := sinktest.VictoriaLogs()
	s := example(t, "VictoriaLogs", h, nil)
	arrived(t, s, h, mixed(2000, now))
	has(t, h, `{"_time":"2023-11-14T22:13:20.123Z","_msg":"{\"user\":\"u\",\"n\":1}","kafka":{"topic":"events","partition":3,"offset":0}}`)
	if r := h.Requests()[0]; r.Query != "_stream_fields=kafka.topic" || r.Header.Get("Content-Type") != "application/stream+json" {
		t.Errorf("%+v", r)
	}
	// It would be thrown away with a 200.
	out := deliver(t, s, batch(record(9000, strings.Repeat("x", 256<<10)), record(9001, "x")))
	if out[0].Verdict != sinks.Reject || out[1].Verdict != sinks.Ack || h.Stored() != 2001 {
		t.Errorf("%+v, %d stored", out, h.Stored())
	}
}

func TestOTLP(t *testing.T) {
	refuse := func(r json.RawMessage) bool { return strings.Contains(string(r), `"intValue":"1234"`) }
	h := sinktest.OTLP(nil)
	s := example(t, "OpenTelemetry (OTLP/HTTP)", h, nil)
	arrived(t, s, h, mixed(2000, now))
	has(t, h, `{"timeUnixNano":"1700000000123000000","body":{"stringValue":"{\"user\":\"u\",\"n\":1}"},"attributes":[`+
		`{"key":"kafka.topic","value":{"stringValue":"events"}},{"key":"kafka.partition","value":{"intValue":"3"}},{"key":"kafka.offset","value":{"intValue":"0"}}]}`)

	h = sinktest.OTLP(refuse)
	s = example(t, "OpenTelemetry (OTLP/HTTP)", h, nil)
	out := deliver(t, s, mixed(2000, now))
	if out[1234].Verdict != sinks.Reject || count(out, sinks.Ack) != 1999 || h.Stored() != 1999 {
		t.Errorf("%+v, %d acknowledged, %d stored", out[1234], count(out, sinks.Ack), h.Stored())
	}
	for _, status := range []int{429, 502, 503, 504} {
		h.Fail(sinktest.Fault{Status: status, Header: http.Header{"Retry-After": {"5"}}})
		if e := failed(t, s, numbered(1)); e.RetryAfter != 5*time.Second || e.Misconfigured {
			t.Errorf("%d: %+v", status, e)
		}
	}
}
