package elastic

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"weir/sinks"
)

// hostile is a server that does what say does with each connection, once the
// request was read, and a sink that writes to it. say gets a writer that stops
// with the test or when the other side is gone.
func hostile(t *testing.T, timeout time.Duration, say func(w io.Writer)) *Sink {
	t.Helper()
	return hostileConn(t, timeout, func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		say(conn)
	})
}

func hostileConn(t *testing.T, timeout time.Duration, serve func(net.Conn)) *Sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var open sync.Map
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(conn, nil)
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	cfg := testConfig("http://" + l.Addr().String())
	cfg.Timeout = timeout
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		_ = l.Close()
		open.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return s
}

const genuine = "HTTP/1.1 200 OK\r\nX-Elastic-Product: Elasticsearch\r\nContent-Type: application/json\r\n"

// answered is a whole answer.
func answered(body string) string {
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", genuine, len(body), body)
}

// forEver writes b again and again until the other side is gone, but no more
// than a gigabyte.
func forEver(w io.Writer, b []byte) {
	for sent := 0; sent < 1<<30; sent += len(b) {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// A SIEM that means harm: each of these answers has to end in an error that
// settles nothing, that is short and clean enough for a log, and that came
// without much memory.
func TestAHostileAnswerSettlesNothing(t *testing.T) {
	zeros := bytes.Repeat([]byte(" "), 1<<20)
	ok := `{"items":[{"create":{"status":201}}]}`
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 256 { // 256 MiB in 256 KB
		_, _ = z.Write(zeros)
	}
	_ = z.Close()

	for _, c := range []struct {
		name string
		say  func(io.Writer)
	}{
		{"a body without end", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"\r\n"+ok)
			forEver(w, zeros)
		}},
		{"a chunk without end", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"Transfer-Encoding: chunked\r\n\r\n40000000\r\n")
			forEver(w, zeros)
		}},
		{"a chunk extension without end", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"Transfer-Encoding: chunked\r\n\r\n1;x=")
			forEver(w, zeros)
		}},
		{"trailers without end", func(w io.Writer) {
			_, _ = fmt.Fprintf(w, genuine+"Transfer-Encoding: chunked\r\nTrailer: A\r\n\r\n%x\r\n%s\r\n0\r\n", len(ok), ok)
			forEver(w, []byte("A: "+strings.Repeat("x", 1000)+"\r\n"))
		}},
		{"another protocol", func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 101 Switching Protocols\r\nX-Elastic-Product: Elasticsearch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			forEver(w, zeros)
		}},
		{"a gzip bomb", func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", genuine, bomb.Len())
			_, _ = w.Write(bomb.Bytes())
		}},
		{"a gzip bomb as transfer encoding", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"Transfer-Encoding: gzip, chunked\r\n\r\n")
			_, _ = w.Write(bomb.Bytes())
		}},
		{"a length that lies", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"Content-Length: 9223372036854775807\r\n\r\n"+ok)
		}},
		{"two lengths", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"Content-Length: 1\r\nContent-Length: 38\r\n\r\n"+ok)
		}},
		{"closed before a word", func(io.Writer) {}},
		{"closed in the headers", func(w io.Writer) { _, _ = io.WriteString(w, genuine[:40]) }},
		{"closed in the body", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"Content-Length: 38\r\n\r\n"+ok[:20])
		}},
		{"not HTTP", func(w io.Writer) { _, _ = io.WriteString(w, "\x1b]0;owned\a\x1b[2J SSH-2.0-evil\r\n\r\n") }},
		{"a terminal's escapes for a status", func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 \x1b[31 \x1b[2J\r\n\r\n")
		}},

		{"a header name with escapes", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"X\x1b[2J: y\r\n\r\n")
		}},
		{"a header value with escapes", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"Content-Length: \x1b[2J\u202e\r\n\r\n")
		}},
		{"a transfer encoding with escapes", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"Transfer-Encoding: \x1b[2J\r\n\r\n")
		}},

		{"100,000 deep", func(w io.Writer) {
			_, _ = io.WriteString(w, answered(`{"items":`+strings.Repeat("[", 30_000)+strings.Repeat("]", 30_000)+`}`))
		}},
		{"a status that is text", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[{"create":{"status":"201"}}]}`)) }},
		{"a status with a fraction", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[{"create":{"status":201.0}}]}`)) }},
		{"a status in scientific notation", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[{"create":{"status":2.01e2}}]}`)) }},
		{"a status beyond every integer", func(w io.Writer) {
			_, _ = io.WriteString(w, answered(`{"items":[{"create":{"status":20100000000000000000}}]}`))
		}},
		{"no status", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[{"create":{}}]}`)) }},
		{"a status of null", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[{"create":{"status":null}}]}`)) }},
		{"an item of null", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[null]}`)) }},
		{"an action of null", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[{"create":null}]}`)) }},
		{"another action", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[{"delete":{"status":200}}]}`)) }},
		{"an action in capitals", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":[{"CREATE":{"status":201}}]}`)) }},
		{"two actions in one item", func(w io.Writer) {
			_, _ = io.WriteString(w, answered(`{"items":[{"create":{"status":201},"delete":{"status":200}}]}`))
		}},
		{"two items for one record", func(w io.Writer) {
			_, _ = io.WriteString(w, answered(`{"items":[{"create":{"status":201}},{"create":{"status":201}}]}`))
		}},
		{"two answers", func(w io.Writer) { _, _ = io.WriteString(w, answered(ok+ok)) }},
		{"an object for a list", func(w io.Writer) { _, _ = io.WriteString(w, answered(`{"items":{"create":{"status":201}}}`)) }},
		{"HTML of Elasticsearch's", func(w io.Writer) { _, _ = io.WriteString(w, answered("<html>\x1b[2J</html>")) }},
		{"204 without a word", func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\nX-Elastic-Product: Elasticsearch\r\n\r\n")
		}},
		{"a status of 999", func(w io.Writer) {
			_, _ = io.WriteString(w, strings.Replace(answered(ok), "200 OK", "999 OK", 1))
		}},
		{"a status of 000", func(w io.Writer) {
			_, _ = io.WriteString(w, strings.Replace(answered(ok), "200 OK", "000 OK", 1))
		}},
		{"not Elasticsearch", func(w io.Writer) {
			_, _ = io.WriteString(w, strings.Replace(answered(ok), "X-Elastic-Product: Elasticsearch", "X-Elastic-Product: elasticsearch\x1b", 1))
		}},
		{"an explanation with a terminal's escapes", func(w io.Writer) {
			_, _ = io.WriteString(w, strings.Replace(answered(`{"error":{"type":"a\u001b[2J\nlevel=ERROR","reason":"b\u0007\r\n\u2028 c\u009b31m"}}`), "200 OK", "403 \x1b[2J", 1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := hostile(t, 5*time.Second, c.say)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			out, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), nil)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatalf("settled: %+v", out)
			}
			re := requestError(t, err)
			if re.Split {
				t.Errorf("a single record would be rejected for it: %v", err)
			}
			cleanText(t, err.Error())
			// The body's limit for one record, twice for the growing buffer, and what
			// HTTP itself needs.
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("took %d KiB of memory", n>>10)
			}
		})
	}
}

// cleanText reports what must not be in an error that ends up in a terminal.
func cleanText(t *testing.T, s string) {
	t.Helper()
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("an error with what a terminal obeys, at byte %d: %.300q", i, s)
	}
	if len(s) > 2000 {
		t.Errorf("an error of %d bytes: %.100q...", len(s), s)
	}
}

// What the items of a believable answer say is taken item by item, and whatever
// it says, its words are harmless.
func TestAHostileItemIsNotBelieved(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for _, c := range []struct {
		name, item string
		want       sinks.Verdict
	}{
		{"a negative status", `{"status":-201}`, sinks.Retry},
		{"a huge status", `{"status":201201201}`, sinks.Retry},
		{"a status of 0", `{"status":0}`, sinks.Retry},
		{"stored with an error", `{"status":201,"error":{"type":"x"}}`, sinks.Retry},
		{"a conflict that is none", `{"status":409,"error":{"type":"x"}}`, sinks.Retry},
		{"refused without an error", `{"status":400}`, sinks.Retry},
		{"the second of two statuses counts, and is a refusal", `{"status":201,"status":429}`, sinks.Retry},
		{"escapes in the reason", `{"status":400,"error":{"type":"a\u001b[2J\nb","reason":"c\u0000\r\n\u0085\u2029d\u202e"}}`, sinks.Reject},
		{"half a surrogate in the reason", `{"status":400,"error":{"type":"a","reason":"\ud800"}}`, sinks.Reject},
		{"a long reason", `{"status":400,"error":{"type":"` + long + `","reason":"` + long + `"}}`, sinks.Reject},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := hostile(t, 5*time.Second, func(w io.Writer) {
				_, _ = io.WriteString(w, answered(`{"items":[{"create":`+c.item+`}]}`))
			})
			s.cfg.IncludeReasons = true
			out, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if out[0].Verdict != c.want {
				t.Errorf("got %+v, want %s", out[0], c.want)
			}
			if len(out[0].Reason) > maxReason {
				t.Errorf("a reason of %d bytes", len(out[0].Reason))
			}
			if strings.ContainsFunc(out[0].Reason, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) {
				t.Errorf("control characters in the reason %q", out[0].Reason)
			}
		})
	}
}

// A byte now and then must not keep a request alive beyond its time.
func TestASlowDripEndsWithTheTimeout(t *testing.T) {
	for name, head := range map[string]string{"in the headers": "HTTP/1.1 200 OK\r\nX: ", "in the body": genuine + "\r\n", "before them": "HTTP/1.1 100 Continue\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			s := hostile(t, 300*time.Millisecond, func(w io.Writer) {
				if _, err := io.WriteString(w, head); err != nil {
					return
				}
				for {
					if _, err := io.WriteString(w, " "); err != nil {
						return
					}
					select {
					case <-time.After(20 * time.Millisecond):
					case <-done:
						return
					}
				}
			})
			defer close(done)
			_, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), nil)
			_ = requestError(t, err)
			cleanText(t, err.Error())
		})
	}
}

// A server that takes the request a byte at a time is given up in time as well,
// and the records are free when Deliver returns.
func TestAServerThatDoesNotReadEndsWithTheTimeout(t *testing.T) {
	stop := make(chan struct{})
	s := hostileConn(t, 300*time.Millisecond, func(net.Conn) { <-stop })
	defer close(stop)
	_, err := s.Deliver(t.Context(), batch(record(1, `{"a":"`+strings.Repeat("x", 16<<20)+`"}`)), nil)
	re := requestError(t, err)
	if !strings.Contains(re.Error(), "no answer within") {
		t.Errorf("got %v", err)
	}
}

// One that refuses before it read the request is understood.
func TestARefusalBeforeTheRequestWasRead(t *testing.T) {
	big := `{"a":"` + strings.Repeat("x", 32<<20) + `"}`
	for _, c := range []struct {
		name, say string
		split     bool
		status    int
	}{
		{"too large", "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", true, 413},
		{"too many", "HTTP/1.1 429 Too Many\r\nX-Elastic-Product: Elasticsearch\r\nContent-Length: 0\r\nRetry-After: 99999999999\r\n\r\n", false, 429},
		{"forbidden", "HTTP/1.1 403 No\r\nX-Elastic-Product: Elasticsearch\r\nContent-Length: 0\r\n\r\n", false, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := hostileConn(t, 5*time.Second, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReaderSize(conn, 16)); err != nil {
					return
				}
				_, _ = io.WriteString(conn, c.say)
				// Reset now, its words could be thrown away with what was not read.
				_, _ = io.Copy(io.Discard, conn)
			})
			out, err := s.Deliver(t.Context(), batch(record(1, big)), nil)
			if err == nil {
				t.Fatalf("settled: %+v", out)
			}
			re := requestError(t, err)
			if re.Split != c.split || re.Status != c.status || re.RetryAfter < 0 {
				t.Errorf("got %+v", re)
			}
		})
	}
}

// A redirect would take the credentials and the events elsewhere.
func TestARedirectIsNotFollowed(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	for _, to := range []string{elsewhere.URL + "/latest/meta-data/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "//x\x1b[2J"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			s := hostile(t, 5*time.Second, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "HTTP/1.1 %d Gone\r\nX-Elastic-Product: Elasticsearch\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", status, to)
			})
			s.cfg.Authorization = func() (string, error) { return "ApiKey c2VjcmV0", nil }
			_, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), nil)
			cleanText(t, requestError(t, err).Error())
			if strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("the credentials are in %v", err)
			}
			if _, err := s.Ping(t.Context()); err == nil {
				t.Errorf("Ping took %d for an answer", status)
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests went where a redirect pointed", n)
	}
}

// A server that shows another certificate than before is sent nothing.
func TestAnotherCertificateIsSentNothing(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		_, _ = io.WriteString(w, `{"items":[{"create":{"status":201}}]}`)
	})
	first := httptest.NewTLSServer(ok)
	defer first.Close()
	pool := first.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	var asked atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	second := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })}
	go func() {
		_ = second.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{otherCertificate(t)}}))
	}()
	defer second.Close()

	cfg := testConfig("https://" + l.Addr().String())
	cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	cfg.Authorization = func() (string, error) { return "ApiKey c2VjcmV0", nil }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), nil)
	re := requestError(t, err)
	if !re.Misconfigured || asked.Load() != 0 {
		t.Errorf("%d requests, %+v", asked.Load(), re)
	}
	cleanText(t, err.Error())
}

// A connection that breaks in the middle of a request is no verdict, whatever
// it said before.
func TestAConnectionThatBreaksMidRequest(t *testing.T) {
	for _, after := range []int64{0, 1, 1000, 100_000} {
		s := hostileConn(t, 5*time.Second, func(conn net.Conn) {
			_, _ = io.CopyN(io.Discard, conn, after)
			_ = conn.(*net.TCPConn).SetLinger(0)
		})
		_, err := s.Deliver(t.Context(), batch(record(1, `{"a":"`+strings.Repeat("x", 8<<20)+`"}`)), nil)
		cleanText(t, requestError(t, err).Error())
	}
}

// After all of this nothing is left running.
func TestHostileAnswersLeaveNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	s := hostile(t, 2*time.Second, func(w io.Writer) {
		_, _ = io.WriteString(w, genuine+"\r\n")
		forEver(w, make([]byte, 1<<16))
	})
	for range 20 {
		_, err := s.Deliver(context.WithoutCancel(t.Context()), batch(record(1, `{"a":1}`)), nil)
		_ = requestError(t, err)
	}
	s.Close()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+4; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
