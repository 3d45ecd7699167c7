package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAccountTellsMissingFromTwice(t *testing.T) {
	l := load{Size: 500}
	var body strings.Builder
	for _, i := range []int{0, 1, 1, 3, 300} { // one twice, others missing: the sums would hide it
		fmt.Fprintf(&body, `{"create":{"_id":"%d"}}`+"\n%s\n", i, l.event(nil, i, 0))
	}
	body.WriteString("{\"create\":{}}\n{\"kafka\":{},\"bench_seq\": 7, \"written\":\"anew\"}\n")
	body.WriteString("{\"create\":{}}\n{\"a\":\"stranger\"}\n")
	documents, op := parseBulk([]byte(body.String()), nil)
	if op != "create" || len(documents) != 7 {
		t.Fatalf("%d documents with op %s", len(documents), op)
	}
	a := account{expected: 5}
	a.take(documents, time.Now())
	if a.Documents != 7 || a.Distinct != 5 || a.Strangers != 1 {
		t.Errorf("documents %d, distinct %d, strangers %d; want 7, 5, 1", a.Documents, a.Distinct, a.Strangers)
	}
	r := Result{Load: load{Events: 6}}
	r.count(a.tally, backend{})
	if r.Missing != 1 || r.Twice != 1 {
		t.Errorf("missing %d, twice %d; want 1 and 1", r.Missing, r.Twice)
	}
}

func TestLatencyIsOfTheFirstCopy(t *testing.T) {
	l := load{Size: 200}
	at := time.Unix(1_800_000_000, 0)
	line := "{\"index\":{}}\n" + string(l.event(nil, 5, at.UnixNano())) + "\n"
	a := account{expected: 1}
	for _, after := range []time.Duration{30 * time.Millisecond, time.Hour} {
		documents, _ := parseBulk([]byte(line), nil)
		a.take(documents, at.Add(after))
	}
	if got := quantiles(a.took); got.Events != 1 || got.Greatest != 30*time.Millisecond {
		t.Errorf("%+v", got)
	}
}

func TestEventHasItsSize(t *testing.T) {
	for _, size := range []int{200, 500, 2048} {
		l := load{Size: size}
		if got := l.event(nil, 1_234_567, 0); len(got) != size {
			t.Errorf("%d bytes for %d: %s", len(got), size, got)
		}
	}
}
