package httpsink

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/sinktest"
)

var origin = &buffer.Origin{Cluster: "cluster", Topic: "events", TopicID: "id", Partition: 3}

// at is the time of all records: 2023-11-14T22:13:20.123Z.
var at = time.UnixMilli(1700000000123)

func record(offset int64, value string) *buffer.Record {
	return &buffer.Record{
		Origin: origin, Offset: offset, Time: at, Key: []byte("k"),
		Value: []byte(value), Shape: shape(value),
	}
}

// shape is what the decode transform would say.
func shape(value string) buffer.Shape {
	if strings.HasPrefix(strings.TrimLeft(value, " \t\r\n"), "{") && json.Valid([]byte(value)) && utf8.ValidString(value) {
		return buffer.ShapeObject
	}
	return 0
}

func batch(records ...*buffer.Record) *buffer.Batch {
	b := new(buffer.Batch)
	for _, r := range records {
		b.Add(r)
	}
	return b
}

// numbered is a batch of n events {"n":0}, {"n":1}, ...
func numbered(n int) *buffer.Batch {
	b := new(buffer.Batch)
	for i := range n {
		b.Add(record(int64(i), fmt.Sprintf(`{"n":%d}`, i)))
	}
	return b
}

func text(s string) func() (string, error) { return func() (string, error) { return s, nil } }

func testConfig(url string) Config {
	return Config{
		URL: text(url), Method: http.MethodPost, Framing: framingArray, Event: "{event}",
		Compression: compressNone, Parallel: 2, Timeout: time.Minute,
	}
}

func mustNew(t testing.TB, cfg Config) *Sink {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// serve makes a server of h and a sink that sends to it.
func serve(t testing.TB, h http.Handler, edit func(*Config)) *Sink {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := testConfig(srv.URL)
	if edit != nil {
		edit(&cfg)
	}
	return mustNew(t, cfg)
}

func deliver(t testing.TB, s *Sink, b *buffer.Batch) []sinks.Outcome {
	t.Helper()
	out, err := s.Deliver(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != len(b.Records) {
		t.Fatalf("%d outcomes for %d records", len(out), len(b.Records))
	}
	return out
}

// failed is the RequestError that delivering b has to end in.
func failed(t testing.TB, s *Sink, b *buffer.Batch) *sinks.RequestError {
	t.Helper()
	out, err := s.Deliver(t.Context(), b, nil)
	var re *sinks.RequestError
	if !errors.As(err, &re) {
		t.Fatalf("got %+v, %v, want a RequestError", out, err)
	}
	return re
}

func count(out []sinks.Outcome, v sinks.Verdict) (n int) {
	for i := range out {
		if out[i].Verdict == v {
			n++
		}
	}
	return n
}

func inOrder(t testing.TB, h *sinktest.HTTP) {
	t.Helper()
	if b := h.Broken(); len(b) > 0 {
		t.Errorf("framing broken: %s", b[0])
	}
}

func TestFaultsOfAConfigurationAreSaidAtOnce(t *testing.T) {
	cfg := testConfig("https://user:hunter2@example.com/hunter2")
	cfg.Method, cfg.Compression, cfg.Framing, cfg.Event, cfg.Body = "GET", "zip", "xml", `{"a":{nothing here}`, "{}"
	cfg.Parallel, cfg.Timeout, cfg.MaxBytes = 0, 0, -1
	cfg.Headers = []Header{{Name: "A b", Value: text("x")}, {Name: "Host", Value: text("x")}, {Name: "X", Value: text("x")}, {Name: "x", Value: text("x")}, {Name: "Y", Value: nil}}
	cfg.Verdicts = []StatusVerdict{{"2xx", "ack"}, {"300-200", "ack"}, {"404", "reject"}, {"500", "maybe"}}
	cfg.Authorization = text("Bearer hunter2")
	cfg.OAuth2 = &OAuth2{TokenURL: "http://hunter2.example.com"}
	_, err := New(cfg)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"method", "compression", "framing", "event:", "body:", "parallel", "timeout", "negative",
		`header "A b"`, "header Host", "header X: is set twice", "header Y", `"2xx"`, `"300-200"`, "reject needs", `"maybe"`,
		"credentials in the URL", "both OAuth 2", "must be https",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("shows a secret:\n%v", err)
	}
}

func TestCredentialsDoNotGoOverPlainHTTP(t *testing.T) {
	f := func(url string, legal bool, edit func(*Config)) {
		t.Helper()
		cfg := testConfig(url)
		edit(&cfg)
		if _, err := New(cfg); (err == nil) != legal {
			t.Errorf("%s: %v", url, err)
		}
	}
	login := func(c *Config) { c.Authorization = text("Bearer x") }
	f("http://example.com/", false, login)
	f("http://10.0.0.1/", false, login)
	f("http://localhost.example.com/", false, login)
	f("http://localhost/", true, login)
	f("http://[::1]:1/", true, login)
	f("https://example.com/", true, login)
	f("http://example.com/", true, func(*Config) {})
	oauth := func(token string) func(*Config) {
		return func(c *Config) { c.OAuth2 = &OAuth2{TokenURL: token, ClientID: "c", ClientSecret: text("s")} }
	}
	f("https://example.com/", true, oauth("https://login.example.com/t"))
	f("https://example.com/", false, oauth("http://login.example.com/t"))
	f("http://example.com/", false, oauth("https://login.example.com/t"))
}

// What a body looks like, in every framing.
func TestFraming(t *testing.T) {
	f := func(framing, body, want string) {
		t.Helper()
		got := ""
		s := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			b := new(strings.Builder)
			_, _ = fmt.Fprintf(b, "%s %d %s ", r.Method, r.ContentLength, r.Header.Get("Content-Type"))
			buf := make([]byte, 1000)
			for n, err := r.Body.Read(buf); n > 0 || err == nil; n, err = r.Body.Read(buf) {
				b.Write(buf[:n])
			}
			got += b.String() + "|"
		}), func(c *Config) { c.Framing, c.Body, c.Parallel = framing, body, 1 })
		out := deliver(t, s, batch(record(0, `{"a":1}`), record(1, "{\n\"a\":\r2\n}\n"), record(2, "x\ny")))
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", framing, got, want)
		}
		if count(out, sinks.Ack) != 3 {
			t.Errorf("%s: %+v", framing, out)
		}
	}
	const third = `{"event":{"original":"x\ny"}}`
	f(framingArray, "", `POST 47 application/json [{"a":1},{"a":2},`+third+`]|`)
	f(framingArray, `{"e":{events}}`, `POST 53 application/json {"e":[{"a":1},{"a":2},`+third+`]}|`)
	f(framingNDJSON, "", "POST 46 application/x-ndjson {\"a\":1}\n{\"a\":2}\n"+third+"\n|")
	f(framingConcatenated, "", `POST 43 application/json {"a":1}{"a":2}`+third+"|")
	f(framingSingle, "", `POST 7 application/json {"a":1}|POST 7 application/json {"a":2}|POST 29 application/json `+third+"|")
}

func TestABatchIsDividedByCountAndBySize(t *testing.T) {
	f := func(records int, edit func(*Config), want ...int) {
		t.Helper()
		h := sinktest.NewArrayIntake()
		s := serve(t, h, func(c *Config) { c.Parallel = 1; edit(c) })
		if out := deliver(t, s, numbered(records)); count(out, sinks.Ack) != records {
			t.Errorf("%+v", out)
		}
		var got []int
		for _, r := range h.Requests() {
			got = append(got, r.Documents)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("requests of %d events, want %d", got, want)
		}
		inOrder(t, h)
	}
	f(7, func(*Config) {}, 7)
	f(7, func(c *Config) { c.MaxRecords = 3 }, 3, 3, 1)
	f(7, func(c *Config) { c.MaxBytes = 17 }, 2, 2, 2, 1) // [{"n":0},{"n":1}] is 17 bytes
	f(7, func(c *Config) { c.MaxBytes = 16 }, 1, 1, 1, 1, 1, 1, 1)
	f(2, func(c *Config) { c.MaxBytes = 1 }, 1, 1) // one that is too long by itself goes alone
	f(7, func(c *Config) { c.MaxBytes, c.MaxRecords = 25, 2 }, 2, 2, 2, 1)
}

func TestAnEventThatTheIntakeWouldCutIsRejected(t *testing.T) {
	h := sinktest.NewArrayIntake()
	s := serve(t, h, func(c *Config) { c.MaxEventBytes = 10 })
	out := deliver(t, s, batch(record(0, `{"a":1}`), record(1, `{"a":12345}`), record(2, `{"a":1234}`)))
	if out[0].Verdict != sinks.Ack || out[1].Verdict != sinks.Reject || out[2].Verdict != sinks.Ack {
		t.Errorf("%+v", out)
	}
	if h.Stored() != 2 || out[1].Reason == "" {
		t.Errorf("%d stored, reason %q", h.Stored(), out[1].Reason)
	}
}

func TestNothingIsSentWhenAllIsRejected(t *testing.T) {
	h := sinktest.NewArrayIntake()
	s := serve(t, h, func(c *Config) { c.MaxEventBytes = 1 })
	if out := deliver(t, s, numbered(3)); count(out, sinks.Reject) != 3 || len(h.Requests()) != 0 {
		t.Errorf("%+v, %d requests", out, len(h.Requests()))
	}
}

func TestGzip(t *testing.T) {
	h := sinktest.NewArrayIntake()
	s := serve(t, h, func(c *Config) { c.Compression = compressGzip })
	if out := deliver(t, s, numbered(2000)); count(out, sinks.Ack) != 2000 || h.Stored() != 2000 {
		t.Errorf("%d acked, %d stored", count(out, sinks.Ack), h.Stored())
	}
	if got := h.Requests()[0].Header.Get("Content-Encoding"); got != "gzip" {
		t.Errorf("Content-Encoding %q", got)
	}
	inOrder(t, h)
}

func TestPlaceholders(t *testing.T) {
	f := func(template string, r *buffer.Record, want string) {
		t.Helper()
		h := sinktest.NewArrayIntake()
		s := serve(t, h, func(c *Config) { c.Event = template })
		out := deliver(t, s, batch(r))
		if want == "" {
			if out[0].Verdict != sinks.Reject || h.Stored() != 0 {
				t.Errorf("%s: %+v", template, out)
			}
			return
		}
		if got := h.Events(); len(got) != 1 || string(got[0]) != want {
			t.Errorf("%s: got %s, want %s", template, got, want)
		}
		inOrder(t, h)
	}
	r := record(42, `{"a":"x\"y","n":-1.5,"t":true,"z":null,"o":{"p":"q"}}`)
	f(`{"e":{event}}`, r, `{"e":`+string(r.Value)+`}`)
	f(`{"e":{event},"f":{event}}`, record(0, "{\n}"), `{"e":{},"f":{}}`)
	f(`[{event_text}]`, record(0, `{"a":"\\"}`+"\t"), `["{\"a\":\"\\\\\"}\t"]`)
	f(`["<{event_text}>"]`, record(0, "\x00\x1f\u2028é\xff"), "[\"<\\u0000\\u001f\u2028é\uFFFD>\"]")
	f(`[{event_base64},"{event_base64}"]`, record(0, "\xff\xfe"), `["//4=","//4="]`)
	f(`[{topic},"{topic}",{partition},"{partition}",{offset},"{offset}"]`, r, `["events","events",3,"3",42,"42"]`)
	f(`[{key},"{key}"]`, r, `["k","k"]`)
	f(`[{time:2006-01-02T15:04:05.000Z},"on {time:02 Jan}"]`, r, `["2023-11-14T22:13:20.123Z","on 14 Nov"]`)
	f(`[{time:unix},{time:unix_ms},"{time:unix_nano}"]`, r, `[1700000000,1700000000123,"1700000000123000000"]`)
	f(`[{event_text},{a},"{a}",{n},{t},{o.p}]`, record(0, `{"a":"x\"y","n":-1.5,"t":true,"o":{"p":"q"}}`),
		`["{\"a\":\"x\\\"y\",\"n\":-1.5,\"t\":true,\"o\":{\"p\":\"q\"}}","x\"y","x\"y","-1.5","true","q"]`)
	f(`{"e":{event},"f":{missing},"g":"<{z}>"}`, r, `{"e":`+string(r.Value)+`,"f":null,"g":"<>"}`)
	f(`{"f":{missing}}`, r, "") // nothing else of the event would be delivered
	f(`{"f":{a}}`, record(0, "no object"), "")
	f(`["\u007b{topic}}"]`, r, `["\u007bevents}"]`)

	bare := &buffer.Record{Origin: origin}
	f(`{event}`, bare, `{"event":{"original":null}}`)
	f(`[{event_text},"{event_text}",{key},"{key}",{event_base64}]`, bare, `[null,"",null,"",null]`)
	f(`{event}`, &buffer.Record{Origin: origin, Key: []byte("k\n")}, `{"event":{"original":null},"kafka":{"key":"k\n"}}`)
	f(`{event}`, &buffer.Record{Origin: origin, Key: []byte("\xff")}, `{"event":{"original":null},"kafka":{"key_base64":"/w=="}}`)
	f(`{event}`, record(0, "\xff\""), `{"event":{"original":"`+"\uFFFD"+`\"","original_base64":"/yI="}}`)
	f(`[{event_text},"{event_text}"]`, record(0, ""), `["",""]`)

	far := &buffer.Record{Origin: origin, Time: time.UnixMilli(1 << 60)}
	f(`[{time:unix_nano}]`, far, `[9223372036854775807]`)
	strange := &buffer.Record{Origin: &buffer.Origin{Topic: "a\"b\n"}, Time: at}
	f(`[{topic},"{topic}"]`, strange, `["a\"b\n","a\"b\n"]`)
}

// A template must come to JSON whatever the records hold.
func TestTemplatesThatCouldBreak(t *testing.T) {
	f := func(template string, legal bool) {
		t.Helper()
		if _, err := parseEvent(template); (err == nil) != legal {
			t.Errorf("%s: %v", template, err)
		}
	}
	f(`{event}`, true)
	f(` {"a" : {event} } `, true)
	f(`{ "a": "{topic} {partition}" }`, true)
	f(`{}`, true)
	f(`{{topic}:1}`, true)
	f(`{"{key}":1}`, true)
	f(`{"a":"{"}`, true)

	f(``, false)
	f(` `, false)
	f(`{event_text}`, false) // no object
	f(`{offset}`, false)     // would run into the next one
	f(`"{event_text}"`, false)
	f(`{"a":{event}`, false)
	f(`{"a":"{event}"}`, false)
	f(`{"a":1{offset}}`, false)
	f(`{"a":-{offset}}`, false)
	f(`{"a":{partition}{offset}}`, false)
	f(`{"a":"\{topic}"}`, false)
	f(`{"a":"\u00{topic}"}`, false)
	f(`{"a":"\u00{offset}0"}`, false)
	f(`{{key}:1}`, false) // a record without a key has null there
	f(`{"a":{topic}`+"\n}", false)
	f("{\"a\":\"\xff\"}", false)
	f(`{"a":{topic}{"b":1}}`, false)
	f(`{"a":{topic`, false)
	f(`{"a":{time}}`, false)
	f(`{"a":{time:}}`, false)
	f(`{"a":{time:now}}`, false)
	f(`{"a":{a..b}}`, false)
	f(`{event}{event}`, false)
	f(`{event} // x`, false)
}

func TestBodyTemplates(t *testing.T) {
	f := func(template string, legal bool) {
		t.Helper()
		if _, _, err := parseBody(template); (err == nil) != legal {
			t.Errorf("%s: %v", template, err)
		}
	}
	f(`{events}`, true)
	f(`{"a":[{"b":{events}}]}`, true)
	f(`{"a":1}`, false)
	f(`{"a":"{events}"}`, false)
	f(`[{events},{events}]`, false)
	f(`{"a":{events},"t":{topic}}`, false)
	f(`{"a":{events}`, false)
}

// Nothing of the records may be read any more when Deliver has returned: their
// memory is somebody else's then. The race detector sees it.
func TestNoRecordIsTouchedAfterwards(t *testing.T) {
	h := sinktest.NewArrayIntake()
	s := serve(t, h, func(c *Config) { c.MaxRecords, c.Event = 50, `{"t":{event_text},"e":{event}}` })
	for range 20 {
		h.Fail(sinktest.Fault{Unread: true, Status: 503}, sinktest.Fault{}, sinktest.Fault{Unread: true, ResetBefore: true})
		b := new(buffer.Batch)
		for i := range 200 {
			b.Add(record(int64(i), `{"a":"`+strings.Repeat("x", 2000)+`"}`))
		}
		_, _ = s.Deliver(t.Context(), b, nil)
		for _, r := range b.Records {
			clear(r.Value)
		}
	}
	for _, e := range h.Events() {
		if !json.Valid(e) {
			t.Fatal("an event was changed under way")
		}
	}
}

func TestGradeIsHonest(t *testing.T) {
	s := mustNew(t, testConfig("http://127.0.0.1:1/"))
	if g, why := s.Grade(); g != sinks.GradeC || why == "" {
		t.Errorf("%s %q", g, why)
	}
}
