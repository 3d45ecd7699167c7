//go:build integration

package elastic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// real is a sink that writes to a real Elasticsearch, into an index of its own.
func real(t *testing.T, edit func(*Config)) (*Sink, string) {
	t.Helper()
	url := os.Getenv("WEIR_TEST_ES")
	if url == "" {
		t.Skip("WEIR_TEST_ES is not set: the URL of an Elasticsearch to test with")
	}
	index := fmt.Sprintf("weir-elastic-%d", time.Now().UnixNano())
	cfg := testConfig(url)
	cfg.Flavor, cfg.Index, cfg.IncludeReasons = os.Getenv("WEIR_TEST_FLAVOR"), index, true
	if edit != nil {
		edit(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _, _ = s.do(context.Background(), http.MethodDelete, "/"+index+"?ignore_unavailable=true", nil)
		s.Close()
	})
	return s, index
}

// ask sends a small request that has to go well.
func ask(t *testing.T, s *Sink, method, path, body string) []byte {
	t.Helper()
	var b []byte
	if body != "" {
		b = []byte(body)
	}
	status, answer, err := s.do(t.Context(), method, path, b)
	if err != nil || status >= 300 {
		t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
	}
	return answer
}

func count(t *testing.T, s *Sink, index string) int {
	t.Helper()
	ask(t, s, http.MethodPost, "/"+index+"/_refresh", "")
	var a struct{ Count int }
	if err := json.Unmarshal(ask(t, s, http.MethodGet, "/"+index+"/_count", ""), &a); err != nil {
		t.Fatal(err)
	}
	return a.Count
}

func TestRealServerIsPinged(t *testing.T) {
	s, _ := real(t, nil)
	info, err := s.Ping(t.Context())
	if err != nil || info.Version == "" || info.ClusterUUID == "" {
		t.Fatal(info, err)
	}
	t.Logf("%+v", info)
}

// openSearchVerdicts are those of TestRealVerdicts that OpenSearch differs in.
var openSearchVerdicts = map[string]sinks.Verdict{
	"depth 900":             sinks.Reject,
	"blank field name":      sinks.Ack,
	"lone surrogate in key": sinks.Reject,
}

// What the real server says to hostile and odd documents. None of them may be
// answered 5xx, or it would be retried for ever.
func TestRealVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		value   string
		shape   buffer.Shape
		verdict sinks.Verdict
	}{
		"plain":                 {`{"a":1}`, buffer.ShapeObject, sinks.Ack},
		"wrapped text":          {"hello\n\x00\x1b[31m", 0, sinks.Ack},
		"wrapped bad UTF-8":     {"a\xff\xfeb", 0, sinks.Ack},
		"duplicate keys":        {`{"a":1,"a":2}`, buffer.ShapeObject, sinks.Reject},
		"shape lies: timestamp": {`{"@timestamp":"2024-01-01T00:00:00Z"}`, buffer.ShapeObject, sinks.Reject},
		"depth 900":             {`{"a":` + strings.Repeat("[", 900) + strings.Repeat("]", 900) + `}`, buffer.ShapeObject, sinks.Ack},
		"arrays, depth 10,000":  {`{"a":` + strings.Repeat("[", 9990) + strings.Repeat("]", 9990) + `}`, buffer.ShapeObject, sinks.Reject},
		"objects, depth 10,000": {strings.Repeat(`{"a":`, 9999) + "1" + strings.Repeat("}", 9999), buffer.ShapeObject, sinks.Reject},
		"objects, depth 500":    {strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500), buffer.ShapeObject, sinks.Reject},
		"integer of 400 digits": {`{"n":` + strings.Repeat("9", 400) + `}`, buffer.ShapeObject, sinks.Reject},
		"number of 5000 digits": {`{"n":` + strings.Repeat("9", 5000) + `}`, buffer.ShapeObject, sinks.Reject},
		"1e400":                 {`{"n":1e400}`, buffer.ShapeObject, sinks.Reject},
		"NaN":                   {`{"n":NaN}`, buffer.ShapeObject, sinks.Reject},
		"lone surrogate":        {`{"s":"\ud800"}`, buffer.ShapeObject, sinks.Ack},
		"lone surrogate in key": {`{"\ud800":1}`, buffer.ShapeObject, sinks.Ack},
		"raw bad UTF-8":         {"{\"s\":\"\xff\"}", buffer.ShapeObject, sinks.Reject},
		"raw bad UTF-8 in key":  {"{\"\xff\":1}", buffer.ShapeObject, sinks.Reject},
		"empty field name":      {`{"":1}`, buffer.ShapeObject, sinks.Reject},
		"blank field name":      {`{" ":1}`, buffer.ShapeObject, sinks.Reject},
		"dot":                   {`{".":1}`, buffer.ShapeObject, sinks.Reject},
		"dots":                  {`{"a..b":1}`, buffer.ShapeObject, sinks.Reject},
		"leading dot":           {`{".a":1}`, buffer.ShapeObject, sinks.Reject},
		"trailing dot":          {`{"a.":1}`, buffer.ShapeObject, sinks.Ack},
		"NUL in key":            {`{"a\u0000b":1}`, buffer.ShapeObject, sinks.Ack},
		"NUL in string":         {`{"a":"\u0000"}`, buffer.ShapeObject, sinks.Ack},
		"meta field _id":        {`{"_id":"x"}`, buffer.ShapeObject, sinks.Reject},
		"meta field _source":    {`{"_source":{"a":1}}`, buffer.ShapeObject, sinks.Reject},
		"meta field _index":     {`{"_index":"x"}`, buffer.ShapeObject, sinks.Reject},
		"meta field _doc":       {`{"_doc":{"a":1}}`, buffer.ShapeObject, sinks.Ack},
		"timestamp no date":     {`{"@timestamp":"yesterday"}`, buffer.ShapeObject | buffer.ShapeTimestamp, sinks.Ack},
		"long key":              {`{"` + strings.Repeat("k", 40000) + `":1}`, buffer.ShapeObject, sinks.Ack},
		"1500 fields":           {manyFields(1500), buffer.ShapeObject, sinks.Reject},
		"long string":           {`{"a":"` + strings.Repeat("x", 1<<20) + `"}`, buffer.ShapeObject, sinks.Ack},
		"string of 20 MB":       {`{"a":"` + strings.Repeat("x", 20<<20) + `"}`, buffer.ShapeObject, sinks.Ack},
		"trailing garbage":      {`{"a":1} {"b":2}`, buffer.ShapeObject, sinks.Reject},
		"not JSON":              {`{"a":}`, buffer.ShapeObject, sinks.Reject},
		"unclosed string":       {`{"a":"}`, buffer.ShapeObject, sinks.Reject},
		"dynamic template name": {`{"dynamic_templates":{"a":"b"}}`, buffer.ShapeObject, sinks.Ack},
	} {
		t.Run(name, func(t *testing.T) {
			s, index := real(t, nil)
			r := record(0, c.value)
			r.Shape = c.shape
			out, err := s.Deliver(t.Context(), batch(r), nil)
			if err != nil {
				t.Fatalf("the whole request: %v", err)
			}
			t.Logf("%s: %+v", out[0].Verdict, out[0])
			want := c.verdict
			if other, ok := openSearchVerdicts[name]; ok && s.flavor == &openSearchFlavor {
				want = other
			}
			if out[0].Verdict != want {
				t.Errorf("%v: got %v, want %v", name, out[0], want)
			}
			if out[0].Verdict == sinks.Ack && count(t, s, index) != 1 {
				t.Error("acknowledged and not there")
			}
		})
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"f%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}

// An event that tries to end its line and to delete another document.
func TestRealServerIsNotSmuggledTo(t *testing.T) {
	s, index := real(t, nil)
	victim := record(1, `{"a":1}`)
	if out, err := s.Deliver(t.Context(), batch(victim), nil); err != nil || out[0].Verdict != sinks.Ack {
		t.Fatal(out, err)
	}
	smuggle := "\n" + `{"delete":{"_index":"` + index + `","_id":"cluster:id:0:1"}}` + "\n"
	var rs []*buffer.Record
	for i, value := range []string{
		`{"a":1}` + smuggle + `{"a":1}`,
		`{"a":"x` + smuggle + `"}`,
		`{"a":1` + smuggle + `}`,
		strings.ReplaceAll(smuggle, "\n", "\r\n"),
		"{" + smuggle + "}",
	} {
		for _, shape := range []buffer.Shape{0, buffer.ShapeObject, buffer.ShapeObject | buffer.ShapeLineBreak, 0xff} {
			r := record(int64(100+10*i)+int64(shape%8), value)
			r.Shape, r.Key = shape, []byte(`"}}`+smuggle)
			rs = append(rs, r)
		}
	}
	out, err := s.Deliver(t.Context(), batch(rs...), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range out {
		if out[i].Verdict == sinks.Retry {
			t.Errorf("record %d: %+v", i, out[i])
		}
	}
	ask(t, s, http.MethodGet, "/"+index+"/_doc/cluster:id:0:1", "")
}

func TestRealDuplicate(t *testing.T) {
	s, index := real(t, nil)
	for range 2 {
		out, err := s.Deliver(t.Context(), batch(record(7, `{"a":1}`), record(8, `{"a":2}`)), nil)
		if err != nil || out[0].Verdict != sinks.Ack || out[1].Verdict != sinks.Ack {
			t.Fatal(out, err)
		}
		t.Logf("%+v", out)
	}
	if n := count(t, s, index); n != 2 {
		t.Errorf("%d documents, want 2", n)
	}
}

func TestRealMappingConflict(t *testing.T) {
	s, _ := real(t, func(c *Config) { c.IncludeReasons = false })
	out, err := s.Deliver(t.Context(), batch(record(0, `{"a":1}`)), nil)
	if err != nil || out[0].Verdict != sinks.Ack {
		t.Fatal(out, err)
	}
	out, err = s.Deliver(t.Context(), batch(record(1, `{"a":"SECRET"}`), record(2, `{"a":2}`)), nil)
	if err != nil || out[0].Verdict != sinks.Reject || out[1].Verdict != sinks.Ack {
		t.Fatal(out, err)
	}
	if strings.Contains(out[0].Reason, "SECRET") || out[0].Status != 400 || out[0].Reason == "" {
		t.Errorf("%+v", out[0])
	}
}

// 400s that are not the event's fault, and what processors of a pipeline do.
func TestRealSettings(t *testing.T) {
	for name, c := range map[string]struct {
		edit    func(*Config)
		before  func(t *testing.T, s *Sink, index string)
		verdict sinks.Verdict
		note    sinks.Note
	}{
		"missing pipeline": {
			edit: func(c *Config) { c.Pipeline = "weir-no-such" }, note: sinks.Misconfigured,
		},
		"closed index": {
			before: func(t *testing.T, s *Sink, index string) {
				ask(t, s, http.MethodPut, "/"+index, "")
				ask(t, s, http.MethodPost, "/"+index+"/_close", "")
			}, note: sinks.Misconfigured,
		},
		"write block": {
			before: func(t *testing.T, s *Sink, index string) {
				ask(t, s, http.MethodPut, "/"+index, `{"settings":{"index.blocks.write":true}}`)
			}, note: sinks.Misconfigured,
		},
		"read-only-allow-delete block": {
			before: func(t *testing.T, s *Sink, index string) {
				ask(t, s, http.MethodPut, "/"+index, `{"settings":{"index.blocks.read_only_allow_delete":true}}`)
			}, note: sinks.Overloaded,
		},
		"alias without write index": {
			before: func(t *testing.T, s *Sink, index string) {
				for _, end := range []string{"-x1", "-x2"} {
					ask(t, s, http.MethodPut, "/"+index+end, `{"aliases":{"`+index+`":{}}}`)
					t.Cleanup(func() { _, _, _ = s.do(context.Background(), http.MethodDelete, "/"+index+end, nil) })
				}
			}, note: sinks.Misconfigured,
		},
		"append-only index": {
			edit: func(c *Config) { c.Op = "index" },
			before: func(t *testing.T, s *Sink, index string) {
				if s.flavor != &openSearchFlavor {
					t.Skip("OpenSearch has them")
				}
				ask(t, s, http.MethodPut, "/"+index, `{"settings":{"index.append_only.enabled":true}}`)
			}, note: sinks.Misconfigured,
		},
		"strict mapping": {
			before: func(t *testing.T, s *Sink, index string) {
				ask(t, s, http.MethodPut, "/"+index, `{"mappings":{"dynamic":"strict"}}`)
			}, verdict: sinks.Reject,
		},
		"shard limit of the index's nodes": {
			before: func(t *testing.T, s *Sink, index string) {
				ask(t, s, http.MethodPut, "/_index_template/"+index, `{"index_patterns":["`+index+`"],"template":{"settings":{"number_of_shards":1000,"number_of_replicas":9}}}`)
				t.Cleanup(func() { _, _, _ = s.do(context.Background(), http.MethodDelete, "/_index_template/"+index, nil) })
			}, note: sinks.Misconfigured,
		},
		"no such data stream, no template": {
			edit: func(c *Config) { c.DataStream, c.Index = c.Index, "" }, note: sinks.Misconfigured,
		},
		"pipeline: fail processor":    {before: pipeline(`{"fail":{"message":"no"}}`), verdict: sinks.Reject},
		"pipeline: script error":      {before: pipeline(`{"script":{"source":"ctx.x.y = 1"}}`), verdict: sinks.Reject},
		"pipeline: script throws":     {before: pipeline(`{"script":{"source":"throw new RuntimeException('x')"}}`), verdict: sinks.Reject},
		"pipeline: grok":              {before: pipeline(`{"grok":{"field":"m","patterns":["%{IP:x}"]}}`), verdict: sinks.Reject},
		"pipeline: missing field":     {before: pipeline(`{"lowercase":{"field":"nope"}}`), verdict: sinks.Reject},
		"pipeline: type":              {before: pipeline(`{"lowercase":{"field":"n"}}`), verdict: sinks.Reject},
		"pipeline: date":              {before: pipeline(`{"date":{"field":"m","formats":["ISO8601"]}}`), verdict: sinks.Reject},
		"pipeline: json":              {before: pipeline(`{"json":{"field":"m"}}`), verdict: sinks.Reject},
		"pipeline: convert":           {before: pipeline(`{"convert":{"field":"m","type":"long"}}`), verdict: sinks.Reject},
		"pipeline: user agent, geo":   {before: pipeline(`{"geoip":{"field":"m"}}`), verdict: sinks.Reject},
		"pipeline: dissect":           {before: pipeline(`{"dissect":{"field":"m","pattern":"%{a}|%{b}"}}`), verdict: sinks.Reject},
		"pipeline: drop":              {before: pipeline(`{"drop":{}}`), verdict: sinks.Ack},
		"pipeline: index bad name":    {before: pipeline(`{"set":{"field":"_index","value":"BAD NAME"}}`), verdict: sinks.Reject},
		"pipeline: endless loop":      {before: pipeline(`{"script":{"source":"boolean on = true; while (on) {}"}}`), verdict: sinks.Reject},
		"pipeline: calls a missing":   {before: pipeline(`{"pipeline":{"name":"weir-nope"}}`), note: sinks.Misconfigured},
		"pipeline: id is taken away":  {before: pipeline(`{"set":{"field":"_id","value":""}}`), verdict: sinks.Reject},
		"pipeline: self reference":    {before: pipeline(`{"script":{"source":"ctx.a = ctx"}}`), verdict: sinks.Reject},
		"pipeline: enrich, no policy": {before: pipeline(`{"foreach":{"field":"m","processor":{"lowercase":{"field":"_ingest._value"}}}}`), verdict: sinks.Reject},
	} {
		t.Run(name, func(t *testing.T) {
			s, index := real(t, c.edit)
			if strings.HasPrefix(name, "pipeline:") {
				s, index = real(t, func(c *Config) { c.Pipeline = c.Index })
			}
			if s.flavor == &openSearchFlavor {
				switch name {
				case "no such data stream, no template":
					c.verdict, c.note = sinks.Ack, 0 // it makes an index: weir check warns of it
				case "pipeline: calls a missing":
					c.note = 0 // a 500 like any other: tried again
				}
			}
			if c.before != nil {
				c.before(t, s, index)
			}
			out, err := s.Deliver(t.Context(), batch(record(0, `{"m":"SECRET message","n":1}`)), nil)
			if err != nil {
				t.Fatalf("the whole request: %v", err)
			}
			t.Logf("%s: %+v", out[0].Verdict, out[0])
			if out[0].Verdict != c.verdict || out[0].Note != c.note {
				t.Errorf("got %+v, want %s note %d", out[0], c.verdict, c.note)
			}
		})
	}
}

func pipeline(processor string) func(*testing.T, *Sink, string) {
	return func(t *testing.T, s *Sink, index string) {
		status, answer, err := s.do(t.Context(), http.MethodPut, "/_ingest/pipeline/"+index, []byte(`{"processors":[`+processor+`]}`))
		if strings.Contains(string(answer), "No processor type exists") {
			t.Skipf("the server has no such processor: %s", processor)
		}
		if err != nil || status != http.StatusOK {
			t.Fatalf("%d %s %v", status, answer, err)
		}
		t.Cleanup(func() { _, _, _ = s.do(context.Background(), http.MethodDelete, "/_ingest/pipeline/"+index, nil) })
	}
}

// With an ingest pipeline, Elasticsearch 8.18 to 9.2 refuses the whole request
// for one document that it cannot parse (elastic/elasticsearch#138445), and
// OpenSearch 3.6 says of every one that it is that: halving finds it.
func TestRealPipelineAndUnreadableDocument(t *testing.T) {
	s, _ := real(t, func(c *Config) { c.Pipeline = c.Index })
	pipeline("")(t, s, s.cfg.Pipeline)
	good, bad := record(0, `{"a":1}`), record(1, `{"a":1,"a":2}`)
	out, err := s.Deliver(t.Context(), batch(good), nil)
	if err != nil || out[0].Verdict != sinks.Ack {
		t.Fatal(out, err)
	}
	out, err = s.Deliver(t.Context(), batch(good, bad), nil)
	if err != nil {
		t.Log(err)
		if re := requestError(t, err); !re.Split {
			t.Errorf("not split: %+v", re)
		}
		if out, err = s.Deliver(t.Context(), batch(bad), nil); err != nil {
			if re := requestError(t, err); !re.Split { // the connector rejects one that cannot be split
				t.Errorf("alone: %+v", re)
			}
		} else if out[0].Verdict != sinks.Reject {
			t.Errorf("alone: %+v", out[0])
		}
		return
	}
	t.Logf("%+v", out)
	if out[0].Verdict != sinks.Ack || out[1].Verdict != sinks.Reject {
		t.Error("want the first delivered and the second rejected")
	}
}

func TestRealDataStream(t *testing.T) {
	s, stream := real(t, func(c *Config) { c.DataStream, c.Index = c.Index, "" })
	ask(t, s, http.MethodPut, "/_index_template/"+stream, `{"index_patterns":["`+stream+`"],"data_stream":{},"priority":500}`)
	t.Cleanup(func() {
		_, _, _ = s.do(context.Background(), http.MethodDelete, "/_data_stream/"+stream, nil)
		_, _, _ = s.do(context.Background(), http.MethodDelete, "/_index_template/"+stream, nil)
	})
	far := record(3, `{"a":1}`)
	far.Time = time.UnixMilli(maxSecond*1000 + 1000) // year 10000
	max := record(4, `{"a":1}`)
	max.Time = time.UnixMilli(1<<63 - 1)
	old := record(5, `{"a":1}`)
	old.Time = time.UnixMilli(-1 << 62)
	zero := record(6, `{"a":1}`)
	zero.Time = time.Time{}
	own := record(7, `{"@timestamp":"no date"}`)
	own.Shape |= buffer.ShapeTimestamp
	claims := record(8, `{"a":1}`)
	claims.Shape |= buffer.ShapeTimestamp // and has none
	two := record(9, `{"@timestamp":["2024-01-01T00:00:00Z","2024-01-01T00:00:01Z"]}`)
	two.Shape |= buffer.ShapeTimestamp
	rs := []*buffer.Record{record(1, `{"a":1}`), record(2, `not json`), far, max, old, zero, own, claims, two}
	rs[1].Shape = 0
	for range 2 {
		out, err := s.Deliver(t.Context(), batch(rs...), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range out {
			t.Logf("%d %s %+v", rs[i].Offset, out[i].Verdict, out[i])
			if out[i].Verdict == sinks.Retry {
				t.Errorf("record %d would be retried for ever", rs[i].Offset)
			}
		}
	}
}

// A body longer than http.max_content_length has to come out as a split, and
// not as a broken connection.
func TestRealServerTooLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 110 MB")
	}
	s, _ := real(t, nil)
	value := `{"a":"` + string(bytes.Repeat([]byte("x"), 11<<20)) + `"}`
	var rs []*buffer.Record
	for i := range 10 {
		rs = append(rs, record(int64(i), value))
	}
	out, err := s.Deliver(t.Context(), batch(rs...), nil)
	re := requestError(t, err)
	t.Logf("%v %+v", out, re)
	if !re.Split {
		t.Errorf("not split: %+v", re)
	}
}
