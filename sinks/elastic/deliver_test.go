package elastic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/httpclient"
	"weir/sinks/sinktest"
)

func TestDeliverStoresWhatItAcknowledges(t *testing.T) {
	for _, compression := range []string{"none", "gzip"} {
		t.Run(compression, func(t *testing.T) {
			es, s := fake(t, func(c *Config) { c.Compression = compression })
			var rs []*buffer.Record
			for i := range 3000 {
				rs = append(rs, record(int64(i), fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("x", i%700))))
			}
			out, err := s.Deliver(t.Context(), batch(rs...), nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range out {
				if out[i] != (sinks.Outcome{Verdict: sinks.Ack, Status: 201}) {
					t.Fatalf("record %d: %+v", i, out[i])
				}
			}
			docs := es.Documents("events")
			if len(out) != 3000 || len(docs) != 3000 {
				t.Fatalf("%d outcomes, %d documents, want 3000", len(out), len(docs))
			}
			if want := "cluster:id:0:2999"; docs[2999].ID != want {
				t.Errorf("id %q, want %q", docs[2999].ID, want)
			}
			if q := es.Requests()[0]; len(es.Requests()) != 1 || q.Path != "/events/_bulk" || q.Query != answerQuery {
				t.Errorf("%d requests, the first to %s?%s", len(es.Requests()), q.Path, q.Query)
			}
		})
	}
}

func TestASecondDeliveryIsADuplicate(t *testing.T) {
	_, s := fake(t, nil)
	for i, want := range []sinks.Note{sinks.Plain, sinks.Duplicate} {
		out, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil)
		if err != nil || out[0].Verdict != sinks.Ack || out[0].Note != want {
			t.Fatalf("delivery %d: %+v %v", i, out, err)
		}
	}
}

// Every line of the table of what an item's answer becomes.
func TestItemVerdicts(t *testing.T) {
	const secret = "SECRET"
	for _, c := range []struct {
		item  sinktest.ItemError
		edit  func(*Config)
		want  sinks.Verdict
		note  sinks.Note
		about string
	}{
		{item: sinktest.ItemError{Status: 200}, want: sinks.Ack},
		{item: sinktest.ItemError{Status: 201}, want: sinks.Ack},
		{item: sinktest.ItemError{Status: 201, FailureStore: "used"}, want: sinks.Ack, note: sinks.Quarantined},
		{item: sinktest.ItemError{Status: 201, FailureStore: "not_applicable_or_unknown"}, want: sinks.Ack},
		{item: sinktest.ItemError{Status: 201, Type: "strange"}, want: sinks.Retry, about: "an error with a good status"},
		{item: sinktest.ItemError{Status: 202}, want: sinks.Retry},
		{item: sinktest.ItemError{Status: 409, Type: "version_conflict_engine_exception"}, want: sinks.Ack, note: sinks.Duplicate},
		{item: sinktest.ItemError{Status: 409, Type: "other_exception"}, want: sinks.Retry},
		{item: sinktest.ItemError{Status: 409}, want: sinks.Retry},
		{item: sinktest.ItemError{Status: 409, Type: "version_conflict_engine_exception"}, edit: func(c *Config) { c.Op = "index" }, want: sinks.Retry, about: "op index"},
		{item: sinktest.ItemError{Status: 409, Type: "version_conflict_engine_exception"}, edit: func(c *Config) { c.ID = "none" }, want: sinks.Retry, about: "no id of ours"},
		{item: sinktest.ItemError{Status: 429, Type: "es_rejected_execution_exception"}, want: sinks.Retry, note: sinks.Overloaded},
		{item: sinktest.ItemError{Status: 429, Type: "cluster_block_exception"}, want: sinks.Retry, note: sinks.Overloaded},
		{item: sinktest.ItemError{Status: 401, Type: "security_exception"}, want: sinks.Retry, note: sinks.Misconfigured},
		{item: sinktest.ItemError{Status: 403, Type: "cluster_block_exception"}, want: sinks.Retry, note: sinks.Misconfigured},
		{item: sinktest.ItemError{Status: 404, Type: "index_not_found_exception"}, want: sinks.Retry, note: sinks.Misconfigured},
		{item: sinktest.ItemError{Status: 500, Type: "null_pointer_exception"}, want: sinks.Retry},
		{item: sinktest.ItemError{Status: 500, Type: "fail_processor_exception"}, want: sinks.Reject},
		{item: sinktest.ItemError{Status: 500, Type: "find_match"}, want: sinks.Reject},
		{item: sinktest.ItemError{Status: 503, Type: "unavailable_shards_exception"}, want: sinks.Retry},
		{item: sinktest.ItemError{Status: 503, Type: "find_match"}, want: sinks.Retry},
		{item: sinktest.ItemError{Status: 418, Type: "teapot"}, want: sinks.Retry},
		{item: sinktest.ItemError{Status: 400, Type: "document_parsing_exception", Reason: secret}, want: sinks.Reject},
		{item: sinktest.ItemError{Status: 400}, want: sinks.Retry, about: "a 400 that does not say why"},
		{item: sinktest.ItemError{Status: 400, Type: "illegal_argument_exception", Reason: "pipeline with id [x] does not exist"}, want: sinks.Retry, note: sinks.Misconfigured},
		{item: sinktest.ItemError{Status: 400, Type: "document_parsing_exception", Reason: "pipeline with id [x] does not exist"}, want: sinks.Reject},
		{item: sinktest.ItemError{Status: 400, Type: "illegal_argument_exception", Reason: "field [pipeline with id [x] does not exist"}, want: sinks.Reject},
		{item: sinktest.ItemError{Status: 400, Type: "illegal_argument_exception", Reason: "no write index is defined for alias [x]. And so on"}, want: sinks.Retry, note: sinks.Misconfigured},
		{item: sinktest.ItemError{Status: 400, Type: "illegal_argument_exception", Reason: "only write ops with an op_type of create are allowed in data streams"}, want: sinks.Retry, note: sinks.Misconfigured},
		{item: sinktest.ItemError{Status: 400, Type: "index_closed_exception", Reason: "closed"}, want: sinks.Retry, note: sinks.Misconfigured},
		{item: sinktest.ItemError{Status: 400, Type: "validation_exception", Reason: "Validation Failed: 1: this action would add [2] shards, but"}, want: sinks.Retry, note: sinks.Misconfigured},
		{item: sinktest.ItemError{Status: 400, Type: "validation_exception", Reason: "other"}, want: sinks.Reject},
	} {
		t.Run(fmt.Sprint(c.item.Status, c.item.Type, c.about), func(t *testing.T) {
			for _, include := range []bool{false, true} {
				es := &sinktest.Elasticsearch{Verdict: func(d sinktest.Document) sinktest.ItemError {
					if strings.Contains(string(d.Source), "odd") {
						return c.item
					}
					return sinktest.ItemError{}
				}}
				s := serve(t, es, func(cfg *Config) {
					cfg.IncludeReasons = include
					if c.edit != nil {
						c.edit(cfg)
					}
				})
				out, err := s.Deliver(t.Context(), batch(record(0, `{}`), record(1, `{"odd":1}`), record(2, `{}`)), nil)
				if err != nil {
					t.Fatal(err)
				}
				if out[0].Verdict != sinks.Ack || out[2].Verdict != sinks.Ack {
					t.Errorf("the neighbours: %+v", out)
				}
				got := out[1]
				if got.Verdict != c.want || got.Note != c.note || got.Status != c.item.Status {
					t.Errorf("got %+v, want %s, note %d", got, c.want, c.note)
				}
				if strings.Contains(got.Reason, secret) != (include && c.item.Reason == secret) {
					t.Errorf("reason %q with IncludeReasons %v", got.Reason, include)
				}
				if c.want == sinks.Reject && !strings.HasPrefix(got.Reason, c.item.Type) {
					t.Errorf("reason %q does not name the error's type", got.Reason)
				}
			}
		})
	}
}

func TestAReasonIsOneBoundedLine(t *testing.T) {
	es := &sinktest.Elasticsearch{Verdict: func(sinktest.Document) sinktest.ItemError {
		return sinktest.ItemError{Status: 400, Type: "t", Reason: "a\nb\x1b[31m\u2028" + strings.Repeat("é", 2000)}
	}}
	s := serve(t, es, func(c *Config) { c.IncludeReasons = true })
	out, err := s.Deliver(t.Context(), batch(record(0, `{}`)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := out[0].Reason
	if !strings.HasPrefix(got, "t: a b [31m é") || len(got) > maxReason || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("reason of %d bytes: %.40q", len(got), got)
	}
}

// What answers for the whole request mean. Whatever it is, no record is settled.
func TestRequestErrors(t *testing.T) {
	text := func(s string) *string { return &s }
	for name, c := range map[string]struct {
		fault sinktest.Fault
		want  sinks.RequestError // but Endpoint and Err
		err   string             // part of it
	}{
		"413":                    {fault: sinktest.Fault{Status: 413}, want: sinks.RequestError{Status: 413, Split: true}},
		"413 of a proxy":         {fault: sinktest.Fault{Status: 413, Foreign: true, Body: "<html>"}, want: sinks.RequestError{Status: 413, Split: true}},
		"413 before reading":     {fault: sinktest.Fault{Status: 413, Unread: true}, want: sinks.RequestError{Status: 413, Split: true}},
		"400 naming no record":   {fault: sinktest.Fault{Status: 400}, want: sinks.RequestError{Status: 400, Split: true}, err: "scripted_exception"},
		"400 of a proxy":         {fault: sinktest.Fault{Status: 400, Foreign: true, Body: "plain HTTP request sent to HTTPS port"}, want: sinks.RequestError{Status: 400, Misconfigured: true}},
		"400 in a bare string":   {fault: sinktest.Fault{Status: 400, Body: `{"error":"no handler found","status":400}`}, want: sinks.RequestError{Status: 400, Misconfigured: true}},
		"400 unknown parameter":  {fault: sinktest.Fault{Status: 400, Body: `{"error":{"type":"illegal_argument_exception","reason":"request [/_bulk] contains unrecognized parameter: [x]"}}`}, want: sinks.RequestError{Status: 400, Misconfigured: true}},
		"401":                    {fault: sinktest.Fault{Status: 401}, want: sinks.RequestError{Status: 401, Misconfigured: true}, err: "the credentials were refused"},
		"403":                    {fault: sinktest.Fault{Status: 403}, want: sinks.RequestError{Status: 403, Misconfigured: true}},
		"404":                    {fault: sinktest.Fault{Status: 404}, want: sinks.RequestError{Status: 404, Misconfigured: true}},
		"406":                    {fault: sinktest.Fault{Status: 406}, want: sinks.RequestError{Status: 406, Misconfigured: true}},
		"408":                    {fault: sinktest.Fault{Status: 408}, want: sinks.RequestError{Status: 408}},
		"302":                    {fault: sinktest.Fault{Status: 302, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}}, want: sinks.RequestError{Status: 302, Misconfigured: true}},
		"202":                    {fault: sinktest.Fault{Status: 202}, want: sinks.RequestError{Status: 202, Misconfigured: true}},
		"429":                    {fault: sinktest.Fault{Status: 429}, want: sinks.RequestError{Status: 429}},
		"429 with seconds":       {fault: sinktest.Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}}, want: sinks.RequestError{Status: 429, RetryAfter: 7 * time.Second}},
		"429 above the limit":    {fault: sinktest.Fault{Status: 429, Body: `{"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of coordinating operation [coordinating_operation_bytes=62914919, max_coordinating_bytes=53687091]"}}`}, want: sinks.RequestError{Status: 429, Split: true}},
		"429 below the limit":    {fault: sinktest.Fault{Status: 429, Body: `{"error":{"type":"es_rejected_execution_exception","reason":"[coordinating_and_primary_bytes=53687000, coordinating_operation_bytes=6291, max_coordinating_bytes=53687091]"}}`}, want: sinks.RequestError{Status: 429}},
		"500":                    {fault: sinktest.Fault{Status: 500}, want: sinks.RequestError{Status: 500}},
		"502 HTML":               {fault: sinktest.Fault{Status: 502, Foreign: true, Body: "<html>SECRET", Header: http.Header{"Content-Type": {"text/html"}}}, want: sinks.RequestError{Status: 502}, err: "text/html"},
		"503":                    {fault: sinktest.Fault{Status: 503, Header: http.Header{"Retry-After": {"86400"}}}, want: sinks.RequestError{Status: 503, RetryAfter: 24 * time.Hour}},
		"503 nonsense":           {fault: sinktest.Fault{Status: 503, Header: http.Header{"Retry-After": {"-5"}}}, want: sinks.RequestError{Status: 503}},
		"reset before reading":   {fault: sinktest.Fault{Unread: true, ResetBefore: true}},
		"reset before storing":   {fault: sinktest.Fault{ResetBefore: true}},
		"reset after storing":    {fault: sinktest.Fault{ResetAfter: true}},
		"half an answer":         {fault: sinktest.Fault{Half: true}, want: sinks.RequestError{Status: 200}, err: "cut off"},
		"endless answer":         {fault: sinktest.Fault{Endless: true}, want: sinks.RequestError{Status: 200}, err: "too long"},
		"200 and HTML":           {fault: sinktest.Fault{Answer: text("<html>SECRET</html>")}, want: sinks.RequestError{Status: 200}, err: "not JSON"},
		"200 not Elasticsearch":  {fault: sinktest.Fault{Foreign: true}, want: sinks.RequestError{Status: 200, Misconfigured: true}, err: "not Elasticsearch"},
		"empty answer":           {fault: sinktest.Fault{Answer: text("")}, want: sinks.RequestError{Status: 200}},
		"half a JSON":            {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":201}},{"cre`)}, want: sinks.RequestError{Status: 200}},
		"no items":               {fault: sinktest.Fault{Answer: text(`{}`)}, want: sinks.RequestError{Status: 200}, err: "0 items"},
		"items null":             {fault: sinktest.Fault{Answer: text(`{"items":null}`)}, want: sinks.RequestError{Status: 200}},
		"one item short":         {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":201}}]}`)}, want: sinks.RequestError{Status: 200}, err: "1 items for 2 records"},
		"one item over":          {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":201}},{"create":{"status":201}},{"create":{"status":201}}]}`)}, want: sinks.RequestError{Status: 200}},
		"item without status":    {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":201}},{"create":{}}]}`)}, want: sinks.RequestError{Status: 200}, err: "no status"},
		"item is null":           {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":201}},null]}`)}, want: sinks.RequestError{Status: 200}},
		"item of another action": {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":201}},{"index":{"status":201}}]}`)}, want: sinks.RequestError{Status: 200}},
		"two actions in an item": {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":201}},{"create":{"status":201},"index":{"status":400}}]}`)}, want: sinks.RequestError{Status: 200}},
		"status is text":         {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":"201"}},{"create":{"status":201}}]}`)}, want: sinks.RequestError{Status: 200}},
		"trailing garbage":       {fault: sinktest.Fault{Answer: text(`{"items":[{"create":{"status":201}},{"create":{"status":201}}]}x`)}, want: sinks.RequestError{Status: 200}},
		"an error as 200":        {fault: sinktest.Fault{Answer: text(`{"error":{"type":"x"},"status":500}`)}, want: sinks.RequestError{Status: 200}},
	} {
		t.Run(name, func(t *testing.T) {
			es, s := fake(t, nil)
			var seen []int
			s.cfg.Observe = func(status int, _ time.Duration) { seen = append(seen, status) }
			es.Fail(c.fault)
			// Long enough that a server which does not read it breaks the pipe.
			big := `{"pad":"` + strings.Repeat("x", 4<<20) + `"}`
			b := batch(record(1, `{"secret":"SECRET"}`), record(2, big))
			out, err := s.Deliver(t.Context(), b, nil)
			if out != nil {
				t.Errorf("outcomes %+v of a failed request", out)
			}
			re := requestError(t, err)
			got := *re
			got.Endpoint, got.Err = "", nil
			if got != c.want {
				t.Errorf("got %+v (%v), want %+v", got, err, c.want)
			}
			if !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), s.cfg.URLs[0]) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("message %q", err)
			}
			if len(seen) != 1 || seen[0] != c.want.Status && name != "200 not Elasticsearch" {
				t.Errorf("observed %v, want one %d", seen, c.want.Status)
			}
			if n := len(es.Requests()); n != 1 {
				t.Errorf("%d requests: the client tried again by itself", n)
			}
			// And the next attempt goes well.
			out, err = s.Deliver(t.Context(), b, nil)
			if err != nil || out[0].Verdict != sinks.Ack || out[1].Verdict != sinks.Ack {
				t.Errorf("the next attempt: %+v %v", out, err)
			}
		})
	}
}

func TestCancellingEndsDeliver(t *testing.T) {
	es, s := fake(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	// The server hangs on to the request until the client is gone.
	es.Gate = func(*http.Request) *sinktest.Fault {
		cancel()
		return &sinktest.Fault{Wait: make(chan struct{})}
	}
	_, err := s.Deliver(ctx, batch(record(1, `{}`)), nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestASilentServerTimesOut(t *testing.T) {
	es, s := fake(t, func(c *Config) { c.Timeout = time.Millisecond })
	es.Fail(sinktest.Fault{Wait: make(chan struct{})})
	_, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil)
	re := requestError(t, err)
	if re.Status != 0 || re.Misconfigured || !strings.Contains(err.Error(), "no answer within 1ms") {
		t.Errorf("got %+v: %v", re, err)
	}
}

// The transport may read on after Deliver returned: it must get nothing then.
func TestNothingIsReadAfterDeliver(t *testing.T) {
	var late atomic.Pointer[http.Request]
	es, s := fake(t, nil)
	_ = es
	s.client = transportFunc(func(r *http.Request) (*http.Response, error) {
		late.Store(r)
		_, _ = r.Body.Read(make([]byte, 10)) // not to its end
		return nil, errors.New("broken")
	})
	r := record(1, `{"a":1}`)
	if _, err := s.Deliver(t.Context(), batch(r), nil); err == nil {
		t.Fatal("no error")
	}
	r.Value, r.Origin = nil, nil // as if its memory were used again
	if n, err := late.Load().Body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, httpclient.ErrStopped) {
		t.Errorf("read %d bytes after the end: %v", n, err)
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) Perform(r *http.Request) (*http.Response, error) { return f(r) }

// A whole 200 that comes before the server has read the body settles nothing.
func TestAnswerBeforeTheRequestWasRead(t *testing.T) {
	_, s := fake(t, nil)
	s.client = transportFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"X-Elastic-Product": {"Elasticsearch"}},
			Body: io.NopCloser(strings.NewReader(`{"items":[{"create":{"status":201}}]}`)),
		}, nil
	})
	if out, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil); err == nil {
		t.Errorf("settled: %+v", out)
	}
}

func TestCredentialsAreReadAgainAfter401(t *testing.T) {
	es := new(sinktest.Elasticsearch)
	var got []string
	es.Gate = func(r *http.Request) *sinktest.Fault {
		got = append(got, r.Header.Get("Authorization"))
		if r.Header.Get("Authorization") != "ApiKey new" {
			return &sinktest.Fault{Status: 401}
		}
		return nil
	}
	reads := 0
	s := serve(t, es, func(c *Config) {
		c.Authorization = func() (string, error) {
			reads++
			if reads == 1 {
				return "ApiKey old", nil
			}
			return "ApiKey new", nil
		}
	})
	_, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil)
	if re := requestError(t, err); re.Status != 401 || strings.Contains(err.Error(), "old") {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if reads != 2 || len(got) != 3 {
		t.Errorf("read %d times for the requests %q", reads, got)
	}
}

func TestUnreadableCredentialsSendNothing(t *testing.T) {
	for _, bad := range []func() (string, error){
		func() (string, error) { return "", errors.New("no such file") },
		func() (string, error) { return "ApiKey SECRET\nX-Other: 1", nil },
	} {
		es, s := fake(t, func(c *Config) { c.Authorization = bad })
		_, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil)
		if re := requestError(t, err); !re.Misconfigured || strings.Contains(err.Error(), "SECRET") || len(es.Requests()) != 0 {
			t.Errorf("%v, %d requests", err, len(es.Requests()))
		}
	}
}

func TestADeadNodeIsLeftOut(t *testing.T) {
	es := new(sinktest.Elasticsearch)
	srv := httptest.NewServer(es)
	dead := httptest.NewServer(es)
	dead.Close()
	defer srv.Close()
	s, err := New(testConfig(dead.URL, srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	failed := 0
	for i := range 10 {
		if _, err := s.Deliver(t.Context(), batch(record(int64(i), `{}`)), nil); err != nil {
			failed++
			if re := requestError(t, err); re.Endpoint != dead.URL {
				t.Errorf("endpoint %q", re.Endpoint)
			}
		}
	}
	if failed != 1 {
		t.Errorf("%d of 10 requests failed, want the first one only", failed)
	}
}

func TestTLS(t *testing.T) {
	es := new(sinktest.Elasticsearch)
	srv := httptest.NewUnstartedServer(es)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	cfg := testConfig(srv.URL)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Deliver(t.Context(), batch(record(1, `{}`)), nil)
	if re := requestError(t, err); !re.Misconfigured {
		t.Errorf("unknown authority: %+v", re)
	}
	cfg.TLS = &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	s, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err = s.Deliver(t.Context(), batch(record(1, `{}`)), nil); err != nil {
		t.Error(err)
	}
}

func TestParametersOfTheRequest(t *testing.T) {
	es, s := fake(t, func(c *Config) {
		c.Index, c.DataStream, c.Pipeline = "", "logs-edr-default", "a b&c=d"
	})
	if _, err := s.Deliver(t.Context(), batch(record(1, `{}`)), nil); err != nil {
		t.Fatal(err)
	}
	q := es.Requests()[0]
	if q.Path != "/logs-edr-default/_bulk" || q.Query != answerQuery+"&pipeline=a+b%26c%3Dd&require_data_stream=true" {
		t.Errorf("%s?%s", q.Path, q.Query)
	}
}

func TestNewSaysAllThatIsWrong(t *testing.T) {
	_, err := New(Config{
		URLs: []string{"http://user:PASSWORD@host:9200", "ftp://x", "://PASSWORD"}, Index: "a", DataStream: "b",
		Op: "update", ID: "uuid", Compression: "zstd",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"credentials in the URL", "ftp://x", "exactly one", `op "update"`, `id "uuid"`, "zstd", "timeout"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %q", want, err)
		}
	}
	if strings.Contains(err.Error(), "PASSWORD") {
		t.Errorf("a secret in %q", err)
	}
}

func TestPing(t *testing.T) {
	for _, version := range []string{"8.19.7", "9.1.0"} {
		es := &sinktest.Elasticsearch{Version: version}
		s := serve(t, es, nil)
		info, err := s.Ping(t.Context())
		if err != nil || info.Version != version || info.Cluster != "sinktest" {
			t.Errorf("%+v %v", info, err)
		}
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	s, err := New(testConfig(srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Ping(t.Context()); !requestError(t, err).Misconfigured {
		t.Error(err)
	}
}

// A key that may write and nothing else must not fail the check, and what was not
// looked at must not pass for verified. A proxy's 403 is not Elasticsearch's.
func TestPingWithoutTheRightToAsk(t *testing.T) {
	const denied = `{"error":{"type":"security_exception","reason":"action [cluster:monitor/main] is unauthorized for API key id [a] of user [elastic], ` +
		`this action is granted by the cluster privileges [monitor,manage,all]"},"status":403}`
	for _, c := range []struct {
		status int
		body   string
		fails  bool
	}{
		{403, denied, false}, {403, `{"error":{"type":"other"}}`, true}, {403, "<html>", true}, {403, "", true}, {401, denied, true}, {500, denied, true},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		s, err := New(testConfig(srv.URL))
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Ping(t.Context())
		switch {
		case c.fails && (err == nil || requestError(t, err).Status != c.status || info != Info{}):
			t.Errorf("%d %s: %+v %v", c.status, c.body, info, err)
		case !c.fails && (err != nil || info.Version != "" || !strings.Contains(info.Unverified, "version") || !strings.Contains(info.Unverified, "[monitor,manage,all]")):
			t.Errorf("%+v %v", info, err)
		}
		if found := s.Check(t.Context()); c.fails != (found[0].State == sinks.Bad) || !c.fails && (found[0].State != sinks.Doubtful || len(found) != 2) {
			t.Errorf("%d %s: %+v", c.status, c.body, found)
		}
		s.Close()
		srv.Close()
	}
}

func TestGrade(t *testing.T) {
	for _, c := range []struct {
		edit func(*Config)
		want sinks.Grade
		says string
	}{
		{func(*Config) {}, sinks.GradeA, "stored once"},
		{func(c *Config) { c.Op = "index" }, sinks.GradeA, "stored once"},
		{func(c *Config) { c.Index, c.DataStream = "", "logs" }, sinks.GradeA, "within one backing index"},
		{func(c *Config) { c.ID = "none" }, sinks.GradeB, "twice"},
		{func(c *Config) { c.ID = "key" }, sinks.GradeB, "only the first"},
		{func(c *Config) { c.ID, c.Op = "{a.b}", "index" }, sinks.GradeB, "older"},
	} {
		cfg := testConfig("http://127.0.0.1:1")
		c.edit(&cfg)
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if g, why := s.Grade(); g != c.want || !strings.Contains(why, c.says) {
			t.Errorf("%+v: %s %q", cfg, g, why)
		}
	}
}
