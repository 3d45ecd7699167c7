package httpsink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/sinks"
	"weir/sinks/sinktest"
)

// Every line of the table of what an answer becomes: of a request of one event.
func TestVerdicts(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	for _, c := range []struct {
		status        int
		header        http.Header
		body          string
		edit          func(*Config)
		want          sinks.Verdict
		misconfigured bool
		about         string
	}{
		{status: 200, want: sinks.Ack},
		{status: 201, body: "created", want: sinks.Ack},
		{status: 202, body: "{}", want: sinks.Ack},
		{status: 204, want: sinks.Ack},
		{status: 207, body: "{}", misconfigured: true},
		{status: 301, header: http.Header{"Location": {"/x"}}, misconfigured: true},
		{status: 304, misconfigured: true},
		{status: 307, header: http.Header{"Location": {"/x"}}, misconfigured: true},
		{status: 400, want: sinks.Reject},
		{status: 401, misconfigured: true},
		{status: 403, misconfigured: true},
		{status: 404, misconfigured: true},
		{status: 405, misconfigured: true},
		{status: 407, misconfigured: true},
		{status: 408},
		{status: 409, misconfigured: true},
		{status: 410, misconfigured: true},
		{status: 413, want: sinks.Reject},
		{status: 415, misconfigured: true},
		{status: 418, misconfigured: true},
		{status: 422, want: sinks.Reject},
		{status: 425},
		{status: 429},
		{status: 500},
		{status: 501},
		{status: 503},
		{status: 599},
		{status: 999},

		{status: 200, header: html, body: "OK", misconfigured: true, about: "HTML by its type"},
		{status: 200, body: "  <!DOCTYPE html><title>Log in</title>", misconfigured: true, about: "HTML by its looks"},
		{status: 200, header: html, want: sinks.Ack, about: "nothing, of type HTML"},
		{status: 200, header: html, body: "OK", edit: func(c *Config) { c.AnswerType = "text/html" }, want: sinks.Ack, about: "HTML that is wanted"},
		{status: 200, header: http.Header{"Content-Type": {"text/plain"}}, body: "{}", edit: func(c *Config) { c.AnswerType = "application/json" }, misconfigured: true},
		{status: 200, header: http.Header{"Content-Type": {"Application/JSON; x=y"}}, body: "{}", edit: func(c *Config) { c.AnswerType = "application/json" }, want: sinks.Ack},
		{status: 409, header: html, body: "OK", edit: verdicts("409", "ack"), misconfigured: true, about: "HTML counts for nothing anywhere"},

		{status: 409, edit: verdicts("409", "ack"), want: sinks.Ack},
		{status: 409, edit: verdicts("400-499", "split"), want: sinks.Reject},
		{status: 409, edit: verdicts("400-499", "retry")},
		{status: 409, edit: func(c *Config) { c.MaxRecords = 1; verdicts("409", "reject")(c) }, want: sinks.Reject},
		{status: 409, edit: verdicts("409", "retry", "400-499", "split"), about: "the first that fits"},
		{status: 200, edit: verdicts("200", "misconfigured"), misconfigured: true},
		{status: 201, edit: verdicts("200", "misconfigured"), want: sinks.Ack},
		{status: 500, edit: verdicts("500-599", "misconfigured"), misconfigured: true},

		{status: 200, body: `{}`, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: ``, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: `{"a":null}`, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: `{"a":{"b":0}}`, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: `{"a":{"b":"0"}}`, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: `{"a":{"b":""}}`, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: `{"a":{"b":false}}`, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: `{"a":{"b":[]}}`, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: `{"a":{"b":{}}}`, edit: refusedAt("a.b"), want: sinks.Ack},
		{status: 200, body: `{"a":{"b":"1"}}`, edit: refusedAt("a.b"), want: sinks.Reject},
		{status: 200, body: `{"a":{"b":1}}`, edit: refusedAt("a.b"), want: sinks.Reject},
		{status: 200, body: `{"a":{"b":-1}}`, edit: refusedAt("a.b"), want: sinks.Reject},
		{status: 200, body: `{"a":{"b":true}}`, edit: refusedAt("a.b"), want: sinks.Reject},
		{status: 200, body: `{"a":{"b":[1]}}`, edit: refusedAt("a.b"), want: sinks.Reject},
		{status: 200, body: `{"a":{"b":{"c":0}}}`, edit: refusedAt("a.b"), want: sinks.Reject},
		{status: 200, body: `{"a":5}`, edit: refusedAt("a.b"), misconfigured: true},
		{status: 200, body: `[]`, edit: refusedAt("a.b"), misconfigured: true},
		{status: 200, body: `null`, edit: refusedAt("a.b"), misconfigured: true},
		{status: 200, body: `{"a":{"b":0}`, edit: refusedAt("a.b"), misconfigured: true},
		{status: 200, body: `ok`, edit: refusedAt("a.b"), misconfigured: true},
	} {
		t.Run(fmt.Sprint(c.status, c.body, c.about), func(t *testing.T) {
			const secret = "EVENT-CONTENT"
			for _, include := range []bool{false, true} {
				s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					for k, v := range c.header {
						w.Header()[k] = v
					}
					w.WriteHeader(c.status)
					body := c.body
					if body == "" && c.status >= 400 {
						body = secret
					}
					_, _ = w.Write([]byte(body))
				}), func(cfg *Config) {
					cfg.IncludeReasons = include
					if c.edit != nil {
						c.edit(cfg)
					}
				})
				out, err := s.Deliver(t.Context(), numbered(1), nil)
				var said string
				if c.want == sinks.Retry {
					var re *sinks.RequestError
					if !errors.As(err, &re) || re.Status != c.status || re.Split || re.Misconfigured != c.misconfigured || re.Endpoint == "" {
						t.Fatalf("got %+v, %#v", out, err)
					}
					said = re.Error()
				} else {
					if err != nil || out[0].Verdict != c.want || out[0].Status != c.status {
						t.Fatalf("got %+v, %v, want %s", out, err, c.want)
					}
					said = out[0].Reason
				}
				if strings.Contains(said, secret) != (include && c.status >= 400 && c.body == "" && c.want != sinks.Ack) {
					t.Errorf("%q with IncludeReasons %v", said, include)
				}
			}
		})
	}
}

func verdicts(pairs ...string) func(*Config) {
	return func(c *Config) {
		for i := 0; i < len(pairs); i += 2 {
			c.Verdicts = append(c.Verdicts, StatusVerdict{pairs[i], pairs[i+1]})
		}
	}
}

func refusedAt(path string) func(*Config) { return func(c *Config) { c.AnswerRefused = path } }

// bad makes an intake refuse the events that hold one of numbers, with status.
func bad(status int, numbers ...int) func(json.RawMessage) int {
	return func(e json.RawMessage) int {
		for _, n := range numbers {
			if string(e) == fmt.Sprintf(`{"n":%d}`, n) {
				return status
			}
		}
		return 0
	}
}

// One bad event among many good ones: it alone is rejected, and every good one is
// stored once, since the requests that held the bad one stored nothing.
func TestTheOneBadEventIsFoundOut(t *testing.T) {
	for _, status := range []int{400, 413, 422} {
		for _, perRequest := range []int{0, 7, 1} {
			h := sinktest.NewArrayIntake()
			h.Verdict = bad(status, 13, 500)
			s := serve(t, h, func(c *Config) { c.MaxRecords = perRequest })
			out := deliver(t, s, numbered(1000))
			for i, o := range out {
				want := sinks.Ack
				if i == 13 || i == 500 {
					want = sinks.Reject
				}
				if o.Verdict != want {
					t.Fatalf("status %d, %d a request: record %d: %+v", status, perRequest, i, o)
				}
				if n := h.Count(fmt.Sprintf(`{"n":%d}`, i)); (n == 1) != (want == sinks.Ack) {
					t.Fatalf("status %d, %d a request: record %d is stored %d times", status, perRequest, i, n)
				}
			}
			inOrder(t, h)
		}
	}
}

func TestAPartialSuccessIsFoundOut(t *testing.T) {
	h := sinktest.NewArrayIntake()
	h.Verdict = bad(sinktest.Refused, 3)
	h.Answer = func(refused int) (int, string) { return 200, fmt.Sprintf(`{"p":{"refused":%d}}`, refused) }
	s := serve(t, h, refusedAt("p.refused"))
	out := deliver(t, s, numbered(16))
	if out[3].Verdict != sinks.Reject || count(out, sinks.Ack) != 15 {
		t.Fatalf("%+v", out)
	}
	// An accepted neighbour is stored again with each halving, as documented.
	for i, want := range map[int]int{3: 0, 2: 5, 8: 2, 15: 2} {
		if n := h.Count(fmt.Sprintf(`{"n":%d}`, i)); n != want {
			t.Errorf("event %d is stored %d times, want %d", i, n, want)
		}
	}
}

// A request that fails ends the batch: what was acknowledged stays, what was not
// sent is to be retried.
func TestAFailureEndsTheBatch(t *testing.T) {
	f := func(status int, note sinks.Note) {
		t.Helper()
		h := sinktest.NewArrayIntake()
		h.Fail(sinktest.Fault{}, sinktest.Fault{}, sinktest.Fault{Status: status})
		s := serve(t, h, func(c *Config) { c.MaxRecords, c.Parallel = 10, 1 })
		out := deliver(t, s, numbered(100))
		for i, o := range out {
			if i < 20 && o.Verdict != sinks.Ack || i >= 20 && (o.Verdict != sinks.Retry || o.Note != note || o.Status != status) {
				t.Fatalf("status %d: record %d: %+v", status, i, o)
			}
		}
		if n := len(h.Requests()); n != 3 {
			t.Errorf("status %d: %d requests, want 3: the server was asked again though it had refused", status, n)
		}
	}
	f(429, sinks.Overloaded)
	f(503, sinks.Overloaded)
	f(500, sinks.InDoubt)
	f(401, sinks.Misconfigured)
}

func TestAFirstFailureIsTheWholeBatchs(t *testing.T) {
	h := sinktest.NewArrayIntake()
	h.Fail(sinktest.Fault{Status: 429, Header: http.Header{"Retry-After": {"17"}}})
	s := serve(t, h, func(c *Config) { c.MaxRecords, c.Parallel = 10, 1 })
	if e := failed(t, s, numbered(100)); e.Status != 429 || e.RetryAfter != 17*time.Second || e.Split {
		t.Errorf("%+v", e)
	}
}

// An Outcome has no place for a Retry-After: the sink keeps it for the next
// attempt.
func TestRetryAfterOfALaterRequestIsObeyed(t *testing.T) {
	h := sinktest.NewArrayIntake()
	h.Fail(sinktest.Fault{}, sinktest.Fault{Status: 429, Header: http.Header{"Retry-After": {"3000"}}})
	s := serve(t, h, func(c *Config) { c.MaxRecords, c.Parallel = 1, 1 })
	if out := deliver(t, s, numbered(3)); count(out, sinks.Ack) != 1 {
		t.Fatalf("%+v", out)
	}
	e := failed(t, s, numbered(3))
	if e.Status != 429 || e.RetryAfter <= 0 || e.RetryAfter > 3000*time.Second || len(h.Requests()) != 2 {
		t.Errorf("%+v after %d requests", e, len(h.Requests()))
	}
}

func TestRequestsOfABatchAreBoundedInNumber(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	full := make(chan struct{})
	enter := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		now += by
		if most < now {
			most = now
			if most == 3 {
				close(full)
			}
		}
	}
	s := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		enter(1)
		defer enter(-1)
		<-full // nobody gets any further before there are three
	}), func(c *Config) { c.Framing, c.Parallel = framingSingle, 3 })
	if out := deliver(t, s, numbered(50)); count(out, sinks.Ack) != 50 || most != 3 {
		t.Errorf("%d at a time, want 3", most)
	}
}

// What a batch that takes long has acknowledged must not wait for its rest.
func TestALongBatchIsEndedOnceSomethingIsSettled(t *testing.T) {
	h := sinktest.NewArrayIntake()
	s := serve(t, h, func(c *Config) { c.MaxRecords, c.Parallel = 1, 1 })
	d := &delivery{sink: s, outcomes: make([]sinks.Outcome, 5), begun: time.Now().Add(-time.Hour)}
	items := s.measure(numbered(5).Records, d)
	for i := range *items {
		d.send(t.Context(), (*items)[i:i+1])
	}
	out, err := d.result(t.Context(), 5)
	if err != nil || out[0].Verdict != sinks.Ack || count(out, sinks.Ack) != 1 || count(out, sinks.Retry) != 4 {
		t.Errorf("%+v %v", out, err)
	}
}

func TestTheEndOfTheContextEndsDeliver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	arrived, hold := make(chan struct{}, 100), make(chan struct{})
	defer close(hold)
	s := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client is gone
		arrived <- struct{}{}
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}), func(c *Config) { c.MaxRecords = 1 })
	go func() {
		<-arrived
		cancel()
	}()
	if out, err := s.Deliver(ctx, numbered(10), nil); err == nil {
		t.Errorf("%+v", out)
	}
	if out, err := s.Deliver(ctx, numbered(10), nil); err == nil {
		t.Errorf("with a context that is over: %+v", out)
	}
}

// The acknowledgements that came before the context ended are not lost.
func TestAcknowledgementsOutliveTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var requests atomic.Int32
	s := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if requests.Add(1) == 3 {
			cancel()
			<-r.Context().Done()
		}
	}), func(c *Config) { c.MaxRecords, c.Parallel = 1, 1 })
	out, err := s.Deliver(ctx, numbered(10), nil)
	if err != nil || count(out, sinks.Ack) != 2 || count(out, sinks.Retry) != 8 {
		t.Errorf("%+v %v", out, err)
	}
}

func TestNoAnswerSettlesNothing(t *testing.T) {
	f := func(about string, fault sinktest.Fault) {
		t.Helper()
		h := sinktest.NewArrayIntake()
		h.Fail(fault)
		s := serve(t, h, nil)
		if e := failed(t, s, numbered(100)); e.Split {
			t.Errorf("%s: %+v", about, e)
		}
		if out := deliver(t, s, numbered(100)); count(out, sinks.Ack) != 100 {
			t.Errorf("%s: not delivered the second time", about)
		}
	}
	f("reset before", sinktest.Fault{ResetBefore: true})
	f("reset after", sinktest.Fault{ResetAfter: true})
	f("reset before the request was read", sinktest.Fault{ResetBefore: true, Unread: true})
	f("half an answer", sinktest.Fault{Half: true})
	f("an answer without end", sinktest.Fault{Endless: true})
}

// A success that comes before the request was read is none.
func TestAnEarlySuccessIsNotBelieved(t *testing.T) {
	h := sinktest.NewArrayIntake()
	s := serve(t, h, func(c *Config) { c.Event = `{"t":{event_text}}` })
	h.Fail(sinktest.Fault{Unread: true, Status: 200, Body: "{}", Header: http.Header{"Connection": {"close"}}})
	b := batch(record(0, strings.Repeat("x", 32<<20))) // more than fits between the two
	if e := failed(t, s, b); e.Status != 200 {
		t.Errorf("%+v", e)
	}
}

// A refusal that comes before the request was read is: that of a proxy, say.
func TestAnEarlyRefusalIsBelieved(t *testing.T) {
	h := sinktest.NewArrayIntake()
	s := serve(t, h, func(c *Config) { c.Event = `{"t":{event_text}}` })
	h.Fail(sinktest.Fault{Unread: true, Status: 413, Header: http.Header{"Connection": {"close"}}})
	b := batch(record(0, strings.Repeat("x", 32<<20)))
	if out := deliver(t, s, b); out[0].Verdict != sinks.Reject || out[0].Status != 413 {
		t.Errorf("%+v", out)
	}
}

func TestEachRequestIsObserved(t *testing.T) {
	var got []int
	h := sinktest.NewArrayIntake()
	h.Fail(sinktest.Fault{}, sinktest.Fault{Status: 400}, sinktest.Fault{ResetBefore: true})
	s := serve(t, h, func(c *Config) {
		c.MaxRecords, c.Parallel = 2, 1
		c.Observe = func(status int, _ time.Duration) { got = append(got, status) }
	})
	_, _ = s.Deliver(t.Context(), numbered(4), nil)
	if fmt.Sprint(got) != "[200 400 0]" {
		t.Errorf("%d", got)
	}
}
