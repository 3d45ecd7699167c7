package ndjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"weir/buffer"
)

const lineOfHeaders = `{"topic":"t","topic_id":"","cluster":"","partition":0,"offset":1,"headers":[%s]}`

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestALineOfEmptyHeadersTakesLittleMemory(t *testing.T) {
	text := fmt.Appendf(nil, lineOfHeaders, strings.Repeat("{},", 1<<17)+"{}")
	var err error
	n := allocated(func() {
		var l Line
		err = Decode(text, &l, "a test")
	})
	if err == nil || n > 20*uint64(len(text)) {
		t.Errorf("%d bytes take %d: %v", len(text), n, err)
	}
}

func TestALineHasNoMoreHeadersThanARecordMayHave(t *testing.T) {
	one := `{"key":""}`
	for n, good := range map[int]bool{1: true, 1000: true, MaxHeaders + 1: false} {
		var l Line
		err := Decode(fmt.Appendf(nil, lineOfHeaders, strings.Repeat(one+",", n-1)+one), &l, "a test")
		if (err == nil) != good || good && len(l.Headers) != n || !good && !strings.Contains(err.Error(), "headers") {
			t.Errorf("%d headers, %d are read: %v", n, len(l.Headers), err)
		}
	}
}

// What is read of a line is what encoding/json reads of it, where that reads
// anything; and a record that was read is written as a line that holds the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"topic":"t","topic_id":"","cluster":"","partition":0,"offset":1,"value":"x","timestamp":5,"timestamp_type":"LogAppendTime"}`))
	f.Add([]byte(`{"topic":"t","partition":0,"offset":1,"key_base64":"/w==","headers":[{"key":"a"},{"key_base64":"/w==","value":""}]}`))
	f.Add([]byte(`{"topic":"t","partition":0,"offset":1,"headers":null}`))
	f.Add([]byte(`{"topic":"t","partition":0,"offset":1,"headers":[{}]}`))
	f.Add([]byte(`{"topic":"t","partition":0,"offset":1,"headers":{}}`))
	f.Add([]byte(`{"topic":"t","partition":0,"offset":1,"headers":[{"key":"a","x":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var l Line
		if Decode(text, &l, "a fuzz test") != nil {
			return
		}
		type plain Line
		var p struct {
			plain
			Headers []Header `json:"headers"`
		}
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatalf("encoding/json says %v", err)
		}
		if !bytes.Equal(asJSON(t, Headers(p.Headers)), asJSON(t, l.Headers)) {
			t.Errorf("headers %+v, and encoding/json reads %+v", l.Headers, p.Headers)
		}
		r, err := l.Record()
		if err != nil || !r.Time.IsZero() && !r.Time.Equal(time.UnixMilli(r.Time.UnixMilli())) {
			return
		}
		var again Line
		if err := Decode(asJSON(t, New(r)), &again, "a fuzz test"); err != nil {
			t.Fatal(err)
		}
		back, err := again.Record()
		if err != nil || !reflect.DeepEqual(emptied(r), emptied(back)) {
			t.Errorf("%+v comes back as %+v: %v", r, back, err)
		}
	})
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// emptied is r without what tells no headers from an empty list of them.
func emptied(r *buffer.Record) buffer.Record {
	c := *r
	if len(c.Headers) == 0 {
		c.Headers = nil
	}
	return c
}
