package elastic

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"weir/sinks"
)

// What a page is taken to say is what encoding/json reads in it, in order, and
// within what was asked for.
func FuzzPage(f *testing.F) {
	f.Add([]byte(`{"hits":{"hits":[{"_index":"i","_id":"1","_source":{"a":1},"sort":[3]},{"_index":"i","_id":"2","sort":[4,1]}]}}`), int64(3), int64(5), 10)
	f.Add([]byte(`{"hits":{"hits":[{"sort":[4]},{"sort":[3]}]}}`), int64(0), int64(5), 10)
	f.Add([]byte(`{"hits":{"hits":[{"sort":[]},{"sort":"x"},{}]}}`), int64(0), int64(5), 10)
	f.Add([]byte(`{"hits":{"hits":[{"sort":[1.0]},{"sort":[1e3]}]}}`), int64(0), int64(5), 1)
	f.Add([]byte(`{"hits":{"hits":null}}`), int64(0), int64(5), 1)
	f.Add([]byte(`{"hits":{"hits":[{"sort":[null]}]}}`), int64(0), int64(5), 1)
	f.Fuzz(func(t *testing.T, text []byte, from, end int64, size int) {
		var p page
		if json.Unmarshal(text, &p) != nil {
			return
		}
		found, err := p.found(size, &span{from, end})
		if err != nil {
			if _, ok := errors.AsType[*sinks.RequestError](err); !ok || found != nil {
				t.Errorf("%v, with %d documents", err, len(found))
			}
			return
		}
		var plain struct {
			Hits struct {
				Hits []struct {
					ID     string            `json:"_id"`
					Source json.RawMessage   `json:"_source"`
					Sort   []json.RawMessage `json:"sort"`
				}
			}
		}
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatal(err)
		}
		if len(found) != len(plain.Hits.Hits) || len(found) > size {
			t.Fatalf("%d documents of %d, and %d were asked for", len(found), len(plain.Hits.Hits), size)
		}
		last := from
		for i, one := range found {
			want := plain.Hits.Hits[i]
			var offset int64
			if len(want.Sort) == 0 || json.Unmarshal(want.Sort[0], &offset) != nil || offset != one.Offset || want.ID != one.ID {
				t.Errorf("%+v was read of %+v", one, want)
			}
			if one.Offset < last || one.Offset >= end {
				t.Errorf("offset %d behind %d, below %d", one.Offset, last, end)
			}
			last = one.Offset
			if one.Unread == nil && !json.Valid(want.Source) {
				t.Errorf("there is a digest of %q", want.Source)
			}
		}
	})
}

// A document that encoding/json writes anew has the digest that it had, and none
// with another value has it.
func FuzzDigest(f *testing.F) {
	f.Add([]byte(`{"b":[1.50,-0.0,1e3,"\u00fc\/",{}],"a":{"d":null,"e":true},"n":12345678901234567890123}`))
	f.Add([]byte(`{"a":{"a":{"a":[[],[{}]]}},"":{"x":1e-5,"w":"\ud800"}}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte(`[1,`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := digest(text)
		if (err == nil) != json.Valid(text) {
			t.Fatalf("%v", err)
		}
		if err != nil || twice(text) {
			return
		}
		var v any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		again, err := json.MarshalIndent(v, " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if same, err := digest(again); err != nil || same != got {
			t.Errorf("written as %s it has another digest: %v", again, err)
		}
		other, err := json.Marshal([]any{v})
		if err != nil {
			t.Fatal(err)
		}
		if same, err := digest(other); err != nil || same == got {
			t.Errorf("%s has the same digest: %v", other, err)
		}
	})
}

// twice reports whether an object has two members of one name, of which
// encoding/json keeps one.
func twice(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value func() bool
	value = func() bool {
		token, err := d.Token()
		open, ok := token.(json.Delim)
		if err != nil || !ok {
			return false
		}
		found := false
		names := map[string]bool{}
		for d.More() {
			if open == '{' {
				name, err := d.Token()
				if errors.Is(err, io.EOF) {
					return found
				}
				s, _ := name.(string)
				found = found || names[s]
				names[s] = true
			}
			found = value() || found
		}
		_, _ = d.Token()
		return found
	}
	return value()
}

// Two numbers have one form exactly when they are the same number.
func FuzzDecimal(f *testing.F) {
	f.Add("1.0", "1")
	f.Add("1e3", "1000")
	f.Add("-0.0", "0")
	f.Add("9007199254740993", "9007199254740992")
	f.Add("0.001e-5", "1e-8")
	f.Add("1e400", "1E+400")
	f.Add("10", "1")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := number(a), number(b)
		if x == nil || y == nil {
			return
		}
		if (x.Cmp(y) == 0) != (decimal(a) == decimal(b)) {
			t.Errorf("%s is %q, and %s is %q", a, decimal(a), b, decimal(b))
		}
	})
}

// number is a JSON number that can be computed with at ease; nil: it is none.
func number(s string) *big.Rat {
	if s == "" || len(s) > 100 || s[0] != '-' && (s[0] < '0' || s[0] > '9') || !json.Valid([]byte(s)) {
		return nil
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 && len(s)-i > 5 {
		return nil
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil
	}
	return r
}
