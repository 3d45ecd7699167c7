package elastic

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks"
)

// encode is the body for rs, and what became of those that are not in it.
func encode(t testing.TB, edit func(*Config), rs ...*buffer.Record) (string, []sinks.Outcome) {
	t.Helper()
	cfg := testConfig("http://127.0.0.1:1")
	if edit != nil {
		edit(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]sinks.Outcome, len(rs))
	var e encoder
	if !e.start(&s.layout, rs, out, time.UnixMilli(1800000000456)) {
		return "", out
	}
	body, err := io.ReadAll(&e)
	if err != nil || !e.done() {
		t.Fatalf("done %v: %v", e.done(), err)
	}
	return string(body), out
}

func TestDocuments(t *testing.T) {
	const (
		stamp = `"@timestamp":"2023-11-14T22:13:20.130Z"`
		kafka = `"kafka":{"topic":"edr.events","partition":0,"offset":7,"timestamp":"2023-11-14T22:13:20.130Z"}`
		obj   = buffer.ShapeObject
	)
	plain := func(c *Config) { c.Coordinates = false }
	for _, c := range []struct {
		name, value string
		shape       buffer.Shape
		edit        func(*Config)
		change      func(*buffer.Record)
		want        string
	}{
		{name: "members before its own", value: `{"a":1}`, shape: obj, want: `{` + stamp + `,` + kafka + `,"a":1}`},
		{name: "no members", value: `{}`, shape: obj | buffer.ShapeEmpty, want: `{` + stamp + `,` + kafka + `}`},
		{name: "no members, shape does not say so", value: "{ \t}", shape: obj, want: `{` + stamp + `,` + kafka + " \t}"},
		{name: "nothing to add to nothing", value: `{}`, shape: obj | buffer.ShapeTimestamp, edit: plain, want: `{}`},
		{name: "nothing to add", value: `{"@timestamp":1}`, shape: obj | buffer.ShapeTimestamp, edit: plain, want: `{"@timestamp":1}`},
		{name: "its own timestamp", value: `{"@timestamp":1}`, shape: obj | buffer.ShapeTimestamp, want: `{` + kafka + `,"@timestamp":1}`},
		{name: "its own kafka", value: `{"kafka":1}`, shape: obj | buffer.ShapeKafka, want: `{` + stamp + `,"kafka":1}`},
		{name: "both its own", value: `{"kafka":1,"@timestamp":2}`, shape: obj | buffer.ShapeKafka | buffer.ShapeTimestamp, want: `{"kafka":1,"@timestamp":2}`},
		{name: "no coordinates", value: `{"a":1}`, shape: obj, edit: plain, want: `{` + stamp + `,"a":1}`},
		{name: "white space around", value: " \r\n{\"a\":1}\n ", shape: obj, want: `{` + stamp + `,` + kafka + `,"a":1}`},
		{name: "pretty-printed", value: "{\n  \"a\": [1,\r\n 2]\n}", shape: obj | buffer.ShapeLineBreak, edit: plain, want: `{` + stamp + `,"a":[1,2]}`},
		{name: "line break, shape does not say so", value: "{\"a\":\n1}", shape: obj, edit: plain, want: `{` + stamp + `,"a":1}`},
		{name: "raw line break in a string", value: "{\"a\":\"\n\"}", shape: obj, edit: plain, want: `{` + stamp + `,"event":{"original":"{\"a\":\"\n\"}"}}`},
		{name: "bytes are kept", value: `{"a":1.0e+00,"b":"\u00e9é\/"}`, shape: obj, edit: plain, want: `{` + stamp + `,"a":1.0e+00,"b":"\u00e9é\/"}`},
		{name: "text", value: "a \"q\" \\ \x00\x1f\t\r\n é\u2028", edit: plain, want: `{` + stamp + `,"event":{"original":"a \"q\" \\ \u0000\u001f\t\r\n é` + "\u2028" + `"}}`},
		{name: "text with coordinates", value: "x", want: `{` + stamp + `,` + kafka + `,"event":{"original":"x"}}`},
		{name: "an array is text", value: "[1]", shape: obj, edit: plain, want: `{` + stamp + `,"event":{"original":"[1]"}}`},
		{name: "bits without ShapeObject mean nothing", value: `{"kafka":1}`, shape: buffer.ShapeKafka | buffer.ShapeTimestamp, want: `{` + stamp + `,` + kafka + `,"event":{"original":"{\"kafka\":1}"}}`},
		{name: "empty value", value: "", want: `{` + stamp + `,` + kafka + `,"event":{"original":""}}`},
		{name: "not UTF-8", value: "a\xffb\xc3", edit: plain, want: `{` + stamp + `,"event":{"original":"a` + "\uFFFDb\uFFFD" + `","original_base64":"Yf9iww=="}}`},
		{name: "tombstone", change: func(r *buffer.Record) { r.Value = nil }, want: `{` + stamp + `,` + kafka + `,"event":{"original":null}}`},
		{name: "tombstone with a key", change: func(r *buffer.Record) { r.Value, r.Key = nil, []byte("k\n\"") }, want: `{` + stamp + `,` + strings.TrimSuffix(kafka, "}") + `,"key":"k\n\""},"event":{"original":null}}`},
		{name: "tombstone with a binary key", change: func(r *buffer.Record) { r.Value, r.Key = nil, []byte("\xff") }, want: `{` + stamp + `,` + strings.TrimSuffix(kafka, "}") + `,"key_base64":"/w=="},"event":{"original":null}}`},
		{name: "tombstone with an empty key", change: func(r *buffer.Record) { r.Value, r.Key = nil, []byte{} }, edit: plain, want: `{` + stamp + `,"kafka":{"key":""},"event":{"original":null}}`},
		{name: "tombstone with a key, no coordinates", change: func(r *buffer.Record) { r.Value, r.Key = nil, []byte("k") }, edit: plain, want: `{` + stamp + `,"kafka":{"key":"k"},"event":{"original":null}}`},
		{name: "no timestamp", value: `{"a":1}`, shape: obj, change: func(r *buffer.Record) { r.Time = time.Time{} }, want: `{"@timestamp":"2027-01-15T08:00:00.456Z","kafka":{"topic":"edr.events","partition":0,"offset":7},"a":1}`},
		{name: "year 10000", value: `{"a":1}`, shape: obj, edit: plain, change: func(r *buffer.Record) { r.Time = time.UnixMilli(253402300800000) }, want: `{"@timestamp":253402300800000,"a":1}`},
		{name: "before 1970", value: `{"a":1}`, shape: obj, edit: plain, change: func(r *buffer.Record) { r.Time = time.UnixMilli(-1) }, want: `{"@timestamp":"1969-12-31T23:59:59.999Z","a":1}`},
		{name: "hostile topic", value: `{"a":1}`, shape: obj, change: func(r *buffer.Record) {
			r.Origin = &buffer.Origin{Cluster: "cluster", TopicID: "id", Topic: "a\"\n{", Partition: 0}
		}, want: `{` + stamp + `,` + strings.Replace(kafka, "edr.events", `a\"\n{`, 1) + `,"a":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(7, c.value)
			r.Shape = c.shape
			if c.change != nil {
				c.change(r)
			}
			body, _ := encode(t, c.edit, r)
			want := `{"create":{"_id":"cluster:id:0:7"}}` + "\n" + c.want + "\n"
			if body != want {
				t.Errorf("got\n%s\nwant\n%s", body, want)
			}
			if doc := strings.SplitN(body, "\n", 2)[1]; !json.Valid([]byte(doc)) {
				t.Errorf("not JSON: %s", doc)
			}
		})
	}
}

// Consecutive timestamps share what is cached of them.
func TestTimestamps(t *testing.T) {
	var e encoder
	for _, ms := range []int64{0, 1, 999, 1000, 1000, 999, -1, -1000, -1001, 253402300799999, 253402300800000, 253402300799999, 1700000000123} {
		at := time.UnixMilli(ms)
		want := at.UTC().Format(`"2006-01-02T15:04:05.000Z"`)
		if at.UTC().Year() > 9999 {
			want = "253402300800000"
		}
		if got := string(e.timestamp(at)); got != want {
			t.Errorf("%d: %s, want %s", ms, got, want)
		}
	}
}

func TestNamesAndIDs(t *testing.T) {
	withKey := func(k string) func(*buffer.Record) {
		return func(r *buffer.Record) { r.Key = []byte(k) }
	}
	for _, c := range []struct {
		name, index, id, value string
		change                 func(*buffer.Record)
		action, reason         string // one of the two
	}{
		{name: "topic and partition", index: "sec-{topic}-{partition}", id: "none", action: `"_index":"sec-edr.events-0"`},
		{name: "upper case", index: "SEC-{topic}", id: "none", change: func(r *buffer.Record) { r.Origin = &buffer.Origin{Topic: "EDR"} }, action: `"_index":"sec-edr"`},
		{name: "fixed, upper case", index: "SEC", id: "none"},
		{name: "time", index: "sec-{time:2006.01.02}", id: "none", action: `"_index":"sec-2023.11.14"`},
		{name: "no time", index: "sec-{time:2006.01.02}", id: "none", change: func(r *buffer.Record) { r.Time = time.Time{} }, action: `"_index":"sec-1970.01.01"`},
		{name: "field", index: "sec-{a.b}", id: "none", value: `{"x":{"a":{"b":"no"}},"a":{"c":[{"b":1}],"b":"Yes"}}`, action: `"_index":"sec-yes"`},
		{name: "field with dots in its name", index: "sec-{a.b.c}", id: "none", value: `{"a":{"b":1},"a.b":{"c":"yes"}}`, action: `"_index":"sec-yes"`},
		{name: "escaped name", index: "sec-{a}", id: "none", value: `{"\u0061":"y\u0065s"}`, action: `"_index":"sec-yes"`},
		{name: "number", index: "sec-{a}", id: "none", value: `{"a":12}`, action: `"_index":"sec-12"`},
		{name: "boolean", index: "sec-{a}", id: "none", value: `{"a":true}`, action: `"_index":"sec-true"`},
		{name: "missing field", index: "sec-{a}", id: "none", value: `{"b":1}`, reason: "field a: missing"},
		{name: "null field", index: "sec-{a}", id: "none", value: `{"a":null}`, reason: "field a: not a string"},
		{name: "object field", index: "sec-{a}", id: "none", value: `{"a":{}}`, reason: "field a: not a string"},
		{name: "no object", index: "sec-{a}", id: "none", value: "text", change: func(r *buffer.Record) { r.Shape = 0 }, reason: "not a JSON object"},
		{name: "illegal character", index: "sec-{a}", id: "none", value: `{"a":"x y"}`, reason: "holds ' '"},
		{name: "control character", index: "sec-{a}", id: "none", value: `{"a":"x\ny"}`, reason: "control character"},
		{name: "quote", index: "sec-{a}", id: "none", value: `{"a":"x\"y"}`, reason: `holds '"'`},
		{name: "comma", index: "sec-{a}", id: "none", value: `{"a":"x,y"}`, reason: `holds ','`},
		{name: "too long", index: "sec-{a}", id: "none", value: `{"a":"` + strings.Repeat("x", 300) + `"}`, reason: "longer than 255"},
		{name: "far too long", index: "sec-{a}", id: "none", value: `{"a":"` + strings.Repeat("x", 3000) + `"}`, reason: "longer than 1024"},
		{name: "system index", index: "{a}", id: "none", value: `{"a":".security"}`, reason: "dot that comes from an event"},
		{name: "leading dash", index: "{a}", id: "none", value: `{"a":"-x"}`, reason: "must not start with"},
		{name: "empty", index: "{a}", id: "none", value: `{"a":""}`, reason: "empty"},
		{name: "hidden by the user's own dot", index: ".sec-{topic}", id: "none", action: `"_index":".sec-edr.events"`},
		{name: "illegal topic", index: "sec-{topic}", id: "none", change: func(r *buffer.Record) { r.Origin = &buffer.Origin{Topic: "a b"} }, reason: `index name "sec-a b": holds ' '`},
		{name: "index and id", index: "{topic}", id: "offset", action: `"_index":"edr.events","_id":"cluster:id:0:7"`},
		{name: "no topic id", index: "x", id: "offset", change: func(r *buffer.Record) { r.Origin = &buffer.Origin{Cluster: "c", Topic: "t", Partition: 3} }, action: `"_id":"c:t:3:7"`},
		{name: "id too long", index: "x", id: "offset", change: func(r *buffer.Record) {
			r.Origin = &buffer.Origin{Cluster: strings.Repeat("c", 500), TopicID: "t", Partition: 3}
		}, action: "a hash"},
		{name: "key", index: "x", id: "key", change: withKey("k\"\n"), action: `"_id":"k\"\n"`},
		{name: "no key", index: "x", id: "key", reason: "no key"},
		{name: "empty key", index: "x", id: "key", change: withKey(""), reason: "no key"},
		{name: "binary key", index: "x", id: "key", change: withKey("\xff"), reason: "UTF-8"},
		{name: "long key", index: "x", id: "key", change: withKey(strings.Repeat("k", 513)), reason: "longer than 512"},
		{name: "longest key", index: "x", id: "key", change: withKey(strings.Repeat("k", 512)), action: `"_id":"` + strings.Repeat("k", 512) + `"`},
		{name: "field id", index: "x", id: "{e.id}", value: `{"e":{"id":17}}`, action: `"_id":"17"`},
		{name: "field id missing", index: "x", id: "{e.id}", value: `{"e":17}`, reason: "document id: field e.id: missing"},
		{name: "field id empty", index: "x", id: "{e}", value: `{"e":""}`, reason: "empty"},
		{name: "field id long", index: "x", id: "{e}", value: `{"e":"` + strings.Repeat("x", 513) + `"}`, reason: "longer than 512"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(7, `{}`)
			if c.value != "" {
				r.Value = []byte(c.value)
			}
			if c.change != nil {
				c.change(r)
			}
			edit := func(cfg *Config) { cfg.Index, cfg.ID = c.index, c.id }
			body, out := encode(t, edit, r)
			if c.reason != "" {
				if body != "" || out[0].Verdict != sinks.Reject || !strings.Contains(out[0].Reason, c.reason) {
					t.Errorf("%+v %q, want a refusal with %q", out[0], body, c.reason)
				}
				return
			}
			action, _, _ := strings.Cut(body, "\n")
			if c.name == "id too long" {
				if len(action) != len(`{"create":{"_id":"`)+64+len(`:3:7"}}`) || !strings.HasSuffix(action, `:3:7"}}`) {
					t.Errorf("%s", action)
				}
				return
			}
			if want := `{"create":{` + c.action + `}}`; action != want {
				t.Errorf("got %s, want %s", action, want)
			}
		})
	}
}

// Records of one second share a name, others do not.
func TestNamesFollowTheTime(t *testing.T) {
	for template, want := range map[string]string{
		"x-{time:2006.01.02}":     "x-2023.11.14 x-2023.11.14 x-2023.11.15 x-1970.01.01 x-2023.11.14",
		"x-{topic}-{time:05.000}": "x-edr.events-20.100 x-edr.events-20.900 x-edr.events-20.100 x-edr.events-00.000 x-other-20.100",
	} {
		at := time.UnixMilli(1700000000100)
		rs := []*buffer.Record{record(0, `{}`), record(1, `{}`), record(2, `{}`), record(3, `{}`), record(4, `{}`)}
		rs[0].Time, rs[1].Time, rs[2].Time, rs[3].Time, rs[4].Time = at, at.Add(800*time.Millisecond), at.AddDate(0, 0, 1), time.Time{}, at
		rs[4].Origin = &buffer.Origin{Topic: "other"}
		body, _ := encode(t, func(c *Config) { c.Index, c.ID = template, "none" }, rs...)
		var got []string
		for i, line := range strings.Split(strings.TrimSpace(body), "\n") {
			if i%2 == 0 {
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(line, `{"create":{"_index":"`), `"}}`))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", template, got, want)
		}
	}
}

// Content of the event is in the reason only where that is wanted.
func TestTheNameIsQuotedOnlyWhereReasonsAre(t *testing.T) {
	for _, include := range []bool{false, true} {
		_, out := encode(t, func(c *Config) { c.Index, c.IncludeReasons = "x-{a}", include }, record(1, `{"a":"SECRET !*"}`))
		if strings.Contains(out[0].Reason, "secret") != include {
			t.Errorf("include %v: %q", include, out[0].Reason)
		}
	}
}

func TestTemplatesThatCannotBe(t *testing.T) {
	for _, template := range []string{
		"", "{", "}", "a{", "a}b", "{a{b}}", "{}", "{a..b}", "{.a}", "{time}", "{time:}", "{time:x}",
		"a b", "-a", "_a", "a/b", `a\b`, "a*", "..", "a,b", "a:b", strings.Repeat("x", 256),
		"{" + strings.Repeat("a.", 16) + "a}",
	} {
		if _, err := parseName(template); err == nil {
			t.Errorf("%q was taken", template)
		}
	}
}

// Records that are refused are not sent, and the verdicts of the others still
// meet their own records.
func TestRefusedRecordsAreSkipped(t *testing.T) {
	es, s := fake(t, func(c *Config) { c.ID = "key" })
	rs := []*buffer.Record{record(0, `{}`), record(1, `{}`), record(2, `{}`), record(3, `{}`), record(4, `{}`)}
	rs[1].Key, rs[3].Key = []byte("one"), []byte("three")
	out, err := s.Deliver(t.Context(), batch(rs...), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []sinks.Verdict{sinks.Reject, sinks.Ack, sinks.Reject, sinks.Ack, sinks.Reject} {
		if out[i].Verdict != want {
			t.Errorf("record %d: %+v, want %s", i, out[i], want)
		}
	}
	if es.Count("events") != 2 {
		t.Errorf("%d documents", es.Count("events"))
	}
	// With nothing to send nothing is sent.
	if out, err = s.Deliver(t.Context(), batch(rs[0], rs[2]), nil); err != nil || out[1].Verdict != sinks.Reject {
		t.Errorf("%+v %v", out, err)
	}
	if len(es.Requests()) != 1 {
		t.Errorf("%d requests", len(es.Requests()))
	}
}

// A value of many pieces comes out whole, whatever is read at a time.
func TestLongValues(t *testing.T) {
	text := strings.Repeat("aé\"\n\U0001F600", 5000)
	for _, value := range []string{text, text + "\xff" + text} {
		r := record(1, value)
		r.Shape = 0
		body, _ := encode(t, nil, r)
		var doc struct {
			Event struct {
				Original string  `json:"original"`
				Base64   *string `json:"original_base64"`
			} `json:"event"`
		}
		if err := json.Unmarshal([]byte(strings.SplitN(body, "\n", 2)[1]), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Event.Original != strings.ReplaceAll(value, "\xff", "\uFFFD") {
			t.Error("the text came out otherwise")
		}
		if !utf8.ValidString(value) {
			if raw, err := base64.StdEncoding.DecodeString(*doc.Event.Base64); err != nil || string(raw) != value {
				t.Errorf("the bytes came out otherwise: %v", err)
			}
		}
	}
}

// Whatever a record is made of, it is an action of ours on one line and an
// object on the next.
func FuzzFraming(f *testing.F) {
	smuggle := "\n{\"delete\":{\"_id\":\"x\"}}\n"
	f.Add([]byte("k"), []byte(`{"a":1}`), "topic", "cluster", uint8(1), int64(1), int64(1700000000000), uint8(0))
	f.Add([]byte(smuggle), []byte("{"+smuggle+"}"), smuggle, smuggle, uint8(0xff), int64(-1), int64(1)<<62, uint8(1))
	f.Add([]byte("k"), []byte(`{}`), "t", strings.Repeat("\xff", 300), uint8(1), int64(0), int64(0), uint8(0))
	f.Add([]byte("\xff"), []byte("{\"a\":\"\n\"}"), "\"}", "\xff", uint8(1), int64(0), int64(-1)<<62, uint8(2))
	f.Add([]byte(nil), []byte(nil), "t", "", uint8(0), int64(0), int64(0), uint8(3))
	f.Add([]byte("k"), []byte(`{"a":{"b":"x\",\"_id\":\"y"}}`), "t", "", uint8(1), int64(0), int64(0), uint8(4))
	f.Fuzz(func(t *testing.T, key, value []byte, topic, cluster string, shape uint8, offset, ms int64, how uint8) {
		r := &buffer.Record{
			Origin: &buffer.Origin{Cluster: cluster, Topic: topic, Partition: int32(offset)},
			Offset: offset, Time: time.UnixMilli(ms), Key: key, Value: value, Shape: buffer.Shape(shape),
		}
		if len(value) == 0 && how&0x80 != 0 {
			r.Value = nil
		}
		body, out := encode(t, func(c *Config) {
			c.Coordinates = how&0x40 == 0
			c.Index = []string{"events", "x-{topic}", "{a.b}", "x{time:2006}"}[how>>2&3]
			c.ID = []string{"offset", "key", "{a.b}", "none"}[how&3]
		}, r)
		if out[0].Verdict == sinks.Reject {
			if body != "" || out[0].Reason == "" {
				t.Fatalf("refused and sent: %q", body)
			}
			return
		}
		if strings.Count(body, "\n") != 2 || !strings.HasSuffix(body, "\n") || strings.Contains(body, "\r") {
			t.Fatalf("not two lines: %q", body)
		}
		action, doc, _ := strings.Cut(body, "\n")
		var a struct {
			Create *struct {
				Index string `json:"_index"`
				ID    string `json:"_id"`
			} `json:"create"`
		}
		d := json.NewDecoder(strings.NewReader(action))
		d.DisallowUnknownFields()
		if err := d.Decode(&a); err != nil || a.Create == nil || !json.Valid([]byte(action)) {
			t.Fatalf("not our action: %q: %v", action, err)
		}
		if strings.Count(action, `"_id"`) > 1 && !strings.Contains(topic+cluster+string(key)+string(value), "_id") {
			t.Fatalf("two ids: %q", action)
		}
		if n := len(a.Create.ID); n > maxID {
			t.Fatalf("an id of %d bytes", n)
		}
		if a.Create.Index != "" && illegalName([]byte(a.Create.Index), true) != "" {
			t.Fatalf("index %q", a.Create.Index)
		}
		if doc[0] != '{' || doc[len(doc)-2] != '}' {
			t.Fatalf("not an object: %q", doc)
		}
		// Where the shape tells the truth the document is JSON, and the value's members
		// are still in it.
		var object map[string]json.RawMessage
		isObject := json.Unmarshal(r.Value, &object) == nil && object != nil && utf8.Valid(r.Value)
		if !isObject {
			if r.Shape.Has(buffer.ShapeObject) {
				return
			}
		} else if r.Shape.Has(buffer.ShapeObject) {
			for k, v := range object {
				var got map[string]json.RawMessage
				if err := json.Unmarshal([]byte(doc), &got); err != nil {
					t.Fatalf("%q: %v", doc, err)
				}
				var one, two bytes.Buffer
				if json.Compact(&one, v) != nil || json.Compact(&two, got[k]) != nil || one.String() != two.String() {
					t.Fatalf("member %q became %q in %q", k, got[k], doc)
				}
			}
		}
		if !json.Valid([]byte(doc)) {
			t.Fatalf("not JSON: %q", doc)
		}
	})
}

// The body is the same however small the pieces are that it is read in.
func FuzzPieces(f *testing.F) {
	f.Add([]byte("text \xff \""), uint16(1), uint8(0))
	f.Add([]byte(`{"a":1}`), uint16(3), uint8(1))
	f.Fuzz(func(t *testing.T, value []byte, size uint16, shape uint8) {
		r := record(1, string(value))
		r.Shape = buffer.Shape(shape)
		whole, _ := encode(t, nil, r, r)
		s, err := New(testConfig("http://127.0.0.1:1"))
		if err != nil {
			t.Fatal(err)
		}
		var e encoder
		e.start(&s.layout, []*buffer.Record{r, r}, make([]sinks.Outcome, 2), time.UnixMilli(1800000000456))
		var got []byte
		for p := make([]byte, int(size)%100+1); ; {
			n, err := e.Read(p)
			got = append(got, p[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
		}
		if string(got) != whole {
			t.Fatalf("%q, want %q", got, whole)
		}
	})
}
