package front

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/testbed/torture/account"
)

// script is an account that treats every request after one plan.
type script struct {
	plan     Plan
	answered chan bool

	mu     sync.Mutex
	stored []account.Document
	// Of a backend that acknowledges.
	ackPlan  Plan
	accepted []account.Delivery
	indexed  chan int64
	doubts   []string
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.stored)
}

func (s *script) Plan(q Request) (Plan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Acks {
		return s.ackPlan, nil
	}
	return s.plan, nil
}

func (s *script) Store(d account.Delivery) ([]account.Status, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = append(s.stored, d.Documents...)
	answers := []account.Status{account.Stored, account.Exists, account.Refused, account.Busy, account.Failed}[:len(d.Documents)]
	for i := range answers {
		if account.Rejected(d.Documents[i].Event) {
			answers[i] = account.Refused
		}
	}
	return answers, 1, nil
}

func (s *script) Accept(d account.Delivery) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = append(s.accepted, d)
	return int64(len(s.accepted)), nil
}

func (s *script) Index(receipt int64) error {
	s.indexed <- receipt
	return nil
}

// doubted are the channels in doubt so far.
func (s *script) doubted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.doubts)
}

func (s *script) Doubt(channel string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubts = append(s.doubts, channel)
	return nil
}

func (s *script) Answered(_ int64, ok bool) error {
	s.answered <- ok
	return nil
}

const twoDocuments = `{"create":{"_id":"a"}}
{"kafka":{"topic":"t","partition":3,"offset":7},"n":1}
{"create":{"_id":"b"}}
{"n":2}
`

// play starts a front behind a socket, as in a run, and returns its URL.
func play(t *testing.T, p Protocol, s *script) string {
	t.Helper()
	s.answered = make(chan bool, 10)
	socket := filepath.Join(t.TempDir(), "s")
	judge, err := Listen(socket, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = judge.Close() })
	a, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { _ = p.Serve(l, a) }()
	return "http://" + l.Addr().String()
}

// send posts body and gives up after wait; 0: after a long while.
func send(t *testing.T, url, channel, body string, wait time.Duration) (status int, answer string, err error) {
	t.Helper()
	if wait == 0 {
		wait = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Splunk-Request-Channel", channel)
	req.Header.Set("Authorization", "Splunk process-1")
	res, err := new(http.Transport).RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// post sends two documents to a front of Elasticsearch.
func post(t *testing.T, s *script) (status int, body string, err error) {
	t.Helper()
	wait := time.Duration(0)
	if s.plan.Before == Never || s.plan.After == Never {
		wait = 100 * time.Millisecond
	}
	return send(t, play(t, Elasticsearch, s)+"/torture/_bulk", "", twoDocuments, wait)
}

func TestHonestAnswer(t *testing.T) {
	s := &script{}
	status, body, err := post(t, s)
	want := `{"items":[{"create":{"status":201}},{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"document already exists"}}}]}`
	if err != nil || status != 200 || body != want {
		t.Errorf("%d %s %v", status, body, err)
	}
	if !<-s.answered {
		t.Error("the answer that was given counts as lost")
	}
	if d := s.stored[0]; len(s.stored) != 2 || d.ID != "a" || d.Number != 1 || d.Topic != "t" || d.Partition != 3 || d.Offset != 7 {
		t.Errorf("stored %+v", s.stored)
	}
}

func TestSpoiltAnswers(t *testing.T) {
	f := func(p Plan, wantStatus int, wantStored bool) {
		t.Helper()
		s := &script{plan: p}
		status, body, err := post(t, s)
		// A reset can overtake what was said before it.
		if status != wantStatus && (p.After != Half || status != 0) {
			t.Errorf("%+v: %d %s %v", p, status, body, err)
		}
		if wantStored && <-s.answered {
			t.Errorf("%+v: counts as answered", p)
		}
		if n := s.count(); wantStored != (n == 2) {
			t.Errorf("%+v: stored %d", p, n)
		}
		switch {
		case p.After == Half && err == nil:
			t.Errorf("%+v: the answer is whole: %s", p, body)
		case p.After == Short && strings.Count(body, "status") != 1:
			t.Errorf("%+v: %s", p, body)
		}
	}
	f(Plan{Before: Busy}, 429, false)
	f(Plan{Before: Unavailable}, 503, false)
	f(Plan{Before: Error}, 500, false)
	f(Plan{Before: Forbidden}, 401, false)
	f(Plan{Before: HTML}, 200, false)
	f(Plan{Before: Reset}, 0, false)
	f(Plan{Before: Never}, 0, false)
	f(Plan{After: Error}, 500, true)
	f(Plan{After: HTML}, 200, true)
	f(Plan{After: Reset}, 0, true)
	f(Plan{After: Never}, 0, true)
	f(Plan{After: Short}, 200, true)
	f(Plan{After: Half}, 200, true)
}

func TestOpenSearchAnswersInItsOwnWords(t *testing.T) {
	s := &script{}
	url := play(t, OpenSearch, s)
	const five = twoDocuments + `{"create":{"_id":"c"}}
{"n":3}
{"create":{"_id":"d"}}
{"n":4}
{"create":{"_id":"e"}}
{"n":5}
`
	status, body, err := send(t, url+"/torture/_bulk", "", five, 0)
	want := `{"items":[{"create":{"status":201}},{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"document already exists"}}},` +
		`{"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse field [kind]"}}},` +
		`{"create":{"status":429,"error":{"type":"rejected_execution_exception","reason":"the write queue is full"}}},` +
		`{"create":{"status":503,"error":{"type":"unavailable_shards_exception","reason":"primary shard is not active"}}}]}`
	if err != nil || status != 200 || body != want {
		t.Errorf("%d %s %v", status, body, err)
	}
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	about, err := io.ReadAll(res.Body)
	if name := res.Header.Get("X-OpenSearch-Version"); err != nil || name != "OpenSearch/3.6.0 (opensearch)" ||
		res.Header.Get("X-Elastic-Product") != "" || !strings.Contains(string(about), `"distribution":"opensearch"`) {
		t.Errorf("says that it is %q: %s %v", name, about, err)
	}
	for how, want := range map[Spoil]string{
		Busy:        `{"error":{"type":"rejected_execution_exception","reason":"the judge says so"},"status":429}`,
		Unavailable: "OpenSearch Security not initialized.",
		Forbidden:   "Unauthorized",
		Error:       `{"error":{"type":"internal_server_error","reason":"the judge says so"},"status":500}`,
	} {
		_, body, err := send(t, play(t, OpenSearch, &script{plan: Plan{Before: how}})+"/torture/_bulk", "", twoDocuments, 0)
		if err != nil || body != want {
			t.Errorf("%s: %s %v", how, body, err)
		}
	}
}
