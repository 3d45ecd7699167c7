package demo

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"
)

var instant = mood{name: "instant", slots: 8}

func newSIEM(t *testing.T, m mood) *siem {
	t.Helper()
	s, err := startSIEM()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	s.set(m)
	return s
}

func post(t *testing.T, url string, body io.Reader, change ...func(*http.Request)) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

// bulk posts body and returns the status of each item.
func bulk(t *testing.T, s *siem, body string) []int {
	t.Helper()
	resp, err := post(t, s.url+"/_bulk", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var a bulkAnswer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	var got []int
	failed := false
	for _, it := range a.Items {
		for _, v := range it {
			got = append(got, v.Status)
			failed = failed || v.Status > 299
			if (v.Status > 299) != (v.Error.Type != "") {
				t.Errorf("status %d with the error %q", v.Status, v.Error.Type)
			}
		}
	}
	if a.Errors != failed {
		t.Errorf("errors is %t for %v", a.Errors, got)
	}
	return got
}

func doc(op, id string, n int) string {
	return fmt.Sprintf(`{"%s":{"_index":"security-edr.events","_id":"%s"}}`+"\n"+`{"event":{"id":"demo-%010d"},"destination":{"port":443}}`+"\n", op, id, n)
}

func TestBulkStoresAnIdOnce(t *testing.T) {
	s := newSIEM(t, instant)
	if got := fmt.Sprint(bulk(t, s, doc("create", "a", 1)+doc("create", "b", 2)+doc("create", "a", 1))); got != "[201 201 409]" {
		t.Errorf("got %s", got)
	}
	if got := fmt.Sprint(bulk(t, s, doc("create", "b", 2)+doc("index", "b", 2)+doc("create", "c", 2))); got != "[409 201 201]" {
		t.Errorf("got %s", got)
	}
	_, c := s.state()
	if c.Stored != 4 || c.Refused != 2 || c.Twice != 1 || s.stored.len() != 2 {
		t.Errorf("counted %+v and %d events", c, s.stored.len())
	}
}

func TestBulkRefusesWhatDoesNotFitTheMapping(t *testing.T) {
	s := newSIEM(t, instant)
	body := doc("create", "a", 1) +
		`{"create":{"_id":"b"}}` + "\n" + `{"event":{"id":"demo-0000000002"},"destination":{"port":"https"}}` + "\n" +
		`{"create":{"_id":"c"}}` + "\n" + `{"event":{"original":"a \"port\":\"x\" in text demo-0000000003"}}` + "\n" +
		`{"create":{"_id":"d"}}` + "\n" + `not json demo-0000000004` + "\n" +
		`{"create":{"_id":"e"}}` + "\n" + `["demo-0000000005"]` + "\n"
	if got := fmt.Sprint(bulk(t, s, body)); got != "[201 400 201 400 400]" {
		t.Errorf("got %s", got)
	}
	if s.stored.len() != 2 {
		t.Errorf("%d events are stored, want 2", s.stored.len())
	}
}

func TestBulkThatIsWrongAsAWholeIsRefusedAsAWhole(t *testing.T) {
	s := newSIEM(t, instant)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"empty":     {"", 400},
		"no action": {"{}\n{}\n", 400},
		"delete":    {`{"delete":{"_id":"a"}}` + "\n", 400},
		"html":      {"<html>\n", 400},
		"too large": {`{"create":{"_id":"a"}}` + "\n" + strings.Repeat("x", maxLine+1) + "\n", 413},
		"too many":  {strings.Repeat(`{"create":{}}`+"\n"+strings.Repeat("x", maxLine/2)+"\n", 5), 413},
	} {
		resp, err := post(t, s.url+"/security/_bulk", strings.NewReader(c.body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if resp.StatusCode != c.status {
			t.Errorf("%s: got %d, want %d", name, resp.StatusCode, c.status)
		}
	}
}

func TestBulkTakesGzip(t *testing.T) {
	s := newSIEM(t, instant)
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	_, _ = io.WriteString(z, doc("create", "a", 9))
	_ = z.Close()
	resp, err := post(t, s.url+"/_bulk", &body, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") })
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || s.stored.len() != 1 {
		t.Errorf("status %d, %d events stored", resp.StatusCode, s.stored.len())
	}
}

func TestClientsTakeItForElasticsearch(t *testing.T) {
	s := newSIEM(t, instant)
	resp, err := http.Get(s.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var info struct{ Version struct{ Number string } }
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("X-Elastic-Product") != "Elasticsearch" || !strings.HasPrefix(info.Version.Number, "8.") {
		t.Errorf("product %q, version %q", resp.Header.Get("X-Elastic-Product"), info.Version.Number)
	}
}

func TestOverloadedAnswers429(t *testing.T) {
	m := instant
	m.slots = 1
	s := newSIEM(t, m)
	first := startUpload(t, s)
	resp, err := post(t, s.url+"/_bulk", strings.NewReader(doc("create", "b", 2)))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the second request at a time got %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if err := first.finish(doc("create", "a", 1)); err != nil {
		t.Errorf("the first request failed: %v", err)
	}
	if got := fmt.Sprint(bulk(t, s, doc("create", "b", 2))); got != "[201]" {
		t.Errorf("with the place free again: %s", got)
	}
	m.busy = 1
	s.set(m)
	if got := fmt.Sprint(bulk(t, s, doc("create", "c", 3))); got != "[429]" {
		t.Errorf("busy: %s", got)
	}
	if got := s.stored.len(); got != 2 {
		t.Errorf("%d events are stored, want 2", got)
	}
}

func TestWorkWaitsForAFreeWorker(t *testing.T) {
	s := &siem{mood: mood{name: "slow", workers: 2, doc: time.Second}}
	var got []time.Duration
	for range 4 {
		got = append(got, s.work(noon, 3))
	}
	got = append(got, s.work(noon.Add(5*time.Second), 1))
	s.set(mood{name: "slow", workers: 1, doc: time.Second})
	got = append(got, s.work(noon.Add(5*time.Second), 1), s.work(noon.Add(20*time.Second), 1))
	s.set(mood{name: "well", workers: 1, doc: time.Millisecond})
	got = append(got, s.work(noon.Add(20*time.Second), 1))
	if want := "[3s 3s 6s 6s 2s 3s 1s 1ms]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestOutageTurnsEveryRequestAway(t *testing.T) {
	s := newSIEM(t, mood{slots: 8, fault: unavailable})
	resp, err := post(t, s.url+"/_bulk", strings.NewReader(doc("create", "a", 1)))
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("unavailable: %v, %v", resp, err)
	}
	s.set(mood{slots: 8, fault: reset})
	for id, want := range []int64{1, 1, 1} {
		if resp, err := post(t, s.url+"/_bulk", strings.NewReader(doc("create", fmt.Sprint(id), id))); err == nil {
			t.Errorf("reset: got %s", resp.Status)
		}
		if got := s.stored.len(); got != want {
			t.Errorf("after %d cut requests %d events are stored, want %d: that of the first one", id+1, got, want)
		}
	}
}

func TestAnswerLostInAnOutageLeavesTheDocumentsStored(t *testing.T) {
	s := newSIEM(t, instant)
	up := startUpload(t, s)
	s.set(mood{fault: reset})
	if err := up.finish(doc("create", "a", 1) + doc("create", "b", 2)); err == nil {
		t.Error("the request was answered")
	}
	s.set(instant)
	if got := fmt.Sprint(bulk(t, s, doc("create", "a", 1)+doc("create", "b", 2)+doc("create", "c", 3))); got != "[409 409 201]" {
		t.Errorf("sent again: %s", got)
	}
}

func TestIdsAreForgottenOnlyAfterMillions(t *testing.T) {
	ids := newIDSet()
	for i := range idsKept + idsKept/2 {
		if !ids.add(fmt.Sprint(i)) {
			t.Fatalf("id %d is said to be there", i)
		}
	}
	for i := idsKept / 2; i < idsKept+idsKept/2; i += 1000 {
		if ids.add(fmt.Sprint(i)) {
			t.Fatalf("id %d was forgotten", i)
		}
	}
	if n := len(ids.now) + len(ids.old); n > 2*idsKept {
		t.Errorf("%d ids are kept", n)
	}
}

// upload is a bulk request that is being served: its place is taken, and its
// body is not there yet.
type upload struct {
	body *io.PipeWriter
	done chan error
}

func startUpload(t *testing.T, s *siem) upload {
	t.Helper()
	r, w := io.Pipe()
	u := upload{body: w, done: make(chan error, 1)}
	entered := make(chan struct{})
	// The server asks for the body when the handler reads it, behind the place.
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(entered) }})
	go func() {
		tr := &http.Transport{ExpectContinueTimeout: time.Minute}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/_bulk", r)
		if err != nil {
			u.done <- err
			return
		}
		req.Header.Set("Expect", "100-continue")
		resp, err := tr.RoundTrip(req)
		if err == nil {
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
		}
		u.done <- err
	}()
	select {
	case <-entered:
	case err := <-u.done:
		t.Fatal("the request ended before its body was asked for: ", err)
	}
	return u
}

func (u upload) finish(body string) error {
	go func() {
		_, _ = io.WriteString(u.body, body)
		_ = u.body.Close()
	}()
	return <-u.done
}
