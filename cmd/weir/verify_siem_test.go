package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weir/buffer"
	"weir/connector/evidence"
	"weir/connector/transform"
	"weir/sinks"
	"weir/sinks/elastic"
	"weir/sinks/sinktest"
)

// siemBed is a sealed case whose records were delivered to a server, too.
type siemBed struct {
	*testing.T
	c              *testCase
	url, index     string
	config, flavor string
}

// newSIEMBed delivers the records of a case's bag to the server at an URL, which
// speaks for flavor.
func newSIEMBed(t *testing.T, base, flavor, index string) *siemBed {
	t.Helper()
	b := &siemBed{T: t, c: newTestCase(t), url: base, index: index, flavor: flavor}
	b.config = filepath.Join(b.c.dir, "weir.yaml")
	text := fmt.Sprintf("kafka: {brokers: [127.0.0.1:9]}\nconnectors:\n- name: siem\n  topics: [t]\n  sink: {elasticsearch: {urls: [%q], flavor: %s, index: live}}\n", base, flavor)
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sink, err := elastic.New(elastic.Config{URLs: []string{base}, Flavor: flavor, Index: index, Op: "create", ID: "offset", Coordinates: true, Compression: "none", Timeout: 30e9})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if os.Getenv("WEIR_TEST_ES") == base { // a real one, with the index template of weir init --case
		body, err := elastic.Template(flavor, []string{index}, false)
		if err != nil {
			t.Fatal(err)
		}
		name := elastic.TemplateName(index)
		if err := sink.InstallTemplate(t.Context(), name, body, nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.ask(http.MethodDelete, "/_index_template/"+name, "") })
	}
	decode, err := transform.Decode("json")
	if err != nil {
		t.Fatal(err)
	}
	_, err = verifyBag(t.Context(), b.c.bag, nil, nil, func(d *verdict, p *partitionVerdict, records evidence.Stream) error {
		_, seal := d.manifest.Find(p.Topic, p.Partition)
		for r, err := range records() {
			if err != nil {
				return err
			}
			if slices.ContainsFunc(seal.Gaps.Listed, func(g evidence.Gap) bool { return r.Offset >= g.From && r.Offset < g.To }) {
				continue // only the bag has it
			}
			one := *r
			if _, err := decode(&one); err != nil {
				return err
			}
			one.Origin = &buffer.Origin{Cluster: r.Cluster, Topic: r.Topic, TopicID: r.TopicID, Partition: r.Partition}
			outcomes, err := sink.Deliver(t.Context(), batchOf(&one), nil)
			if err != nil || outcomes[0].Verdict != sinks.Ack {
				return fmt.Errorf("%+v: %w", outcomes, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask sends the server what nobody should.
func (b *siemBed) ask(method, path, body string) []byte {
	b.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		b.Fatalf("%s %s: %d %s %v", method, path, res.StatusCode, answer, err)
	}
	return answer
}

// document is the path of a record's document.
func (b *siemBed) document(topic, partition int, offset int64) string {
	t := &b.c.manifest.Topics[topic]
	return "/" + b.index + "/_doc/" + url.PathEscape(elastic.DocumentID(b.c.manifest.Origin(t, int32(partition)), offset)) + "?refresh=true"
}

// verify is what weir verify --siem finds.
func (b *siemBed) verify(want int) *siemVerdict {
	b.Helper()
	out, errs, code := weir(b, "verify", "--bag", b.c.bag, "--siem", "-c", b.config, "--index", b.index, "--json")
	var d verdict
	if err := json.Unmarshal([]byte(out), &d); err != nil || code != want || d.SIEM == nil || d.Holds != (want == exitDone) {
		b.Fatalf("exit code %d, want %d: %s%s", code, want, out, errs)
	}
	return d.SIEM
}

// testSIEM has a case checked, and then what was done to it since.
func (b *siemBed) testSIEM() {
	b.Helper()
	var records int64
	for _, t := range b.c.manifest.Topics {
		for _, p := range t.Partitions {
			records += int64(p.Records.Size)
		}
	}
	if s := b.verify(exitDone); s.Match != records || s.Documents != records || records < 300 {
		b.Fatalf("%+v, want %d records", s, records)
	}
	const stranger = `{"@timestamp":"2026-05-01T08:00:00Z","x":1}`
	b.ask(http.MethodDelete, b.document(1, 0, 60), "")
	b.ask(http.MethodPut, b.document(1, 0, 61), `{"kafka":{"topic":"win.security","partition":0,"offset":61},"kind":"none"}`)
	b.ask(http.MethodPut, b.document(1, 0, 64), `{"kind":"it says nothing of where it comes from"}`)
	b.ask(http.MethodPut, b.document(1, 0, 66), `{"kafka":{"topic":"win.security","partition":0,"offset":67}}`)
	b.ask(http.MethodPut, "/"+b.index+"/_doc/twice?refresh=true", `{"kafka":{"topic":"win.security","partition":0,"offset":62}}`)
	b.ask(http.MethodPut, "/"+b.index+"/_doc/later?refresh=true", `{"kafka":{"topic":"win.security","partition":0,"offset":9062}}`)
	b.ask(http.MethodPut, "/"+b.index+"/_doc/stranger?refresh=true", stranger)
	s := b.verify(exitFailed)
	for _, one := range []struct {
		name  string
		class siemClass
		want  []string
	}{
		{"missing", s.Missing, []string{"win.security/0/60"}},
		{"altered", s.Altered, []string{"win.security/0/61", "win.security/0/62", "win.security/0/64", "win.security/0/66"}},
		{"duplicate", s.Duplicate, []string{"win.security/0/62"}},
		{"foreign", s.Foreign, []string{b.index + "/_doc/later (win.security/0/9062)", b.index + "/_doc/stranger"}},
	} {
		slices.Sort(one.class.Named)
		if one.class.Count != int64(len(one.want)) || !slices.Equal(one.class.Named, one.want) {
			b.Errorf("%s: %+v, want %q", one.name, one.class, one.want)
		}
	}
	if s.Match != records-5 || s.Documents != records+2 {
		b.Errorf("%+v, of %d records", s, records)
	}
	out, _, _ := weir(b, "verify", "--bag", b.c.bag, "--siem", "-c", b.config, "--index", b.index)
	if !strings.Contains(out, "duplicate") || !strings.Contains(out, "1: win.security/0/62") || !strings.Contains(out, "IT DOES NOT HOLD") {
		b.Error(out)
	}
	// The whole index is gone: each record is missing, and 20 are named.
	b.ask(http.MethodDelete, "/"+b.index, "")
	if s := b.verify(exitFailed); s.Missing.Count != records || len(s.Missing.Named) != maxSIEMNamed || s.Match != 0 {
		b.Errorf("%+v", s)
	}
}

func TestVerifySIEMNamesWhatIsNotAsItWasDelivered(t *testing.T) {
	for _, flavor := range []string{"elasticsearch", "opensearch"} {
		for _, unmapped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s unmapped %v", flavor, unmapped), func(t *testing.T) {
				es := &sinktest.Elasticsearch{OpenSearch: flavor == "opensearch", Search: &sinktest.Search{}}
				srv := httptest.NewServer(es)
				defer srv.Close()
				b := newSIEMBed(t, srv.URL, flavor, "rehydrate-a-1")
				if !unmapped {
					b.testSIEM()
					return
				}
				// Without fields to search by, the ids are all there is.
				es.Search.Unmapped = true
				b.verify(exitDone)
				b.ask(http.MethodDelete, b.document(1, 0, 60), "")
				b.ask(http.MethodPut, "/"+b.index+"/_doc/twice", `{"kafka":{"topic":"win.security","partition":0,"offset":62}}`)
				if s := b.verify(exitFailed); s.Missing.Count != 1 || s.Foreign.Count != 1 || s.Foreign.Named[0] != "rehydrate-a-1/_doc/twice" || len(s.Notes) != 1 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

func TestVerifySIEMSaysHowItIsCalled(t *testing.T) {
	es := &sinktest.Elasticsearch{Search: &sinktest.Search{}}
	srv := httptest.NewServer(es)
	defer srv.Close()
	b := newSIEMBed(t, srv.URL, "elasticsearch", "rehydrate-a-1")
	for args, want := range map[string]string{
		"--bag B --connector x":                   "go with --siem",
		"--proof p --siem --key k":                "--siem goes with neither",
		"--bag B --siem -c C":                     "give --index",
		"--bag B --siem -c C --connector another": `no connector "another"`,
	} {
		args = strings.NewReplacer(" B ", " "+b.c.bag+" ", " C", " "+b.config).Replace(args)
		if out, errs, code := weir(t, append([]string{"verify"}, strings.Fields(args)...)...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%q: %d %s%s", args, code, out, errs)
		}
	}
}

func TestIndexOfACaseIsInTheManifest(t *testing.T) {
	for destination, want := range map[string]string{
		"index rehydrate-a": "rehydrate-a", "index a and bag /b": "a", "bag /b, index a, index a and bag /b": "a",
		"bag /b": "", "index a, index b": "", "": "",
	} {
		if got, err := caseIndexOf(destination); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", destination, got, err)
		}
	}
}
