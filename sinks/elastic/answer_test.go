package elastic

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// alike fails unless the fast reader of answers gives up on b or reads just what
// the thorough one reads, and parseAnswer refuses what that refuses.
func alike(t *testing.T, b []byte, n int) {
	t.Helper()
	slow, err := parseAnyAnswer(b, "create", n, nil)
	if err == nil && (len(slow) != n || !json.Valid(b)) {
		t.Fatalf("%q: %d items for %d", b, len(slow), n)
	}
	if fast, ok := parseUsualAnswer(b, "create", n, nil); ok && (err != nil || !reflect.DeepEqual(fast, slow)) {
		t.Fatalf("%q: read as %+v, want %+v %v", b, fast, slow, err)
	}
	got, gotErr := parseAnswer(b, "create", n, nil)
	if fmt.Sprint(gotErr) != fmt.Sprint(err) || err == nil && !reflect.DeepEqual(got, slow) {
		t.Fatalf("%q: %+v %v, want %+v %v", b, got, gotErr, slow, err)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, r := range results {
		f.Add([]byte(`{"items":[{"create":`+r+`},{"create":{"status":201}}]}`), 2)
	}
	f.Add([]byte(`{"items":[{"create":{"status":201}},{"create":{"status":409}}]}`), 2)
	f.Add([]byte(`{"items":[{"create":{"status":201}}]} `), 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 || n > 100 {
			return
		}
		alike(t, b, n)
	})
}

// FuzzResult: what the fuzzer makes of one item stands among plain ones.
func FuzzResult(f *testing.F) {
	for _, r := range results {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, r []byte) {
		b := append([]byte(`{"items":[{"create":{"status":201}},{"create":`), r...)
		b = append(b, `},{"create":{"status":429}}]}`...)
		alike(t, b, 3)
		alike(t, b, 2)
		alike(t, b, 4)
	})
}

// results are what can stand behind an action's name, and what cannot.
var results = []string{
	`{"status":201}`, `{"status":429}`, `{"status":099}`, `{"status":99}`, `{"status":1000}`, `{"status":2e2}`, `{"status":-20}`, `{"status":201.0}`,
	`{"status":"201"}`, `{"status":null}`, `{"Status":201}`, `{"status":201,"status":429}`, `{"status":429,"status":201}`, `{"st\u0061tus":201}`,
	`{ "status":201}`, `{"status": 201}`, `{"status":201 }`, `{"status":201}}`, `{"status":201`, `{}`, `null`, `true`, `201`, `"x"`, `[]`, ``, ` {"status":201}`,
	`{"status":201,}`, `{"status":201 "a":1}`, `{"status":201]`, `{"status":201},"index":{"status":201}`, `{"status":201},"create":{"status":201}`,
	`{"status":201,"failure_store":"used"}`, `{"failure_store":"used","status":201}`, `{"status":201,"failure_store":"us\u0065d"}`, `{"status":201,"failure_store":1}`,
	`{"status":201,"error":null}`, `{"status":201,"error":{}}`, `{"status":201,"error":[]}`, `{"status":201,"error":"x"}`,
	`{"status":429,"error":{"type":"a","reason":"b"}}`, `{"status":429,"error":{"reason":"b","type":"a"}}`, `{"status":429,"error":{"type":"a"}}`,
	`{"status":429,"error":{"type":"a","reason":null}}`, `{"status":429,"error":{"type":"a","reason":"b","more":{"c":[{"d":"}]"}]}}}`,
	`{"status":429,"failure_store":"not_enabled","error":{"type":"a","reason":"b"}}`, `{"status":429,"error":{"type":"a","reason":"b"},"failure_store":"used"}`,
	`{"status":429,"error":{"type":"a","reason":"b"},"status":201}`, `{"status":429,"error":{"type":"a","reason":"b","reason":"c"}}`,
	`{"status":400,"error":{"type":"a","reason":"\"} \\"}}`, `{"status":400,"error":{"type":"a","reason":"\\"}}`, `{"status":400,"error":{"type":"a\","reason":"b"}}`,
	`{"status":400,"error":{"type":"a","reason":"é 日本"}}`, "{\"status\":400,\"error\":{\"type\":\"a\",\"reason\":\"\xff\"}}", "{\"status\":400,\"error\":{\"type\":\"a\",\"reason\":\"\n\"}}",
	"{\"status\":400,\"error\":{\"type\":\"a\",\"reason\":\"\x7f\"}}", `{"status":400,"error":{"type":"a","reason":"\ud800"}}`, `{"status":400,"error":{"type":"a","reason":"b`,
	`{"status":400,"a":` + strings.Repeat("[", maxNested) + strings.Repeat("]", maxNested) + `}`,
	`{"status":400,"a":` + strings.Repeat("[", 9997) + strings.Repeat("]", 9997) + `}`, `{"status":400,"a":` + strings.Repeat("[", 9996) + strings.Repeat("]", 9996) + `}`,
	`{"status":400,"a":` + strings.Repeat(`{"a":`, 9998) + `1` + strings.Repeat("}", 9999),
}

// An item that is read otherwise than the whole answer would be can settle a
// record that was not stored, or give one record the verdict on another.
func TestAnItemIsReadByItselfAsAmongAll(t *testing.T) {
	for _, a := range results {
		for _, b := range results {
			if len(a)+len(b) > 1000 {
				continue // the deep ones, below
			}
			answer := `{"items":[{"create":` + a + `},{"create":{"status":201}},{"create":` + b + `}]}`
			alike(t, []byte(answer), 3)
		}
		for _, answer := range []string{
			`{"items":[{"create":` + a + `}]}`, `{"items":[{"create":` + a + `}],"items":[{"create":{"status":201}}]}`, `{"items":[{"create":` + a + `}]} x`,
			`{"items":[{"create":` + a + `}]`, `{"items":[{"create":` + a + `},]}`, `{"items":[{"index":` + a + `}]}`, `{"items":[{"create":` + a + `}]}` + "\n",
			`{"items":[{"create":{"status":201}},{"create":` + a + `}]}`,
		} {
			alike(t, []byte(answer), 1)
		}
	}
}

// A few odd items among thousands must not make all of them cost as much: under
// pressure they are one in five.
func TestAnOddItemDoesNotMakeTheOthersSlow(t *testing.T) {
	for _, odd := range []string{
		`{"status":429}`,
		`{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of primary operation [a=1]"}}`,
		`{"status":429,"failure_store":"not_enabled","error":{"type":"es_rejected_execution_exception","reason":"no \"room\""}}`,
		`{"failure_store":"used","status":201}`,
		`{"status":400,"error":{"type":"document_parsing_exception","reason":"ümlaut","caused_by":{"type":"x"}}}`,
	} {
		answer := `{"items":[{"create":{"status":201}},{"create":` + odd + `},{"create":{"status":201}}]}`
		if _, ok := parseUsualAnswer([]byte(answer), "create", 3, nil); !ok {
			t.Errorf("%s: not taken", odd)
		}
	}
}
