package splunk

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"weir/sinks/sinktest"
)

// quotingAcks is a collector whose answers to questions about acknowledgements,
// but for the first, end in what it was sent, where no part of an answer is.
type quotingAcks struct {
	hec *sinktest.Splunk

	mu    sync.Mutex
	asked int
}

func (q *quotingAcks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	if strings.HasSuffix(r.URL.Path, "/ack") {
		q.asked++
	}
	quote := strings.HasSuffix(r.URL.Path, "/ack") && q.asked > 1
	q.mu.Unlock()
	if !quote {
		q.hec.ServeHTTP(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"+
		r.Header.Get("Authorization")+" \x1b[31m"+strings.Repeat(" is wrong", 3000)+"\r\n\r\n")
}

func TestATrailerOfAnAcknowledgementThatQuotesTheTokenIsNotShown(t *testing.T) {
	srv := httptest.NewServer(&quotingAcks{hec: &sinktest.Splunk{Acks: true}})
	t.Cleanup(srv.Close)
	cfg := testConfig(srv.URL)
	cfg.Ack, cfg.AckTimeout = ackRequired, 300*time.Millisecond
	s := make1(t, cfg)
	t.Cleanup(s.Close)
	s.pace.pollMin, s.pace.pollMax = time.Millisecond, 10*time.Millisecond
	_, err := deliver(t, s, record(1, `{"a":1}`))
	if err == nil || !strings.Contains(err.Error(), "asking for it") {
		t.Fatalf("error %v, want one that says why there is no acknowledgement", err)
	}
	harmless(t, err)
}

func TestAnAnswerThatIsNoHTTPAndQuotesTheTokenIsNotShown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, r.Header.Get("Authorization")+"\x1b[31m is wrong\r\n\r\n")
			}
			_ = conn.Close()
		}
	}()
	s := make1(t, testConfig("http://"+l.Addr().String()))
	t.Cleanup(s.Close)
	_, err = deliver(t, s, record(1, `{"a":1}`))
	if err == nil {
		t.Fatal("delivered")
	}
	harmless(t, err)
}

// harmless checks that an error is fit for a log.
func harmless(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); len(text) > 1000 || strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, testToken) {
		t.Errorf("not fit for a log: %q", text)
	}
}

// Whatever cookies a load balancer sets, there are few of them, none is long, and
// what is sent back is one header that holds nothing else.
func FuzzCookies(f *testing.F) {
	for _, s := range []string{
		"a=1", "a=1; Path=/; Max-Age=0", "a=\"x y\"", "AWSALB=abc; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "=", ";", "a", "a=b=c", "a=\x00", "a=é",
		"a=1\nb=2\nc=3\nd=4\ne=5\nf=6\ng=7\nh=8\ni=9", "a=" + strings.Repeat("x", 5000), "a=1; Max-Age=-99999999999999999999",
	} {
		f.Add("a=0", s)
		f.Add(s, "a=1; Max-Age=0")
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		set := func(text string) http.Header { return http.Header{"Set-Cookie": strings.Split(text, "\n")} }
		old, _ := renewed(nil, set(before))
		now, elsewhere := renewed(old, set(after))
		names := map[string]bool{}
		for _, c := range now {
			if names[c.Name] || len(c.Name)+len(c.Value) > maxCookie {
				t.Fatalf("%q twice, or %d bytes", c.Name, len(c.Value))
			}
			names[c.Name] = true
		}
		if len(now) > maxCookies {
			t.Fatalf("%d cookies", len(now))
		}
		if len(now) != len(old) && !elsewhere {
			t.Fatal("other cookies, and they lead to the same place")
		}
		if again, moved := renewed(now, http.Header{}); moved || len(again) != len(now) {
			t.Fatal("without a cookie they changed")
		}
		// As header makes it.
		var pairs []string
		for _, c := range now {
			pairs = append(pairs, c.String())
		}
		sent := strings.Join(pairs, "; ")
		if strings.ContainsAny(sent, "\r\n\x00") {
			t.Fatalf("%q", sent)
		}
		if got := (&http.Request{Header: http.Header{"Cookie": {sent}}}).Cookies(); len(pairs) > 0 && len(got) != len(now) {
			t.Fatalf("%q is read as %d cookies, %d were kept", sent, len(got), len(now))
		}
	})
}
