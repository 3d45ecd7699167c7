package elastic

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"weir/sinks"
)

// Headers are read before anything of the answer is: without a limit of their
// own, ten megabytes of them are kept for each request in flight.
func TestAHeaderBombTakesLittleMemory(t *testing.T) {
	for _, c := range []struct {
		name string
		say  func(io.Writer)
	}{
		{"one header without end", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"X: ")
			forEver(w, bytes.Repeat([]byte("h"), 1<<20))
		}},
		{"headers without end", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine)
			forEver(w, bytes.Repeat([]byte("X: y\r\n"), 1<<16))
		}},
		{"a status line without end", func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 ")
			forEver(w, bytes.Repeat([]byte("O"), 1<<20))
		}},
		{"100 Continue without end", func(w io.Writer) {
			forEver(w, []byte("HTTP/1.1 100 Continue\r\n\r\n"))
		}},
		{"early hints without end", func(w io.Writer) {
			forEver(w, []byte("HTTP/1.1 103 Early Hints\r\nLink: <"+strings.Repeat("x", 1000)+">\r\n\r\n"))
		}},
		{"a header line that is none", func(w io.Writer) {
			_, _ = io.WriteString(w, genuine+"\x1b[2J\x07evil "+strings.Repeat("x", 3000)+"\r\n\r\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := hostile(t, 5*time.Second, c.say)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := s.Deliver(t.Context(), batch(record(1, `{"a":1}`)), nil)
			runtime.ReadMemStats(&after)
			cleanText(t, requestError(t, err).Error())
			// The test's server runs in the same process.
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("took %d KiB of memory", n>>10)
			}
		})
	}
}

// An answer that says "stored" before the request was read is about another
// request, or a lie.
func TestStoredBeforeTheRequestWasReadSettlesNothing(t *testing.T) {
	s := hostileConn(t, 5*time.Second, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReaderSize(conn, 16)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, answered(`{"items":[{"create":{"status":201}}]}`))
		_, _ = io.CopyN(io.Discard, conn, 8<<20)
	})
	out, err := s.Deliver(t.Context(), batch(record(1, `{"a":"`+strings.Repeat("x", 32<<20)+`"}`)), nil)
	if err == nil {
		t.Fatalf("settled: %+v", out)
	}
	_ = requestError(t, err)
}

// What cannot be seen in a name misleads whoever reads it, in Kibana, in a log
// and in a terminal. Elasticsearch takes such names.
func TestNamesThatCannotBeSeenAreRefused(t *testing.T) {
	for _, field := range []string{
		`a\u001bb`, `a\u0000b`, `a\u007fb`, `a\u0085b`, `a\u009bb`, `a\u202eb`, `a\u200bb`, `a\u2028b`, `a\ufeffb`, `a\u00a0b`, `a\ue000b`,
		`../x`, `..`, `.`, `.security`, `-a`, `_all`, `+a`, `a/b`, `a\\b`, `a*`, `<a-{now}>`, `a,b`, `a:b`, `a#b`, `a b`, `a\"b`, ``,
		strings.Repeat("a", 256), strings.Repeat("é", 128), `\ud800`,
	} {
		for _, template := range []string{"{n}", "{n}-x"} {
			if template == "{n}-x" && (field == ".." || field == "." || field == "") {
				continue // legal, or refused for how it begins
			}
			_, out := encode(t, func(c *Config) { c.Index = template }, record(1, `{"n":"`+field+`"}`))
			if field == `\ud800` {
				continue // U+FFFD, which can be seen
			}
			if out[0].Verdict != sinks.Reject {
				t.Errorf("%q in %s is taken", field, template)
			}
			harmless(t, out[0].Reason, maxReason)
		}
	}
	for _, field := range []string{"a", "%2e%2e", "日本", "Ünïcode", "__proto__x"[2:], "a..b", "a-_+b"} {
		if _, out := encode(t, func(c *Config) { c.Index = "x-{n}" }, record(1, `{"n":"`+field+`"}`)); out[0].Verdict == sinks.Reject {
			t.Errorf("%q is refused: %s", field, out[0].Reason)
		}
	}
}

// A mapping error quotes the whole value, and the value is as long as its
// producer likes: the answer to one record can be longer than the record.
func TestAReasonAsLongAsTheEventRejectsThatEvent(t *testing.T) {
	for _, size := range []int{70_000, 1 << 20, 20 << 20} {
		value := strings.Repeat("v", size)
		reason := "[1:6] failed to parse field [n] of type [long] in document with id '1'. Preview of field's value: '" + value + "'"
		s := hostile(t, 30*time.Second, func(w io.Writer) {
			_, _ = io.WriteString(w, answered(`{"items":[{"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"`+reason+`"}}}]}`))
		})
		s.cfg.IncludeReasons = true
		out, err := s.Deliver(t.Context(), batch(record(1, `{"n":"`+value+`"}`)), nil)
		if err != nil {
			t.Fatalf("an event with %d bytes in a number blocks everything: %v", size, err)
		}
		if out[0].Verdict != sinks.Reject || len(out[0].Reason) > maxReason || !strings.Contains(out[0].Reason, "failed to parse field [n]") {
			t.Errorf("got %s %.200q", out[0].Verdict, out[0].Reason)
		}
	}
}

// An answer within the limit can name many times as many items as there are
// records, each of which costs far more memory than its few bytes.
func TestAnAnswerOfManySmallItemsTakesLittleMemory(t *testing.T) {
	const n = 2000
	limit := answerLimit(n)
	for name, a := range map[string]string{
		"empty items":    `{"items":[{}` + strings.Repeat(",{}", limit/3-10) + `]}`,
		"items of null":  `{"items":[null` + strings.Repeat(",null", limit/5-10) + `]}`,
		"actions":        `{"items":[{"create":{"status":201}}` + strings.Repeat(`,{"create":{}}`, limit/14-10) + `]}`,
		"members":        `{"items":[{"create":{"status":201}` + strings.Repeat(`,"a":{}`, limit/7-20) + `}]}`,
		"items again":    `{"items":[]` + strings.Repeat(`,"items":[{"create":{}}]`, limit/24-10) + `}`,
		"unknown fields": `{"items":[]` + strings.Repeat(`,"a":[{}]`, limit/9-10) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := []byte(a)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			got, err := parseAnswer(b, "create", n, nil)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatalf("believed: %d items", len(got))
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > uint64(2*limit) {
				t.Errorf("%d KiB for an answer of %d KiB", took>>10, len(a)>>10)
			}
		})
	}
}
