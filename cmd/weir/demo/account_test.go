package demo

import (
	"bytes"
	"strings"
	"testing"
)

func TestMarkIsFoundInWhateverShapeAnEventHas(t *testing.T) {
	for name, c := range map[string]struct {
		event string
		n     int64
		ok    bool
	}{
		"json":               {`{"event":{"id":"demo-0000000042"}}`, 42, true},
		"wrapped":            {`{"event":{"original":"<86>1 x demo-0000000007 - \"y\""}}`, 7, true},
		"behind a lookalike": {`{"host":"demo-abcdefghij","id":"demo-0000000001"}`, 1, true},
		"cut":                {`{"id":"demo-00000`, 0, false},
		"none":               {`{"id":"1"}`, 0, false},
		"empty":              {``, 0, false},
		"signed":             {`demo--000000001`, 0, false},
		"too large a number": {`demo-9999999999`, 0, false},
	} {
		if n, ok := markOf([]byte(c.event)); n != c.n || ok != c.ok {
			t.Errorf("%s: got %d, %t, want %d, %t", name, n, ok, c.n, c.ok)
		}
	}
}

func set(ns ...int64) []uint64 {
	var s numbers
	for _, n := range ns {
		s.add(n)
	}
	return s.snapshot()
}

func TestSettleFindsWhatASumWouldHide(t *testing.T) {
	for name, c := range map[string]struct {
		produced, delivered, dead, open []uint64
		want                            Account
		err                             string
	}{
		"even": {
			produced: set(0, 1, 200), delivered: set(0, 200), dead: set(1),
			want: Account{Produced: 3, Delivered: 2, DeadLettered: 1},
		},
		"one lost, one in both places": {
			produced: set(0, 1, 2), delivered: set(0, 1), dead: set(1),
			want: Account{Produced: 3, Delivered: 2, DeadLettered: 1, Both: 1, Lost: 1}, err: "lost 1 of 3",
		},
		"not committed": {
			produced: set(0, 1, 200), delivered: set(0), open: set(1, 200),
			want: Account{Produced: 3, Delivered: 1, Waiting: 2}, err: "2 of 3 events were not delivered in time",
		},
		"delivered and not committed": {
			produced: set(0), delivered: set(0), open: set(0),
			want: Account{Produced: 1, Delivered: 1},
		},
		"written, not acknowledged": {
			produced: set(0), delivered: set(0, 1), dead: set(700),
			want: Account{Produced: 1, Delivered: 1},
		},
	} {
		got := settle(c.produced, c.delivered, c.dead, c.open)
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		switch err := got.check(); {
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: got error %v, want %q in it", name, err, c.err)
		}
	}
}

func TestAccountWithDocumentsStoredTwiceFails(t *testing.T) {
	a := Account{Produced: 1, Delivered: 1, StoredTwice: 1}
	var out bytes.Buffer
	if err := a.print(&out, "dlq"); err != nil {
		t.Fatal(err)
	}
	if a.check() == nil || !strings.Contains(out.String(), "stored twice") {
		t.Errorf("check: %v, table:\n%s", a.check(), out.String())
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 12345678: "12,345,678"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s, want %s", n, got, want)
		}
	}
}
