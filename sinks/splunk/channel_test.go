package splunk

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/sinks/sinktest"
)

// A collector that crashes loses what it has accepted, and counts from 0 again:
// the next request's id is that of the lost one.
func TestRestartConfirmsNothingThatWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hec := &sinktest.Splunk{Acks: true, Delay: 2 * time.Second}
		var n network
		defer n.add("a", hec)()
		s := n.sink(t, nil, "a")
		defer s.Close()
		lost := make(chan error)
		go func() {
			_, err := deliver(t, s, record(1, `{"a":1}`))
			lost <- err
		}()
		time.Sleep(time.Second)
		hec.Restart()
		_, second := deliver(t, s, record(2, `{"a":1}`))
		first := <-lost
		if first == nil && hec.Copies(coordinate("1")) == 0 {
			t.Error("acknowledged by another request's id")
		}
		if second == nil && hec.Copies(coordinate("2")) == 0 {
			t.Error("acknowledged, and not there")
		}
		mustDeliver(t, s, record(1, `{"a":1}`), record(2, `{"a":1}`))
	})
}

// The same, when the question is answered before the request that took the id.
func TestRestartWhileARequestIsUnderWay(t *testing.T) {
	for name, reset := range map[string]bool{"answered": false, "lost": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hec := &sinktest.Splunk{Acks: true, Delay: time.Second}
				// Its answer takes longer than the next question.
				late := &lateAnswer{Handler: hec, reset: reset, number: 2, delay: 4 * time.Second}
				var n network
				defer n.add("a", late)()
				s := n.sink(t, nil, "a")
				defer s.Close()
				lost := make(chan error)
				go func() {
					_, err := deliver(t, s, record(1, `{"a":1}`))
					lost <- err
				}()
				time.Sleep(600 * time.Millisecond)
				hec.Restart()
				_, second := deliver(t, s, record(2, `{"a":1}`))
				if first := <-lost; first == nil && hec.Copies(coordinate("1")) == 0 {
					t.Error("acknowledged by another request's id")
				}
				if second == nil && hec.Copies(coordinate("2")) == 0 {
					t.Error("acknowledged, and not there")
				}
			})
		})
	}
}

// A request whose answer was lost may have the id that another one is told, when
// the collector was restarted between the two.
func TestIDThatALostRequestMayHave(t *testing.T) {
	s := serve(t, &sinktest.Splunk{Acks: true}, nil)
	ch, err := s.open(t.Context(), s.endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := s.begin(ch), s.begin(ch), s.begin(ch)
	s.lost(ch, first)
	if _, err := s.promised(ch, second, 0); err == nil {
		t.Error("waits for id 0")
	}
	if _, err := s.promised(ch, third, 1); err != nil {
		t.Error(err)
	}
}

// lateAnswer holds back, or breaks off, the answer to one request with events,
// which is carried out at once.
type lateAnswer struct {
	http.Handler
	number int
	delay  time.Duration
	reset  bool

	mu   sync.Mutex
	seen int
}

func (l *lateAnswer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	if strings.HasSuffix(r.URL.Path, "/event") {
		l.seen++
	}
	late := l.seen == l.number && strings.HasSuffix(r.URL.Path, "/event")
	l.mu.Unlock()
	if !late {
		l.Handler.ServeHTTP(w, r)
		return
	}
	l.Handler.ServeHTTP(slow{w, l}, r)
}

type slow struct {
	http.ResponseWriter
	late *lateAnswer
}

func (s slow) WriteHeader(status int) {
	time.Sleep(s.late.delay)
	if s.late.reset {
		panic(http.ErrAbortHandler)
	}
	s.ResponseWriter.WriteHeader(status)
}

// balancer sends each client to one of several collectors, by a cookie.
type balancer struct {
	backends []*sinktest.Splunk
	cookie   string // its name; empty: no sessions at all

	mu   sync.Mutex
	turn int
	down map[int]bool
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	at := -1
	if c, err := r.Cookie(b.cookie); b.cookie != "" && err == nil {
		_, _ = fmt.Sscanf(c.Value, "backend-%d", &at)
	}
	if at < 0 || b.down[at] {
		for {
			at = b.turn % len(b.backends)
			b.turn++
			if !b.down[at] {
				break
			}
		}
		if b.cookie != "" {
			w.Header().Add("Set-Cookie", fmt.Sprintf("%s=backend-%d; path=/; HttpOnly", b.cookie, at))
		}
	}
	rolling := strings.HasPrefix(b.cookie, "AWSALB")
	if rolling {
		b.turn++
		w.Header().Set("Set-Cookie", fmt.Sprintf("%s=backend-%d-%d; path=/", b.cookie, at, b.turn))
	}
	b.mu.Unlock()
	b.backends[at].ServeHTTP(w, r)
}

func TestStickyCookieLeadsBack(t *testing.T) {
	for _, cookie := range []string{"AWSELB", "AWSALB", "sticky"} {
		t.Run(cookie, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := &sinktest.Splunk{Acks: true}, &sinktest.Splunk{Acks: true}
				lb := &balancer{backends: []*sinktest.Splunk{a, b}, cookie: cookie}
				var n network
				defer n.add("lb", lb)()
				s := n.sink(t, nil, "lb")
				defer s.Close()
				for i := range 20 {
					mustDeliver(t, s, record(int64(i), `{"a":1}`))
				}
				if len(a.Events())+len(b.Events()) != 20 {
					t.Errorf("%d and %d events", len(a.Events()), len(b.Events()))
				}
			})
		})
	}
}

// A new cookie in the answer to a question, or to other events: what was sent
// under the old one is sent again, at once, through a new channel.
func TestNewCookieSendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &sinktest.Splunk{Acks: true, Delay: time.Hour}, &sinktest.Splunk{Acks: true}
		lb := &balancer{backends: []*sinktest.Splunk{a, b}, cookie: "sticky"}
		var n network
		defer n.add("lb", lb)()
		s := n.sink(t, nil, "lb")
		defer s.Close()
		failed := make(chan error)
		go func() {
			_, err := deliver(t, s, record(1, `{"a":1}`))
			failed <- err
		}()
		time.Sleep(time.Minute)
		lb.mu.Lock()
		lb.down = map[int]bool{0: true}
		lb.mu.Unlock()
		begun := time.Now()
		err := <-failed
		if re := requestError(t, err); !strings.Contains(err.Error(), "cookie") || re.Misconfigured {
			t.Errorf("%+v", re)
		}
		if took := time.Since(begun); took > 11*time.Second {
			t.Errorf("noticed after %s", took)
		}
		mustDeliver(t, s, record(1, `{"a":1}`))
		channels := map[string]bool{}
		for _, hec := range lb.backends {
			for _, r := range hec.Requests() {
				if strings.HasSuffix(r.Path, "/event") {
					channels[r.Header.Get("X-Splunk-Request-Channel")] = true
				}
			}
		}
		if len(channels) != 2 {
			t.Errorf("%d channels", len(channels))
		}
	})
}

// Without sessions the ids of several collectors meet in one channel. Nothing is
// acknowledged by the wrong one, and the error says what is wrong.
func TestBalancerWithoutSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &sinktest.Splunk{Acks: true}, &sinktest.Splunk{Acks: true, Delay: 24 * time.Hour} // b loses all
		lb := &balancer{backends: []*sinktest.Splunk{a, b}}
		var n network
		defer n.add("lb", lb)()
		s := n.sink(t, nil, "lb")
		defer s.Close()
		said := false
		for i := range 40 {
			_, err := deliver(t, s, record(int64(i), `{"a":1}`))
			if err == nil && a.Copies(coordinate(fmt.Sprint(i))) == 0 {
				t.Errorf("offset %d is acknowledged, and not there", i)
			}
			said = said || err != nil && strings.Contains(err.Error(), "sticky")
		}
		if !said {
			t.Error("nobody is told")
		}
	})
}

func TestChannelOfEachEndpointIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &sinktest.Splunk{Acks: true}, &sinktest.Splunk{Acks: true}
		var n network
		defer n.add("a", a)()
		defer n.add("b", b)()
		s := n.sink(t, nil, "a", "b")
		defer s.Close()
		for i := range 10 {
			mustDeliver(t, s, record(int64(i), `{"a":1}`))
		}
		of := func(hec *sinktest.Splunk) string {
			t.Helper()
			channels := map[string]bool{}
			for _, r := range hec.Requests() {
				channels[r.Header.Get("X-Splunk-Request-Channel")] = true
			}
			if len(channels) != 1 || len(hec.Events()) != 5 {
				t.Errorf("%d channels, %d events", len(channels), len(hec.Events()))
			}
			for c := range channels {
				return c
			}
			return ""
		}
		if of(a) == of(b) {
			t.Error("the same channel")
		}
	})
}
