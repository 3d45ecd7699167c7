package elastic

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"weir/sinks"
	"weir/sinks/sinktest"
)

// A server of the other flavor takes what it is sent and answers in the same
// words: neither its verdicts nor its GET / are taken, and the message says which
// key to change. Nor is just any server's 200 a reason to commit.
func TestOnlyTheConfiguredServerIsBelieved(t *testing.T) {
	imitation := func(body string) http.Handler { // 200 to everything, in nobody's name; body to GET /
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			answer := `{"items":[{"create":{"status":201}}]}`
			if r.URL.Path == "/" {
				answer = body
			}
			_, _ = io.WriteString(w, answer)
		})
	}
	for _, c := range []struct {
		flavor         string
		server         http.Handler
		deliver, check string // part of the message; empty: it goes well
	}{
		{"", &sinktest.Elasticsearch{}, "", ""},
		{"elasticsearch", &sinktest.Elasticsearch{}, "", ""},
		{"opensearch", &sinktest.Elasticsearch{OpenSearch: true}, "", ""},
		{"elasticsearch", &sinktest.Elasticsearch{OpenSearch: true}, "the server is OpenSearch: write flavor: opensearch", "the server is OpenSearch: write flavor: opensearch"},
		{"opensearch", &sinktest.Elasticsearch{}, "the server is Elasticsearch: write flavor: elasticsearch", "the server is Elasticsearch: write flavor: elasticsearch"},
		// Version 2 says what it is in the body of GET / only.
		{"elasticsearch", imitation(`{"version":{"distribution":"opensearch","number":"2.19.1"}}`), "not Elasticsearch", "write flavor: opensearch"},
		{"opensearch", imitation(`{"version":{"distribution":"opensearch","number":"2.19.1"}}`), "no header X-OpenSearch-Version", "as version 3 does"},
		{"elasticsearch", imitation(`{"version":{"number":"8.19.0"}}`), "not Elasticsearch", "not Elasticsearch"},
		{"opensearch", imitation(`{"version":{"number":"3.6.0"}}`), "not OpenSearch", "not OpenSearch"},
		{"opensearch", imitation(`<html>`), "not OpenSearch", "not OpenSearch"},
	} {
		srv := httptest.NewServer(c.server)
		cfg := testConfig(srv.URL)
		cfg.Flavor = c.flavor
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		judge := func(what, want string, err error) {
			t.Helper()
			if want == "" {
				if err != nil {
					t.Errorf("flavor %q: %s: %v", c.flavor, what, err)
				}
				return
			}
			if re := requestError(t, err); !re.Misconfigured || !strings.Contains(err.Error(), want) {
				t.Errorf("flavor %q: %s: %v, want %q in it", c.flavor, what, err, want)
			}
		}
		for n := range 2 { // the second answer is looked at like the first
			out, err := s.Deliver(t.Context(), batch(record(int64(n), `{"a":1}`)), nil)
			judge("deliver", c.deliver, err)
			if c.deliver == "" && out[0].Verdict != sinks.Ack {
				t.Errorf("flavor %q: %+v", c.flavor, out)
			}
		}
		_, err = s.Ping(t.Context())
		judge("ping", c.check, err)
		s.Close()
		srv.Close()
	}
	cfg := testConfig("http://127.0.0.1:1")
	cfg.Flavor = "solr"
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "want elasticsearch or opensearch") {
		t.Errorf("flavor solr: %v", err)
	}
}

// OpenSearch refuses a request with a parameter that it does not know.
func TestOpenSearchIsSentNoParameterOfElasticsearchs(t *testing.T) {
	es := &sinktest.Elasticsearch{OpenSearch: true}
	s := serve(t, es, func(c *Config) { c.Flavor, c.Index, c.DataStream, c.Pipeline = "opensearch", "", "logs", "p" })
	out, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), nil)
	if err != nil || out[0].Verdict != sinks.Ack {
		t.Fatal(out, err)
	}
	if got := es.Requests()[0].Query; got != answerQuery+"&pipeline=p" {
		t.Errorf("query %q", got)
	}
}

// What the security plugin and the node say, as they say it.
func TestOpenSearchRefusesTheRequest(t *testing.T) {
	s := &Sink{flavor: &openSearchFlavor}
	named := http.Header{"X-Opensearch-Version": {"OpenSearch/3.6.0 (opensearch)"}, "Content-Type": {"application/json; charset=UTF-8"}}
	plain := http.Header{"Content-Type": {"text/plain; charset=UTF-8"}}
	for _, c := range []struct {
		status        int
		header        http.Header
		body, want    string
		misconfigured bool
		split         bool
	}{
		{401, plain, "Unauthorized", "the credentials were refused", true, false},
		{403, plain, "Forbidden", "the answer is not OpenSearch's", true, false},
		{403, named, `{"error":{"type":"security_exception","reason":"no permissions for [indices:data/write/bulk] and User [name=weir, backend_roles=[], requestedTenant=null]"},"status":403}`,
			"no permissions for [indices:data/write/bulk]", true, false},
		{503, plain, "OpenSearch Security not initialized.", "the answer is not OpenSearch's", false, false},
		{429, named, `{"error":{"type":"rejected_execution_exception","reason":"rejected execution of coordinating operation [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, coordinating_operation_bytes=338464, max_coordinating_and_primary_bytes=204800]"},"status":429}`,
			"rejected_execution_exception", false, true},
		{429, named, `{"error":{"type":"rejected_execution_exception","reason":"rejected execution of coordinating operation [coordinating_and_primary_bytes=200000, replica_bytes=0, all_bytes=200000, coordinating_operation_bytes=4864, max_coordinating_and_primary_bytes=204800]"},"status":429}`,
			"rejected_execution_exception", false, false},
		{429, named, `{"error":{"type":"circuit_breaking_exception","reason":"[parent] Data too large"},"status":429}`, "circuit_breaking_exception", false, false},
		{400, named, `{"error":{"type":"illegal_argument_exception","reason":"request [/x/_bulk] contains unrecognized parameter: [y]"},"status":400}`, "illegal_argument_exception", true, false},
		{406, named, `{"error":"Content-Type header [text/weird] is not supported","status":406}`, "no explanation", true, false},
		{413, http.Header{}, "", "too long", false, true},
	} {
		re := requestError(t, s.refused(&http.Response{StatusCode: c.status, Header: c.header}, "https://a", []byte(c.body)))
		if re.Misconfigured != c.misconfigured || re.Split != c.split || !strings.Contains(re.Error(), c.want) {
			t.Errorf("%d %s: %+v: %v", c.status, c.body, re, re)
		}
	}
}

// A setting of the index that refuses every event alike is no verdict on one.
func TestAppendOnlyIndexIsNoReasonToReject(t *testing.T) {
	for reason, want := range map[string]sinks.Verdict{
		"Validation Failed: 1: Operation [INDEX] is not allowed with a custom document id 1 as setting `index.append_only.enabled` is enabled for this index: ao;": sinks.Retry,
		"Validation Failed: 1: something about this event;": sinks.Reject,
	} {
		it := item{Status: 400, Error: &itemError{Type: "validation_exception", Reason: reason}}
		if o := new(Sink).verdict(&it); o.Verdict != want {
			t.Errorf("%s: %+v", reason, o)
		}
	}
}

// OpenSearch says of all documents of a request that its pipeline cannot read them
// when that is true of one.
func TestOneUnreadableEventDoesNotRejectTheOthers(t *testing.T) {
	const unreadable = `{"create":{"status":400,"error":{"type":"parse_exception","reason":"Failed to parse content to map"}}}`
	answer := `{"items":[` + unreadable + `,` + unreadable + `]}`
	es := &sinktest.Elasticsearch{OpenSearch: true}
	s := serve(t, es, func(c *Config) { c.Flavor, c.Pipeline = "opensearch", "p" })
	es.Fail(sinktest.Fault{Answer: &answer})
	out, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`), record(2, `{"a":1,"a":2}`)), nil)
	if out != nil || !requestError(t, err).Split {
		t.Errorf("%+v %v, want both halves sent again", out, err)
	}
	answer = `{"items":[` + unreadable + `]}`
	es.Fail(sinktest.Fault{Answer: &answer})
	out, err = s.Deliver(t.Context(), batch(record(2, `{"a":1,"a":2}`)), nil)
	if err != nil || out[0].Verdict != sinks.Reject {
		t.Errorf("%+v %v, want a verdict on the one that is sent alone", out, err)
	}
}

func TestOpenSearchTemplate(t *testing.T) {
	for _, dataStream := range []bool{false, true} {
		body, err := Template("opensearch", []string{"security-*"}, dataStream)
		if err != nil {
			t.Fatal(err)
		}
		for _, unknown := range []string{"subobjects", "ignore_dynamic_beyond_limit", "index.mode", `"runtime"`} {
			if strings.Contains(string(body), unknown) {
				t.Errorf("%s, which OpenSearch refuses", unknown)
			}
		}
		var got struct {
			DataStream *struct{} `json:"data_stream"`
			Template   struct {
				Mappings struct {
					Rules []map[string]struct {
						Type any `json:"match_mapping_type"`
					} `json:"dynamic_templates"`
				}
			}
		}
		if err := json.Unmarshal(body, &got); err != nil || (got.DataStream != nil) != dataStream {
			t.Errorf("data_stream %v, %v", got.DataStream, err)
		}
		names := map[string]bool{}
		for _, rules := range got.Template.Mappings.Rules {
			for name, r := range rules {
				if _, one := r.Type.(string); !one || names[name] {
					t.Errorf("rule %s: for %v, want one type, and no rule twice", name, r.Type)
				}
				names[name] = true
			}
		}
		if len(names) != 6*len(scalars) {
			t.Errorf("%d rules", len(names))
		}
	}
}

// A server is believed when it says the product's name, not one that begins like it.
func TestServerWhoseNameOnlyBeginsLikeTheProductsIsNotBelieved(t *testing.T) {
	for _, c := range []struct {
		f     *flavor
		value string
		want  bool
	}{
		{&elasticsearchFlavor, "Elasticsearch", true},
		{&elasticsearchFlavor, "Elasticsearch0", false},
		{&elasticsearchFlavor, "elasticsearch", false},
		{&elasticsearchFlavor, "", false},
		{&openSearchFlavor, "OpenSearch/3.6.0 (opensearch)", true},
		{&openSearchFlavor, "OpenSearch", false},
		{&openSearchFlavor, "OpenSearching/3", false},
		{&openSearchFlavor, "", false},
	} {
		h := http.Header{}
		h.Set(c.f.header, c.value)
		if got := c.f.wrote(h); got != c.want {
			t.Errorf("%s: %q is believed: %t", c.f.product, c.value, got)
		}
	}
}
