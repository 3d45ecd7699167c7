//go:build integration

package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/testbed/bridge"
	"weir/testbed/broker"
)

// header is the value of the last header of the name: an event can bring a
// header that is called as one of weir's, which come behind it.
func header(r *kgo.Record, name string) []byte {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == name {
			return h.Value
		}
	}
	return nil
}

// keeps reports whether all of the original headers are there, in their order.
func keeps(r *kgo.Record, original []kgo.RecordHeader) bool {
	for _, h := range r.Headers {
		if len(original) > 0 && h.Key == original[0].Key && same(h.Value, original[0].Value) {
			original = original[1:]
		}
	}
	return len(original) == 0
}

// place is where a dead letter says it was read.
func place(r *kgo.Record) coordinate {
	partition, err1 := strconv.ParseInt(string(header(r, "weir.partition")), 10, 64)
	offset, err2 := strconv.ParseInt(string(header(r, "weir.offset")), 10, 64)
	if err1 != nil || err2 != nil {
		return coordinate{-1, -1}
	}
	return coordinate{partition, offset}
}

// Where a hostile record may end up. It is never lost and never altered on the
// way to the dead letters.
type fate string

const (
	indexed fate = "in the index"
	dead    fate = "a dead letter"
	either  fate = "in the index or a dead letter"
)

func TestHostileRecordsAreAllAccountedFor(t *testing.T) {
	b := newBed(t, 3*time.Minute)
	es := b.node()
	const limit = "33554432" // 32 MiB
	topic := b.topic("", 2, map[string]string{"max.message.bytes": limit})
	b.must(b.cl.CreateTopic(b.ctx, topic+".dlq", 1, map[string]string{"max.message.bytes": limit}))
	victims := topic + "-victims"
	es.must(http.MethodPut, "/"+victims+"/_doc/victim?refresh=true", map[string]any{"alive": true}, nil)
	es.must(http.MethodPut, "/"+topic, map[string]any{"mappings": map[string]any{
		"properties": map[string]any{
			"@timestamp": map[string]any{"type": "date"},
			"number":     map[string]any{"type": "long"},
		},
	}}, nil)
	kill := `{"delete":{"_index":"` + victims + `","_id":"victim"}}`

	cases := []struct {
		name  string
		value []byte
		want  fate
	}{
		{"plain", []byte(`{"number":1}`), indexed},
		{"pretty-printed", []byte("{\n  \"number\": 2,\n  \"object\": {\n\t\"b\": [1,\n2]\n  }\n}\n"), indexed},
		{"pretty-printed with CRLF", []byte("{\r\n \"number\": 3\r\n}\r\n"), indexed},
		{"lone CR", []byte("{\r\"number\":\r4}"), indexed},
		{"surrounding white space", []byte("  \t{\"number\":5}  \n"), indexed},
		{"delete after a line break", []byte("{\"number\":6}\n" + kill), indexed},
		{"delete after CRLF", []byte("{\"number\":7}\r\n" + kill + "\r\n"), indexed},
		{"delete after nothing", []byte("\n" + kill + "\n"), indexed},
		{"delete in a raw string", []byte("{\"a\":\"\n" + kill + "\n\"}"), indexed},
		{"delete in an escaped string", []byte(`{"a":"\n{\"delete\":{\"_index\":\"` + victims + `\",\"_id\":\"victim\"}}\n"}`), indexed},
		{"delete alone", []byte(kill), either},
		{"two objects on a line", []byte(`{"number":8}{"number":9}`), indexed},
		{"object that does not end", []byte(`{"number":10`), indexed},
		{"object that ends twice", []byte(`{"number":11}}`), indexed},
		{"array", []byte(`[1,2,3]`), indexed},
		{"string", []byte(`"text"`), indexed},
		{"number", []byte(`42`), indexed},
		{"null", []byte(`null`), indexed},
		{"plain text", []byte(`<34>1 2026-01-01T00:00:00Z host su - - failed for root`), indexed},
		{"text with line breaks", []byte("line 1\nline 2\n\n"), indexed},
		{"NUL bytes", []byte("\x00\x00\x01"), either},
		{"tombstone", nil, either},
		{"empty value", []byte{}, either},
		{"only white space", []byte(" \n "), either},
		{"empty object", []byte(`{}`), indexed},
		{"byte order mark", []byte("\xef\xbb\xbf{\"number\":12}"), either},
		{"invalid UTF-8", []byte("{\"a\":\"\xff\xfe\xc3\x28\"}"), either},
		{"lone surrogate", []byte(`{"a":"\ud800"}`), either},
		{"duplicate keys", []byte(`{"number":13,"number":14}`), either},
		{"depth 10,000", []byte(strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)), either},
		{"array depth 10,000", []byte(`{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}"), either},
		{"NaN", []byte(`{"f":NaN}`), indexed},
		{"Infinity", []byte(`{"f":-Infinity}`), indexed},
		{"number of 400 digits", []byte(`{"big":` + strings.Repeat("9", 400) + `}`), either},
		{"exponent out of range", []byte(`{"big":1e99999}`), either},
		{"wrong type", []byte(`{"number":"x"}`), dead},
		{"timestamp that is no date", []byte(`{"@timestamp":"yesterday"}`), dead},
		{"two timestamps", []byte(`{"@timestamp":"2026-01-01T00:00:00Z","@timestamp":"2026-01-02T00:00:00Z"}`), either},
		{"metadata field", []byte(`{"_id":"x"}`), dead},
		{"empty field name", []byte(`{"":1}`), either},
		{"dots only field name", []byte(`{"...":1}`), either},
		{"kafka is a string", []byte(`{"kafka":"mine"}`), either},
		{"own coordinates", []byte(`{"kafka":{"partition":9,"offset":9}}`), either},
		{"script tag", []byte(`{"a":"</script><script>alert(1)</script>"}`), indexed},
		{"20 MB of text", []byte(`{"a":"` + strings.Repeat("abcdefg ", 20<<20/8) + `"}`), either},
		{"20 MB of garbage", []byte(strings.Repeat("\x80\n", 10<<20)), either},
	}
	var records []*kgo.Record
	for i, c := range cases {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: c.value})
	}
	// Names and times are hostile too.
	records = append(records,
		&kgo.Record{Topic: topic, Value: []byte(`{"number":15}`), Timestamp: time.UnixMilli(-1)}, // none
		&kgo.Record{Topic: topic, Value: []byte(`{"number":16}`), Timestamp: time.UnixMilli(0)},
		&kgo.Record{Topic: topic, Value: []byte(`{"number":17}`), Key: []byte("a\nb\x00\xff"),
			Headers: []kgo.RecordHeader{{Key: "x\r\ny", Value: nil}, {Key: "", Value: []byte{}}}},
		&kgo.Record{Topic: topic, Value: []byte(`{"number":"rejected"}`), Key: []byte{},
			Headers: []kgo.RecordHeader{{Key: "own", Value: []byte("\x00\n")}, {Key: "weir.offset", Value: []byte("7777")}, {Key: "nil", Value: nil}}},
	)
	large, err := broker.Dial(b.kafka.Addr, kgo.ProducerBatchMaxBytes(32<<20))
	b.must(err)
	defer large.Close()
	for _, r := range records {
		b.must(large.Write(b.ctx, []*kgo.Record{r})) // one by one: a batch would be over the limit
	}

	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	p := b.weir("weir", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	b.waitReady(p)

	if es.count(victims, map[string]any{"term": map[string]any{"alive": true}}) != 1 || es.count(victims, nil) != 1 {
		t.Error("an event altered another index")
	}
	letters := b.wantDeadLetters(topic, records)
	inIndex := es.count(topic, nil)
	if inIndex+int64(letters) != int64(len(records)) {
		t.Errorf("produced %d, indexed %d + dead-lettered %d", len(records), inIndex, letters)
	}
	deadAt := make(map[coordinate]bool)
	b.must(b.cl.Each(b.ctx, topic+".dlq", func(r *kgo.Record) { deadAt[place(r)] = true }))
	for i, c := range cases {
		isDead := deadAt[coordinate{int64(records[i].Partition), records[i].Offset}]
		if c.want == dead && !isDead || c.want == indexed && isDead {
			t.Errorf("%s: dead letter: %v, want %s", c.name, isDead, c.want)
		}
	}
	b.stop(p)
}

// An index name is made of what an event says. Nothing it says may reach
// another index, and a name that Elasticsearch refuses costs only that event.
func TestHostileIndexNames(t *testing.T) {
	b := newBed(t, 2*time.Minute)
	es := b.node()
	topic := b.topic("", 1, nil)
	victims := topic + "-victims"
	es.must(http.MethodPut, "/"+victims+"/_doc/victim?refresh=true", map[string]any{"alive": true}, nil)
	names := []string{
		"plain", "UPPER", "with space", "../../_all", "*", "a,b", "-x", "_x", "+x", ".", "..", "", "a/b", `a\b`,
		"a?b", `a"b`, "a<b>", "a|b", "a#b", "a:b", "\u0000", "ctrl\n", "ünïcode", strings.Repeat("x", 300), "%2e%2e", "{topic}",
	}
	var records []*kgo.Record
	for i, name := range names {
		records = append(records, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"n":%d,"kind":%s}`, i, quoted(name))})
	}
	records = append(records,
		&kgo.Record{Topic: topic, Value: []byte(`{"n":100}`)},
		&kgo.Record{Topic: topic, Value: []byte(`{"n":101,"kind":{"a":1}}`)},
		&kgo.Record{Topic: topic, Value: []byte(`{"n":102,"kind":[1]}`)},
		&kgo.Record{Topic: topic, Value: []byte(`{"n":103,"kind":null}`)},
		&kgo.Record{Topic: topic, Value: []byte(`not json`)},
	)
	b.must(b.cl.Write(b.ctx, records))
	cfg := bridge.NewConfig(b.kafka.Addr, topic, es.URL)
	cfg.Sink["index"] = topic + "-events-{kind}"
	p := b.weir("weir", cfg)
	b.waitCommitted(p, cfg.Group(), topic)
	b.waitReady(p)
	letters := b.wantDeadLetters(topic, records)
	inIndex := es.count(topic+"-events-*", nil)
	if inIndex+int64(letters) != int64(len(records)) {
		t.Errorf("produced %d, indexed %d + dead-lettered %d", len(records), inIndex, letters)
	}
	if es.count(topic+"-events-plain", nil) != 1 {
		t.Error("the plain name has no index of its own")
	}
	if es.count(victims, nil) != 1 {
		t.Error("an event reached another index")
	}
	b.stop(p)
}

// quoted is s as a JSON string.
func quoted(s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		if r < ' ' || r == '"' || r == '\\' {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}
