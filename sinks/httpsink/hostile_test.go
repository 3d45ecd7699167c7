package httpsink

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
)

// hostile is a server that says with each connection, once the request was read,
// what say writes, and a sink that sends to it.
func hostile(t *testing.T, say func(w io.Writer), edit func(*Config)) *Sink {
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
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				say(conn)
			})
		}
	})
	cfg := testConfig("http://" + l.Addr().String() + "/0123456789-hunter2-0123456789")
	cfg.Authorization = text("Bearer hunter2")
	cfg.IncludeReasons = true
	if edit != nil {
		edit(&cfg)
	}
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

// forEver writes b again and again until the other side is gone, but no more
// than a gigabyte.
func forEver(w io.Writer, b []byte) {
	for sent := 0; sent < 1<<30; sent += len(b) {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// clean checks that a message is fit for a log.
func clean(t *testing.T, message, secret string) {
	t.Helper()
	if len(message) > 1000 || strings.ContainsFunc(message, unicode.IsControl) || strings.Contains(message, secret) {
		t.Errorf("not fit for a log: %q", message)
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

// Each of these answers has to end in an error that settles nothing, that is
// short and clean enough for a log, and that came without much memory.
func TestAHostileAnswerSettlesNothing(t *testing.T) {
	spaces := bytes.Repeat([]byte(" "), 1<<20)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 { // 64 MiB in 64 KB
		_, _ = z.Write(spaces)
	}
	_ = z.Close()
	for _, c := range []struct {
		name string
		say  func(io.Writer)
		edit func(*Config)
	}{
		{name: "a body without end", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok+"\r\n{}")
			forEver(w, spaces)
		}},
		{name: "a chunk without end", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok+"Transfer-Encoding: chunked\r\n\r\n40000000\r\n")
			forEver(w, spaces)
		}},
		{name: "trailers without end", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok+"Transfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\n{}\r\n0\r\n")
			forEver(w, []byte("A: "+strings.Repeat("x", 1000)+"\r\n"))
		}},
		{name: "headers without end", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok)
			forEver(w, []byte("A: "+strings.Repeat("x", 1000)+"\r\n"))
		}},
		{name: "informational answers without end", say: func(w io.Writer) {
			forEver(w, []byte("HTTP/1.1 103 Early Hints\r\nA: "+strings.Repeat("x", 1000)+"\r\n\r\n"))
		}},
		{name: "another protocol", say: func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			forEver(w, spaces)
		}},
		{name: "a gzip bomb that has to be read", edit: refusedAt("a"), say: func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", ok, bomb.Len())
			_, _ = w.Write(bomb.Bytes())
		}},
		{name: "a length that lies", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok+"Content-Length: 9223372036854775807\r\n\r\n{}")
		}},
		{name: "a redirect that quotes the secret", say: func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 7\r\n\r\nhunter2")
		}},
		{name: "a page", say: func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n<html>hunter2\x1b[31m\r\n<p>\r\n")
		}},
		{name: "a status line that quotes the secret", say: func(w io.Writer) {
			_, _ = io.WriteString(w, "hunter2 \x1b[31m is wrong\r\n\r\n")
		}},
		{name: "a header that quotes the secret", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok+"hunter2 is wrong\r\n\r\n")
		}},
		{name: "JSON that is deep", edit: refusedAt("a"), say: func(w io.Writer) {
			deep := strings.Repeat("[", 500_000)
			_, _ = fmt.Fprintf(w, "%sContent-Length: %d\r\n\r\n%s", ok, len(deep), deep)
		}},
		{name: "a trailer that quotes the secret", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok+"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nBearer hunter2 \x1b[31m is wrong\r\n\r\n")
		}},
		{name: "a trailer of 30 KB", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok+"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"+strings.Repeat("hunter2 ", 4000)+"\r\n\r\n")
		}},
		{name: "a chunk's length that quotes the secret", say: func(w io.Writer) {
			_, _ = io.WriteString(w, ok+"Transfer-Encoding: chunked\r\n\r\nhunter2\r\n{}\r\n0\r\n\r\n")
		}},
		{name: "a media type that quotes the secret, 50 KB", edit: func(c *Config) { c.AnswerType = "application/json" }, say: func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: hunter2"+strings.Repeat("x", 50<<10)+"/json\r\nContent-Length: 2\r\n\r\n{}")
		}},
		{name: "nothing", say: func(io.Writer) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := hostile(t, c.say, c.edit)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			e := failed(t, s, numbered(10))
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 128<<20 {
				t.Errorf("%d bytes allocated", got)
			}
			if e.Split {
				t.Errorf("%+v", e)
			}
			clean(t, e.Error(), "hunter2")
		})
	}
}

// An answer of a megabyte that is searched makes no more of itself than its length:
// there can be hundreds at a time.
func TestAnAnswerDoesNotMultiplyInMemory(t *testing.T) {
	for _, piece := range []string{"{},", "[],"} {
		body := []byte(`{"a":[` + strings.Repeat(piece, maxAnswer/len(piece)-10) + `{}]}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		found, err := find(body, []string{"a"})
		runtime.ReadMemStats(&after)
		if !found || err != nil {
			t.Errorf("%s: %t, %v", piece, found, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 8*maxAnswer {
			t.Errorf("%s: %d bytes allocated for one of %d", piece, got, len(body))
		}
	}
}

// Headers that come byte by byte, or a body that never does, end with the
// timeout.
func TestASlowAnswerEndsWithTheTimeout(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	short := func(c *Config) { c.Timeout = 50 * time.Millisecond }
	for _, beginning := range []string{"", "HTTP/1.1 20", ok, ok + "Content-Length: 2\r\n\r\n", ok + "Content-Length: 2\r\n\r\n{"} {
		s := hostile(t, func(w io.Writer) {
			_, _ = io.WriteString(w, beginning)
			<-hold
		}, short)
		e := failed(t, s, numbered(10))
		clean(t, e.Error(), "hunter2")
		if e.Split || e.Misconfigured {
			t.Errorf("%q: %+v", beginning, e)
		}
	}
}
