package splunk

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"weir/sinks/httpclient"
)

// FuzzAnswer: whatever an answer to events says, it is about events that were
// sent, rejects nothing by itself, and its words are harmless.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `null`, `<html>`, `{"text":"Success","code":0}`, `{"text":"Success","code":0,"ackId":7}`, `{"code":24,"ackID":-1}`,
		`{"text":"Invalid data format","code":6,"invalid-event-number":2}`, `{"code":7,"invalid-event-number":0}`, `{"code":1e3}`,
		`{"text":"\u001b[2J` + testToken + `\u2028","code":99}`, `{"code":-1}`, `{"code":13,"invalid-event-number":5,"ackId":3}`,
	} {
		for _, status := range []int{200, 307, 400, 401, 403, 413, 429, 500, 503} {
			f.Add(status, []byte(body), 3, 100, true)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, n, size int, quote bool) {
		if n < 1 {
			return
		}
		r := parseReply(body)
		what, at := judge(status, &r, n, size)
		if at < 0 || at >= n {
			t.Fatalf("about event %d of %d", at, n)
		}
		if what == accepted && (status != http.StatusOK || r.code != 0 && r.code != 24 && r.code != 25) {
			t.Fatalf("%d code %d is taken for success", status, r.code)
		}
		if (what == poisoned || what == misrouted) && status != http.StatusBadRequest {
			t.Fatalf("a %d refuses an event", status)
		}
		a := httpclient.Answer{Status: status, Body: body, Sent: httpclient.Sent{Header: http.Header{"Authorization": {"Splunk " + testToken}}}}
		e := refusal(&a, &r, "http://h", quote)
		if e.Split && status != 400 && status != 413 || e.Split && status == 400 && r.code == noCode {
			t.Fatalf("%d code %d splits", status, r.code)
		}
		for _, words := range []string{e.Error(), r.describe(quote, &a)} {
			if strings.ContainsFunc(words, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' }) || len(words) > 400 || strings.Contains(words, testToken) {
				t.Fatalf("%q", words)
			}
		}
	})
}

// FuzzAcks: an answer says a word on each of the ids, and on none but them, or
// nothing.
func FuzzAcks(f *testing.F) {
	for _, s := range []string{`{"acks":{"0":true,"1":false,"5":true}}`, `{"acks":{"0":true}}`, `{"acks":{"0":true,"0":true,"5":true}}`,
		`{"acks":{"0":true,"1":false,"5":true,"6":true}}`, `{"acks":{"00":true,"1":false,"5":true}}`, `[]`, `{"acks":[`, `{"acks":{"+0":true,"1":true,"5":true}}x`} {
		f.Add([]byte(s))
	}
	ids := []int64{0, 1, 5}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseAcks(body, ids)
		if err != nil && len(got) > 0 {
			t.Fatal("an error, and ids")
		}
		if slices.Sort(got); len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("%v: an id twice", got)
		}
		for _, id := range got {
			if !slices.Contains(ids, id) {
				t.Fatalf("id %d was not asked for", id)
			}
		}
		if len(got) > strings.Count(string(body), "true") {
			t.Fatalf("%d ids in %q", len(got), body)
		}
	})
}

// The second word on one id takes the place of the one on another.
func TestAcksNameEachIDOnce(t *testing.T) {
	if got, err := parseAcks([]byte(`{"acks":{"0":true,"0":true}}`), []int64{0, 1}); err == nil {
		t.Error(got)
	}
	if got, err := parseAcks([]byte(`{"acks":{"1":true,"0":false}}`), []int64{0, 1}); err != nil || len(got) != 1 || got[0] != 1 {
		t.Error(got, err)
	}
}

func TestAcksOfThousands(t *testing.T) {
	var ids []int64
	body := []byte(`{"acks":{`)
	for i := range int64(maxAsked) {
		id := 9_000_000_000_000_000_000 + i
		ids = append(ids, id)
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `"`...)
		body = strconv.AppendInt(body, id, 10)
		body = append(body, `": false`...)
	}
	body = append(body, `}}`...)
	if len(body) > maxAckAnswer {
		t.Errorf("an honest answer has %d bytes", len(body))
	}
	if got, err := parseAcks(body, ids); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
}
