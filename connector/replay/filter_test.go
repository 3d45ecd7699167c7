package replay

import (
	"testing"
	"time"

	"weir/buffer"
)

// An expression gets what it names, and only that is made for it.
func TestFilterHasWhatTheExpressionNames(t *testing.T) {
	r := &buffer.Record{
		Origin: &buffer.Origin{Topic: "t", Partition: 3}, Offset: 7, Time: time.Date(2026, 5, 1, 6, 0, 0, 0, time.UTC),
		Key: []byte("k"), Value: []byte(`{"host":{"name":"dc-1"},"n":5}`), Headers: []buffer.Header{{Key: "h", Value: []byte("v")}},
	}
	for _, expression := range []string{
		`event.host.name == "dc-1"`, `event.n == 5`, `text contains "dc-1"`, `key == "k"`, `headers["h"] == "v"`, `headers.h == "v"`,
		`topic == "t" and partition == 3 and offset == 7 and time.Hour() == 6`,
		`any([1], text contains "dc-1" and key == "k")`, `let x = key; x == "k"`,
		`$env["text"] contains "dc-1"`, `$env.key == "k"`, `$env["headers"]["h"] == "v"`, `$env.event.n == 5`,
	} {
		f, err := ParseFilter(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if ok, err := f.Match(r); !ok || err != nil {
			t.Errorf("%s: %v, %v", expression, ok, err)
		}
	}
}

func BenchmarkFilterOfAnOffset(b *testing.B) {
	f, err := ParseFilter("offset == 0 or offset == 399999")
	if err != nil {
		b.Fatal(err)
	}
	r := &buffer.Record{Origin: &buffer.Origin{Topic: "t"}, Offset: 7, Key: []byte("k"), Value: make([]byte, 500)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Match(r); err != nil {
			b.Fatal(err)
		}
	}
}
