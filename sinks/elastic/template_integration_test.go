//go:build integration

package elastic

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// cluster is the real Elasticsearch named by WEIR_TEST_ES.
type cluster struct {
	*testing.T
	sink *Sink
}

func realCluster(t *testing.T, cfg Config) cluster {
	t.Helper()
	address := os.Getenv("WEIR_TEST_ES")
	if address == "" {
		t.Skip("WEIR_TEST_ES is not set: no Elasticsearch to try the template on")
	}
	cfg.Flavor = os.Getenv("WEIR_TEST_FLAVOR")
	cfg.URLs, cfg.Op, cfg.ID, cfg.Compression, cfg.Timeout = strings.Split(address, ","), "create", "offset", "none", time.Minute
	sink, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sink.Close)
	return cluster{t, sink}
}

// ask is one request that has to succeed.
func (c cluster) ask(method, path, body string) []byte {
	c.Helper()
	var b []byte
	if body != "" {
		b = []byte(body)
	}
	status, answer, err := c.sink.do(c.Context(), method, path, b)
	if err != nil || status/100 != 2 {
		c.Fatalf("%s %s: %d %v %.300s", method, path, status, err, answer)
	}
	return answer
}

// elasticsearchOnly skips what the template promises on Elasticsearch only;
// TestTemplateOnOpenSearch says what it does there.
func (c cluster) elasticsearchOnly() {
	c.Helper()
	if c.sink.flavor != &elasticsearchFlavor {
		c.Skip("not promised on " + c.sink.flavor.product)
	}
}

// install puts the template for prefix-* in place, until the test ends.
func (c cluster) install(prefix string, dataStream bool) {
	c.Helper()
	body, err := Template(c.sink.cfg.Flavor, []string{prefix + "-*"}, dataStream)
	if err != nil {
		c.Fatal(err)
	}
	if err := c.sink.InstallTemplate(c.Context(), TemplateName(prefix), body, nil); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { c.clean(prefix) })
}

// clean removes what a test with that prefix leaves behind. It outlives the
// test's own context.
func (c cluster) clean(prefix string) {
	remove := func(path string) { _, _, _ = c.sink.do(context.Background(), http.MethodDelete, path, nil) }
	remove("/_data_stream/" + prefix + "-*")
	// By name: a cluster may refuse to delete by pattern.
	_, answer, err := c.sink.do(context.Background(), http.MethodGet, "/"+prefix+"-*/_settings/index.creation_date", nil)
	var found map[string]json.RawMessage
	if err == nil && json.Unmarshal(answer, &found) == nil {
		for index := range found {
			remove("/" + index)
		}
	}
	_, answer, err = c.sink.do(context.Background(), http.MethodGet, "/_index_template?filter_path=index_templates.name", nil)
	var templates struct {
		Templates []namedTemplate `json:"index_templates"`
	}
	if err == nil && json.Unmarshal(answer, &templates) == nil {
		for _, t := range templates.Templates {
			if strings.HasPrefix(t.Name, TemplateName(prefix)) {
				remove("/_index_template/" + t.Name)
			}
		}
	}
}

// bulk creates one document a line of docs and returns the refusals, by the
// number of the document.
func (c cluster) bulk(index string, docs [][]byte) map[int]string {
	c.Helper()
	refused := map[int]string{}
	for from := 0; from < len(docs); {
		var body bytes.Buffer
		to := from
		for ; to < len(docs) && to < from+2500 && body.Len() < 8<<20; to++ {
			body.WriteString("{\"create\":{}}\n")
			body.Write(docs[to])
			body.WriteByte('\n')
		}
		answer := c.ask(http.MethodPost, "/"+index+"/_bulk?filter_path=items.*.status,items.*.error.reason,items.*.error.caused_by.reason", body.String())
		var got struct {
			Items []struct {
				Create struct {
					Status int
					Error  struct {
						Reason   string
						CausedBy struct{ Reason string } `json:"caused_by"`
					}
				}
			}
		}
		if err := json.Unmarshal(answer, &got); err != nil || len(got.Items) != to-from {
			c.Fatalf("%d answers to %d documents, %v", len(got.Items), to-from, err)
		}
		for i, item := range got.Items {
			if item.Create.Status != http.StatusCreated {
				refused[from+i] = fmt.Sprintf("%d %.200s %.200s", item.Create.Status, item.Create.Error.Reason, item.Create.Error.CausedBy.Reason)
			}
		}
		from = to
	}
	return refused
}

// taken fails the test for each refused document, a few of them at least.
func (c cluster) taken(what, index string, docs ...[]byte) {
	c.Helper()
	refused := c.bulk(index, docs)
	for n, i := range slices.Sorted(maps.Keys(refused)) {
		if n == 5 {
			c.Errorf("%s: %d more of %d refused", what, len(refused)-n, len(docs))
			break
		}
		c.Errorf("%s: refused %.150s: %s", what, docs[i], refused[i])
	}
}

// hits is how many documents of index match query.
func (c cluster) hits(index, query string) int {
	c.Helper()
	c.ask(http.MethodPost, "/"+index+"/_refresh", "")
	var got struct {
		Hits struct{ Total struct{ Value int } }
	}
	answer := c.ask(http.MethodPost, "/"+index+"/_search?size=0&track_total_hits=true", `{"query":`+query+`}`)
	if err := json.Unmarshal(answer, &got); err != nil {
		c.Fatal(err)
	}
	return got.Hits.Total.Value
}

// kinds are values of every type that a field may meet.
var kinds = map[string]string{
	"string":           `"unknown"`,
	"empty string":     `""`,
	"date":             `"2020-10-19T07:30:42.853Z"`,
	"almost a date":    `"2020-10-19 07:30:42.853"`,
	"address":          `"10.1.2.3"`,
	"hexadecimal":      `"0x8080000000000000"`,
	"integer":          `9223372036854775807`,
	"beyond long":      `-9223372036854775809`,
	"400 digits":       strings.Repeat("7", 400),
	"float":            `-1.5`,
	"beyond double":    `1e400`,
	"number as string": `"42"`,
	"true":             `true`,
	"null":             `null`,
	"empty object":     `{}`,
	"object":           `{"name":"x","keyword":1,"fulltext":true,"ip":"z"}`,
	"deep object":      `{"a":{"b":{"c":{"d":[{"e":1},{"e":{"f":"g"}}]}}}}`,
	"empty array":      `[]`,
	"array":            `["a","b"]`,
	"mixed array":      `["a",1,2.5,null,true,[3,["x"]],{"k":1},{"k":{"l":2}},"10.0.0.1"]`,
	"array of objects": `[{"k":1},{"k":"x"},{}]`,
	"immense string":   `"` + strings.Repeat("x", 32767) + `"`,
	"immense text":     `"` + strings.Repeat("wörd €", 6000) + `"`,
}

// doc is an event with value in each of the fields, and a date where a data
// stream asks for one.
func doc(fields []string, value string) []byte {
	var b bytes.Buffer
	b.WriteString(`{`)
	for i, f := range fields {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", f, value)
	}
	if !slices.Contains(fields, "@timestamp") {
		b.WriteString(`,"@timestamp":"2026-01-02T03:04:05.678Z"`)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// each is an event with one field a kind, below a parent named for it. kind says
// which value it gets.
func each(path []string, kind func(of string) string) []byte {
	var b bytes.Buffer
	b.WriteString(`{"@timestamp":"2026-01-02T03:04:05.678Z"`)
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		value := kinds[kind(k)]
		for _, step := range slices.Backward(path[1:]) {
			value = fmt.Sprintf("{%q:%s}", step, value)
		}
		fmt.Fprintf(&b, ",%q:%s", path[0]+" "+k, value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// nested is an event with value below path.
func nested(value string, path ...string) []byte {
	for _, step := range slices.Backward(path) {
		value = fmt.Sprintf("{%q:%s}", step, value)
	}
	return []byte(value[:len(value)-1] + `,"@timestamp":"2026-01-02T03:04:05.678Z"}`)
}

// Of two events with different types in one field the second is not refused,
// whichever the field and whichever the two.
func TestTemplateTakesEveryTypeAfterEveryOther(t *testing.T) {
	for _, dataStream := range []bool{false, true} {
		t.Run(map[bool]string{false: "index", true: "data stream"}[dataStream], func(t *testing.T) {
			prefix := map[bool]string{false: "tmpltypes", true: "tmpltypesds"}[dataStream]
			c := realCluster(t, Config{Index: prefix + "-x"})
			c.elasticsearchOnly()
			c.clean(prefix)
			c.install(prefix, dataStream)

			names := slices.Sorted(maps.Keys(kinds))
			listed := slices.Sorted(maps.Keys(properties()))
			if dataStream {
				listed = slices.DeleteFunc(listed, func(f string) bool { return f == "@timestamp" })
			}
			short := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return len(kinds[n]) > 1000 })

			// Fields that the template names exist from the start, so one index
			// serves all pairs: every kind after every other.
			var docs [][]byte
			for _, first := range short {
				for _, second := range short {
					docs = append(docs, doc(listed, kinds[first]), doc(listed, kinds[second]))
				}
			}
			for _, n := range names {
				docs = append(docs, doc(listed, kinds[n]))
			}
			c.taken("listed fields", prefix+"-listed", docs...)

			// Others are made by the first event, so each first kind has an index of
			// its own, with a field for each second kind.
			for i, first := range names {
				index := fmt.Sprintf("%s-%02d", prefix, i)
				var before, after [][]byte
				for _, path := range [][]string{
					{"plain"},
					{"parent", "child"},
					{"host", "ip"},            // a rule of its own by name
					{"peer", "ip", "keyword"}, // the name of its subfield,
					{"peer", "ip"},            // and then the field itself
					{"sub", "fulltext"},       // the name of any other's subfield,
					{"sub"},                   // then the field itself,
					{"sub", "fulltext", "a"},  // and what is below
					{"sub", "fulltext", "fulltext"},
				} {
					before = append(before, each(path, func(string) string { return first }))
					after = append(after, each(path, func(second string) string { return second }))
				}
				c.taken(first+" first", index, before...)
				c.taken("after "+first, index, after...)
			}
			c.taken("a scalar where listed fields are below", prefix+"-parents",
				nested(`"x"`, "source"), nested(`"10.0.0.1"`, "source", "ip"), nested(`5`, "event"), nested(`"a"`, "event", "code"),
				nested(`"h"`, "host"), nested(`"h"`, "host", "name"), nested(`"h"`, "host"), nested(`"k"`, "kafka"), nested(`3`, "kafka", "offset"))
			c.taken("names that are odd", prefix+"-names",
				nested(`1`, "."), nested(`"x"`, ".."), nested(`1`, "a."), nested(`1`, ".a"), nested(`1`, "a..b"), nested(`1`, "x", ""),
				nested(`1`, "*"), nested(`1`, "a*"), nested(`1`, "_type"), nested(`1`, "x", "_id"), nested(`1`, "a\tb"), nested(`1`, "\u202e"))
			c.taken("deep", prefix+"-deep", nested(`1`, slices.Repeat([]string{"d"}, 999)...), nested(`"x"`, slices.Repeat([]string{"d"}, 500)...))
		})
	}
}

// What the template cannot help with is known, and is refused as a verdict on
// that event.
func TestTemplateDoesNotHelpWithThese(t *testing.T) {
	c := realCluster(t, Config{Index: "tmplrefused-x"})
	c.clean("tmplrefused")
	c.clean("tmplrefusedds")
	c.install("tmplrefused", false)
	c.install("tmplrefusedds", true)
	f := func(index, event string) {
		t.Helper()
		if refused := c.bulk(index, [][]byte{[]byte(event)}); !strings.HasPrefix(refused[0], "400 ") {
			t.Errorf("%s: %.100s: want it refused with 400, got %q", index, event, refused[0])
		}
	}
	f("tmplrefused-x", `{"":1}`)
	if c.sink.flavor == &elasticsearchFlavor {
		f("tmplrefused-x", `{" ":1}`)
		f("tmplrefused-x", `{"_id":"x"}`)
	}
	f("tmplrefused-x", `{"a":1,"a":2}`)
	f("tmplrefused-x", `{"a":`+strings.Repeat("7", 1001)+`}`)
	f("tmplrefused-x", string(nested(`1`, slices.Repeat([]string{"d"}, 1001)...)))
	f("tmplrefused-x", `{"`+strings.Repeat("n", maxFieldName+1)+`":1}`)
	for kind, value := range kinds {
		switch kind {
		case "date", "integer", "float", "number as string": // milliseconds since 1970
		default:
			f("tmplrefusedds-x", string(doc([]string{"@timestamp"}, value)))
		}
	}
}

func TestTemplateKeepsFieldsSearchable(t *testing.T) {
	c := realCluster(t, Config{Index: "tmplsearch-x"})
	c.clean("tmplsearch")
	c.install("tmplsearch", false)
	long := strings.Repeat("filler ", 8000) + "needle in it"
	c.taken("events", "tmplsearch-x",
		[]byte(`{"@timestamp":"2026-01-02T03:04:05.678Z","source":{"ip":"10.1.2.3","port":"445"},"event":{"duration":1500,"risk_score":7.5,"original":"<34>Oct 11 su: failed"},"message":"The quick brown fox","CommandLine":"powershell.exe -nop Invoke-Mimikatz now","sourceIPAddress":"192.0.2.7","seen":"2026-01-02","winlog":{"event_data":{"SourceIp":"192.0.2.8"}},"code":4624}`),
		[]byte(`{"@timestamp":"2026-03-02T03:04:05.678Z","source":{"ip":"unknown","port":"0x1bd"},"event":{"duration":"long","risk_score":"high"},"message":{"text":"other"},"CommandLine":"`+long+`","sourceIPAddress":"ec2.amazonaws.com","seen":"yesterday","code":"0x4624"}`),
		[]byte(`{"@timestamp":"not a date","source":{"ip":"2001:db8::1","port":70000},"event":{"duration":99}}`))
	f := func(want int, query string) {
		t.Helper()
		if got := c.hits("tmplsearch-x", query); got != want {
			t.Errorf("%s: %d hits, want %d", query, got, want)
		}
	}
	f(1, `{"range":{"@timestamp":{"gte":"2026-01-01","lt":"2026-02-01"}}}`)
	f(1, `{"term":{"_ignored":"@timestamp"}}`)
	f(1, `{"term":{"source.ip":"10.0.0.0/8"}}`)
	f(1, `{"range":{"source.ip":{"gte":"10.1.0.0","lte":"10.1.255.255"}}}`)
	f(1, `{"term":{"source.ip":"2001:db8::/32"}}`)
	f(1, `{"term":{"source.ip.keyword":"unknown"}}`)
	f(1, `{"term":{"sourceIPAddress":"192.0.2.0/24"}}`)
	f(1, `{"term":{"sourceIPAddress.keyword":"ec2.amazonaws.com"}}`)
	f(1, `{"term":{"winlog.event_data.SourceIp":"192.0.2.0/24"}}`)
	f(2, `{"range":{"source.port":{"gt":400}}}`)
	f(1, `{"term":{"source.port":445}}`)
	f(1, `{"term":{"source.port.keyword":"0x1bd"}}`)
	f(1, `{"range":{"event.duration":{"gt":100,"lt":9999}}}`)
	f(1, `{"term":{"event.duration.keyword":"long"}}`)
	f(1, `{"range":{"event.risk_score":{"gt":7}}}`)
	f(1, `{"match_phrase":{"message":"quick brown"}}`)
	f(1, `{"match_phrase":{"event.original":"su failed"}}`)
	if c.sink.flavor == &elasticsearchFlavor { // OpenSearch keeps what is below a text in the event only
		f(1, `{"match":{"message.text.fulltext":"other"}}`)
	}
	f(1, `{"term":{"CommandLine":"powershell.exe -nop Invoke-Mimikatz now"}}`)
	f(1, `{"wildcard":{"CommandLine":"*Mimikatz*"}}`)
	f(1, `{"match_phrase":{"CommandLine.fulltext":"invoke mimikatz"}}`)
	f(1, `{"match_phrase":{"CommandLine.fulltext":"needle in it"}}`)
	f(1, `{"term":{"seen":"yesterday"}}`)
	f(1, `{"term":{"code":"4624"}}`)
	f(1, `{"term":{"code":"0x4624"}}`)
	f(1, `{"query_string":{"query":"mimikatz"}}`)
	f(1, `{"query_string":{"query":"\"brown fox\""}}`)
}

// 20,000 names are neither refused nor kept, and what was promised is there
// behind them.
func TestTemplateBoundsAFieldExplosion(t *testing.T) {
	c := realCluster(t, Config{Index: "tmplflood-x"})
	c.elasticsearchOnly()
	c.clean("tmplflood")
	c.install("tmplflood", false)
	var docs [][]byte
	for i := range 200 {
		fields := make([]string, 100)
		for j := range fields {
			fields[j] = fmt.Sprintf("flood%d.name%d", i, j)
		}
		docs = append(docs, doc(fields, `"some value"`))
	}
	all := make([]string, 20000)
	for i := range all {
		all[i] = fmt.Sprintf("other.%d", i)
	}
	docs = append(docs, doc(all, "1"), doc([]string{strings.Repeat("n", 20000)}, "1"),
		[]byte(`{"@timestamp":"2026-01-02T03:04:05.678Z","destination":{"ip":"10.9.8.7","bytes":77},"message":"after the flood"}`))
	c.taken("flood", "tmplflood-x", docs...)

	mapping := c.ask(http.MethodGet, "/tmplflood-x/_mapping", "")
	n, err := mappedFields(mapping)
	if err != nil || n > maxFields {
		t.Errorf("%d fields are mapped (%v), want at most %d", n, err, maxFields)
	}
	t.Logf("%d fields in a mapping of %d kB", n, len(mapping)/1000)
	f := func(want int, query string) {
		t.Helper()
		if got := c.hits("tmplflood-x", query); got != want {
			t.Errorf("%s: %d hits, want %d", query, got, want)
		}
	}
	f(1, `{"term":{"destination.ip":"10.0.0.0/8"}}`)
	f(1, `{"range":{"destination.bytes":{"gte":70,"lt":80}}}`)
	f(1, `{"match_phrase":{"message":"after the flood"}}`)
	f(1, `{"match":{"flood0.name0.fulltext":"value"}}`)
	// A search without a field goes to all of them.
	f(1, `{"query_string":{"query":"\"after the flood\""}}`)
}

// mappedFields counts what counts towards the limit of a mapping.
func mappedFields(mapping []byte) (int, error) {
	var found map[string]struct {
		Mappings struct {
			Properties map[string]struct{ Fields map[string]struct{} }
			Runtime    map[string]struct{}
		}
	}
	if err := json.Unmarshal(mapping, &found); err != nil {
		return 0, err
	}
	n := 0
	for _, index := range found {
		n += len(index.Mappings.Properties) + len(index.Mappings.Runtime)
		for _, p := range index.Mappings.Properties {
			n += len(p.Fields)
		}
	}
	return n, nil
}

func TestTemplateIsFoundByCheck(t *testing.T) {
	f := func(prefix string, dataStream bool) {
		cfg := Config{Index: prefix + "-{topic}"}
		if dataStream {
			cfg = Config{DataStream: prefix + "-{topic}"}
		}
		c := realCluster(t, cfg)
		want := func(what string, parts ...string) {
			t.Helper()
			got, err := c.sink.CheckTemplate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(parts) == 0 && got != "" {
				t.Errorf("%s: %s: warning %q, want none", prefix, what, got)
			}
			for _, p := range parts {
				if !strings.Contains(got, p) {
					t.Errorf("%s: %s: warning %q, want %q in it", prefix, what, got, p)
				}
			}
		}
		// foreign is a template that weir did not make, for prefix-old.
		foreign := func(priority int) {
			t.Helper()
			kind := map[bool]string{true: `"data_stream":{},`}[dataStream]
			c.ask(http.MethodPut, "/_index_template/"+TemplateName(prefix)+"-theirs",
				fmt.Sprintf(`{"index_patterns":["%s-old*"],%s"priority":%d}`, prefix, kind, priority))
		}
		install := func(connector, pattern string) {
			t.Helper()
			body, err := Template(c.sink.cfg.Flavor, []string{pattern}, dataStream)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.sink.InstallTemplate(t.Context(), TemplateName(connector), body, nil); err != nil {
				t.Errorf("%s: %v", pattern, err)
			}
		}
		c.clean(prefix)
		t.Cleanup(func() { c.clean(prefix) })

		foreign(300)
		want("no template of ours", "no index template of weir's", "weir init")
		c.taken("event", prefix+"-old", nested(`1`, "a"))
		install(prefix, prefix+"-*")
		if dataStream {
			want("a data stream of before", "1 of 1 data streams", prefix+"-old", "_rollover")
			c.ask(http.MethodPost, "/"+prefix+"-old/_rollover", "")
		} else {
			want("an index of before", "1 of 1 indices", prefix+"-old", "reindex")
			c.ask(http.MethodDelete, "/"+prefix+"-old", "")
		}
		c.taken("event", prefix+"-new", nested(`1`, "a"))
		want("all is well")

		// Two connectors that write to the same names, and one to some of them.
		install(prefix+"-other", prefix+"-*")
		install(prefix+"-narrow", prefix+"-win-*")
		want("three connectors")

		foreign(900)
		want("a foreign one before ours", TemplateName(prefix)+"-theirs", "priority 900", "lower that priority")
	}
	f("tmplcheck", false)
	f("tmplcheckds", true)
}

// An administrator's clash is told in Elasticsearch's words.
func TestTemplateThatCannotBeInstalled(t *testing.T) {
	c := realCluster(t, Config{Index: "tmplclash-x"})
	c.clean("tmplclash")
	t.Cleanup(func() { c.clean("tmplclash") })
	body, err := Template(c.sink.cfg.Flavor, []string{"tmplclash-*"}, false)
	if err != nil {
		t.Fatal(err)
	}
	var ours indexTemplate
	if err := json.Unmarshal(body, &ours); err != nil {
		t.Fatal(err)
	}
	theirs := TemplateName("tmplclash") + "-theirs"
	c.ask(http.MethodPut, "/_index_template/"+theirs, fmt.Sprintf(`{"index_patterns":["tmplclash-a*"],"priority":%d}`, ours.Priority))
	if err := c.sink.InstallTemplate(t.Context(), TemplateName("tmplclash"), body, nil); err == nil || !strings.Contains(err.Error(), theirs) {
		t.Errorf("a foreign template of the same priority: error %v, want one that names it", err)
	}
	if err := c.sink.InstallTemplate(t.Context(), theirs, body, nil); err == nil || !strings.Contains(err.Error(), "not made by weir") {
		t.Errorf("a foreign template of that very name: error %v", err)
	}
}

// The real events: what Elasticsearch's own mapping takes of them and what the
// template does.
func TestTemplateTakesTheRealEvents(t *testing.T) {
	folder := os.Getenv("WEIR_TEST_DATA")
	if folder == "" {
		t.Skip("WEIR_TEST_DATA is not set: no folder with windows-aws.jsonl.gz")
	}
	c := realCluster(t, Config{Index: "tmplreal-x"})
	events := readEvents(t, filepath.Join(folder, "windows-aws.jsonl.gz"))
	c.clean("tmplreal")
	c.clean("tmpldynamic")
	c.Cleanup(func() { c.clean("tmpldynamic") })
	c.install("tmplreal", false)

	dynamic := c.bulk("tmpldynamic-x", events)
	refused := c.bulk("tmplreal-x", events)
	t.Logf("%d events: dynamic mapping refuses %d, the template %d", len(events), len(dynamic), len(refused))
	if len(refused) > 0 {
		for _, reason := range refused {
			t.Fatalf("%d of %d events refused, one of them: %s", len(refused), len(events), reason)
		}
	}
	if len(dynamic) == 0 {
		t.Error("dynamic mapping refused none: these events show nothing")
	}
	f := func(want int, query string) {
		t.Helper()
		if got := c.hits("tmplreal-x", query); got != want {
			t.Errorf("%s: %d hits, want %d", query, got, want)
		}
	}
	f(len(events), `{"match_all":{}}`)
	f(57231, `{"range":{"@timestamp":{"gte":"2000-01-01"}}}`)
}

func readEvents(t *testing.T, path string) [][]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zip, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var events [][]byte
	lines := bufio.NewScanner(zip)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		events = append(events, bytes.Clone(lines.Bytes()))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

// On OpenSearch every kind of value is taken after every scalar, and an object in the
// place of one, too. What is refused is a value where there was an object before, and
// an event with new names when the mapping is full: each with a verdict of its own.
func TestTemplateOnOpenSearch(t *testing.T) {
	c := realCluster(t, Config{Index: "tmplos-x"})
	if c.sink.flavor != &openSearchFlavor {
		t.Skip("the server is not OpenSearch")
	}
	c.clean("tmplos")
	c.install("tmplos", false)
	// One a kind of treatment: every new field is a new mapping. With a value and an
	// object in one place, the mixed array and the deep object refuse themselves.
	names := []string{"string", "address", "integer", "float", "true", "null", "array", "empty array", "object", "empty object", "array of objects"}
	object := func(kind string) bool { // makes an object of its field
		return slices.Contains(names[8:], kind)
	}
	value := func(kind string) bool { // is there, and no object
		return !object(kind) && kind != "null" && kind != "empty array"
	}
	for _, path := range [][]string{{"plain"}, {"ip"}} {
		index := "tmplos-" + path[0]
		// A field a pair of kinds: one event with all fields of a first kind, then one
		// for each second.
		var before, after [][]byte
		for i, first := range names {
			var event strings.Builder
			event.WriteString(`{"@timestamp":"2026-01-02T03:04:05.678Z"`)
			for j, second := range names {
				value := func(kind string) string {
					v := kinds[kind]
					for _, step := range slices.Backward(path) {
						v = fmt.Sprintf("{%q:%s}", step, v)
					}
					return fmt.Sprintf(`,"f%d-%d":%s`, i, j, v)
				}
				event.WriteString(value(first))
				after = append(after, []byte(`{"@timestamp":"2026-01-02T03:04:05.678Z"`+value(second)+"}"))
			}
			before = append(before, []byte(event.String()+"}"))
		}
		c.taken("first", index, before...)
		refused := c.bulk(index, after)
		for k := range after {
			first, second := names[k/len(names)], names[k%len(names)]
			if want := object(first) && value(second); (refused[k] != "") != want || want && !strings.HasPrefix(refused[k], "400 ") {
				t.Errorf("%s: %s after %s: %q, want refused: %v", path, second, first, refused[k], want)
			}
		}
	}

	var docs [][]byte
	for i := range 60 {
		fields := make([]string, 100)
		for j := range fields {
			fields[j] = fmt.Sprintf("flood%d-%d", i, j)
		}
		docs = append(docs, doc(fields, `"some value"`))
	}
	refused := c.bulk("tmplos-flood", docs)
	for _, reason := range refused {
		if !strings.HasPrefix(reason, "400 Limit of total fields") {
			t.Errorf("flood: %s", reason)
		}
	}
	if len(refused) == 0 {
		t.Errorf("%d names were all mapped", 60*100)
	}
	c.taken("names that are known, after the flood", "tmplos-flood", docs[0])
}
