package elastic

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"weir/sinks"
)

// FuzzRefusal: whatever a refusal says, it rejects nothing by itself, asks for no
// time in the past, and its words are harmless.
func FuzzRefusal(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `null`, `{"error":"text"}`, `<html>`, `{"error":{"type":"a","reason":"b"}}`,
		`{"error":{"type":"a\u001b[2J\n","reason":"\u2028\r\n` + strings.Repeat("x", 2000) + `"}}`,
		`{"error":{"type":"es_rejected_execution_exception","reason":"[coordinating_operation_bytes=2, max_coordinating_bytes=1]"}}`,
		`{"error":{"type":"illegal_argument_exception","reason":"request [/_bulk] contains unrecognized parameter: [x]"}}`,
	} {
		for _, status := range []int{307, 400, 401, 413, 429, 503} {
			f.Add(status, "Elasticsearch", "10", []byte(body), true)
		}
	}
	f.Add(429, "", "Wed, 21 Oct 2099 07:28:00 GMT", []byte(`{}`), false)
	f.Add(429, "nginx", "0", []byte(`{"error":{"reason":"coordinating_operation_bytes=2, max_coordinating_bytes=1]"}}`), true)
	f.Add(429, "nginx", "99999999999999999999", []byte("\xff"), false)
	f.Add(400, "Elasticsearch0", "0", []byte(`{"error":{"type":"0"}}`), true) // found
	s, err := New(testConfig("http://127.0.0.1:1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, product, after string, body []byte, quote bool) {
		if status < 0 || status > 999 || status == http.StatusOK {
			return
		}
		s.cfg.IncludeReasons = quote
		res := &http.Response{StatusCode: status, Header: http.Header{"X-Elastic-Product": {product}, "Retry-After": {after}, "Content-Type": {after}}}
		re := requestError(t, s.refused(res, "http://es", body))
		if re.RetryAfter < 0 {
			t.Errorf("Retry-After %q asks for %s", after, re.RetryAfter)
		}
		if re.Split && status != 413 && product != "Elasticsearch" {
			t.Errorf("a %d of who knows whom splits", status)
		}
		if re.Split && status != 400 && status != 413 && status != 429 {
			t.Errorf("a %d splits", status)
		}
		harmless(t, re.Error(), maxReason+200)
	})
}

func harmless(t *testing.T, s string, most int) {
	t.Helper()
	if i := strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }); i >= 0 {
		t.Errorf("a control character at byte %d of %.200q", i, s)
	}
	if len(s) > most {
		t.Errorf("%d bytes: %.100q...", len(s), s)
	}
}

// FuzzItem: no item settles a record but those that say so, and its words are
// harmless.
func FuzzItem(f *testing.F) {
	for _, it := range []string{
		`{"status":201}`, `{"status":200}`, `{"status":409,"error":{"type":"version_conflict_engine_exception"}}`,
		`{"status":400,"error":{"type":"a","reason":"b\u001b\n"}}`, `{"status":500,"error":{"type":"fail_processor_exception"}}`,
		`{"status":201,"failure_store":"used"}`, `{"status":201,"error":null}`, `{"status":201,"error":{}}`, `{"status":-1}`, `{"status":1e2}`,
		`{"Status":201}`, `{"status":400,"status":201}`, `{"status":400,"error":{"type":"validation_exception","reason":"Validation Failed: 1: this action would add [2]"}}`,
	} {
		f.Add([]byte(it), true, true)
	}
	s, err := New(testConfig("http://127.0.0.1:1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, it []byte, id, quote bool) {
		answer := append(append([]byte(`{"items":[{"create":`), it...), `}]}`...)
		items, err := parseAnswer(answer, "create", 1, nil)
		if err != nil {
			harmless(t, err.Error(), 200)
			return
		}
		s.cfg.IncludeReasons, s.layout.id = quote, idNone
		if id {
			s.layout.id = idOffset
		}
		o := s.verdict(&items[0])
		harmless(t, o.Reason, maxReason)
		switch status := items[0].Status; {
		case o.Verdict == sinks.Ack && status != 200 && status != 201 && (status != 409 || !id):
			t.Errorf("status %d settles", status)
		case o.Verdict == sinks.Reject && status != 400 && status != 500:
			t.Errorf("status %d rejects", status)
		}
	})
}

// FuzzTemplateAnswers: what a cluster says of its templates and of itself ends in
// a warning or an error of harmless words.
func FuzzTemplateAnswers(f *testing.F) {
	for _, b := range []string{
		`{}`, `null`, `[]`, `{"index_templates":null}`, `{"index_templates":[null]}`,
		`{"index_templates":[{"name":"x\u001b[2J","index_template":{"index_patterns":["*"],"priority":9999,"template":{"mappings":{"_meta":{"weir":{"template":1}}}}}}]}`,
		`{"index_templates":[{"name":"weir-x","index_template":{"index_patterns":["events"],"priority":1,"template":{"mappings":{"_meta":{"weir":{"template":99}}}}}},{"name":"\n","index_template":{"index_patterns":["*\u0007"],"priority":2}}]}`,
		`{"events":{"settings":{}}}`, `{"a\u001b":{}}`, `{"data_streams":[{"name":"\u0007","indices":[{"index_name":"x"}]}]}`,
		`{"name":"\u001b","cluster_name":"\n","cluster_uuid":"u","version":{"number":"8\u0000"}}`, `{"error":{"type":"x","reason":"\u001b"}}`,
	} {
		f.Add(200, []byte(b), []byte(b))
		f.Add(403, []byte(b), []byte(b))
	}
	f.Fuzz(func(t *testing.T, status int, first, second []byte) {
		if status < 200 || status > 599 {
			return
		}
		n := 0
		srv := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Elastic-Product", "Elasticsearch")
			w.WriteHeader(status)
			if n++; n == 1 {
				_, _ = w.Write(first)
				return
			}
			_, _ = w.Write(second)
		})
		s, err := New(testConfig("http://es.invalid"))
		if err != nil {
			t.Fatal(err)
		}
		s.client = direct{srv}
		warning, err := s.CheckTemplate(t.Context())
		harmless(t, warning, 1<<20)
		if err != nil {
			harmless(t, err.Error(), 1<<13)
		}
		info, err := s.Ping(t.Context())
		harmless(t, info.Cluster+info.ClusterUUID+info.Node+info.Version+info.Unverified, 1024)
		if err != nil {
			harmless(t, err.Error(), 1<<13)
		}
	})
}

// direct asks a handler without a network in between.
type direct struct{ h http.Handler }

func (d direct) Perform(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	return w.Result(), nil
}
