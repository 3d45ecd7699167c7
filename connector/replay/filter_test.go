package replay

import (
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/expr-lang/expr/builtin"

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

// A producer chooses how many values a record holds, and each costs a hundred
// times the bytes it came in.
func TestFilterDecodesNoMoreThanItsBound(t *testing.T) {
	f, err := ParseFilter(`event.kind == "alert"`)
	must(t, err)
	at := &buffer.Origin{Topic: "t"}
	for name, value := range map[string]string{
		"many objects":  `{"kind":"alert","a":[` + strings.Repeat(`{},`, 4<<20/3) + `{}]}`,
		"many members":  `{"kind":"alert","a":[` + strings.Repeat(`{"a":1},`, 4<<20/8) + `1]}`,
		"a long string": `{"kind":"alert","a":"` + strings.Repeat("\xff", 32<<20) + `"}`,
	} {
		r := &buffer.Record{Origin: at, Value: []byte(value)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := f.Match(r)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 || err == nil {
			t.Errorf("%s: %d bytes allocated, error %v", name, got, err)
		}
	}
	// Headers are values, too, and what is not looked at does not count.
	headers := make([]buffer.Header, maxValues+1)
	r := &buffer.Record{Origin: at, Value: make([]byte, 2*maxLooked), Headers: headers}
	for text, judged := range map[string]bool{`headers.a == "b"`: false, `text contains "b"`: false, `topic == "t"`: true} {
		f, err := ParseFilter(text)
		must(t, err)
		if _, err := f.Match(r); (err == nil) != judged {
			t.Errorf("%s: error %v", text, err)
		}
	}
	// Up to the bound it is judged, by several at once.
	r.Value = []byte(`{"kind":"alert","a":[` + strings.Repeat(`0,`, maxValues-4) + `0]}`)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if ok, err := f.Match(r); !ok || err != nil {
				t.Errorf("at the bound: %v, %v", ok, err)
			}
		})
	}
	all.Wait()
}

// What a record costs is linear in its size, or a producer could stop a replay
// with a few records.
func TestFilterThatCostsMoreThanALookIsRefused(t *testing.T) {
	for _, text := range []string{
		`any(event.a, {let x = #; any(event.b, {# == x})})`,
		`any(event.a, {let x = #; any(.b, {# == x})})`,
		`any(event.a, # in event.b)`, `any(event.a, # == event.b)`, `any(event.a, text contains #)`, `any(event.a, key contains #)`,
		`any(event.a, # == $env["event"].b)`, `let e = event; any(e.a, # in e.b)`, `event.a | filter(# > 1) | any(# in event.b)`,
		`any(map(filter(event.a, # > 1), text), # contains "x")`, `len(keys(headers) | filter(headers[#] == text)) > 1`,
		`len(uniq(event.a)) > 1`, `reduce(event.a, #acc + #) == "x"`, `fromJSON(text).a == 1`, `toJSON(event) == "x"`, `len(flatten(event.a)) > 1`,
		`repeat(event.a, event.n) == "x"`, `text matches event.pattern`, `replace(text, event.a, event.b) == "x"`, `join(event.a, event.b) == "x"`,
		`trim(text, event.a) == "x"`, `len(1..event.n) > 1`, `time.In(timezone(event.tz)).Hour() == 1`, `date(event.d, "2006", event.tz) == time`,
		`time < now()`, // and whoever verifies would come to something else
	} {
		if _, err := ParseFilter(text); err == nil || !strings.Contains(err.Error(), "(1:") {
			t.Errorf("%s: error %v, want one with the place", text, err)
		}
	}
	r := &buffer.Record{Origin: &buffer.Origin{Topic: "t"}, Time: time.Date(2026, 5, 1, 22, 0, 0, 0, time.UTC), Value: []byte(`{"a":["x","y"],"o":[{"b":["x","z"],"n":"y"}],"p":"u","s":" x "}`), Key: []byte("k")}
	for _, text := range []string{
		`any(event.a, # in ["x", "z"])`, `any(["x", "q"], text contains #)`, `any(["x"], # in event.a)`, `any(event.o, any(.b, # == "z"))`,
		`any(event.o, {let n = .n; n == "y" and topic == "t"})`, `join(event.a, " " + "") == "x y"`, `event.p matches "^" + "u$"`,
		`all(event.o, .n matches "y|z") and partition == 0`, `any(event.o, {let n = .n; any(["x", "y"], # == n)})`,
		`trim(event.s, " ") == "x" and replace(event.s, " ", "") == "x" and len(1..3) == 3`,
		`time.In(timezone("Europe/Berlin")).Hour() == 0`, `event.a | filter(# > "x") | any(# == "y")`,
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if ok, err := f.Match(r); !ok || err != nil {
			t.Errorf("%s: %v, %v", text, ok, err)
		}
	}
}

// The bound on the cost is a matter of each function, so each was looked at. An
// upgrade that brings one more has to be looked at again.
func TestEachFunctionOfFiltersWasLookedAt(t *testing.T) {
	const looked = `abs all any bitand bitnand bitnot bitor bitshl bitshr bitushr bitxor ceil concat count date duration filter find findIndex ` +
		`findLast findLastIndex first flatten float floor fromBase64 fromJSON fromPairs get groupBy hasPrefix hasSuffix indexOf int join keys last ` +
		`lastIndexOf len lower map max mean median min none now one reduce repeat replace reverse round sort sortBy split splitAfter string sum ` +
		`take timezone toBase64 toJSON toPairs trim trimPrefix trimSuffix type uniq upper values`
	if got := strings.Join(slices.Sorted(slices.Values(builtin.Names)), " "); got != looked {
		t.Errorf("functions are\n%s", got)
	}
}

// An error is told in the log, where nothing of an event belongs.
func TestFilterErrorHoldsNothingOfTheEvent(t *testing.T) {
	for _, text := range []string{`int(event.n) == 1`, `date(event.n) == time`, `duration(event.n).Hours() > 1`} {
		f, err := ParseFilter(text)
		must(t, err)
		_, err = f.Match(&buffer.Record{Origin: &buffer.Origin{Topic: "t"}, Value: []byte(`{"n":"a secret"}`)})
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "1:") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, value := range []string{
		`{"kind":"alert","a":["x",{"b":[1,2.5e9]}],"s":"\u00e9\ud800"}`, `{"kind":"alert"} x`, `{"kind":"alert"`, `[[[[]]]]`, `null`, ``, `7`, `"a\"b,{["`,
		`{"kind":"alert","kind":"x"}`, strings.Repeat("[", 20000), "{\"kind\":\"\xff\"}", `{"a":{"b":1}}`, `{"a":[{"b":null}],"n":1e999}`,
	} {
		f.Add([]byte(value), []byte("k"), "h", []byte("v"))
	}
	var filters []*Filter
	for _, text := range []string{
		`event.kind == "alert"`, `any(event.a, .b == 1 or any(.b, # > 1))`, `event == event and "a" in event`, `len(event.s) > event.n`, `sum(event.a) > 1`,
		`text contains key and headers[key] matches "^v"`, `join(event.a, ",") == string(event.n)`, `keys(event)[0] == split(text, "")[1]`,
		`sort(event.a)[0] == min(event.a, event.n) or len(groupBy(event.a, #)) > 1`, `get(event, key)[-1:event.n] == take(event.a, event.n)`,
	} {
		parsed, err := ParseFilter(text)
		if err != nil {
			f.Fatal(err)
		}
		filters = append(filters, parsed)
	}
	f.Fuzz(func(t *testing.T, value, key []byte, name string, header []byte) {
		r := &buffer.Record{Origin: &buffer.Origin{Topic: "t"}, Value: value, Key: key, Headers: []buffer.Header{{Key: name, Value: header}}}
		for i, f := range filters {
			ok, err := f.Match(r)
			if ok && err != nil {
				t.Fatalf("filter %d says yes, and %v", i, err)
			}
		}
		// The first one, in another way.
		var object map[string]json.RawMessage
		valid, is := json.Valid(value), json.Unmarshal(value, &object) == nil && object != nil
		var kind string
		_ = json.Unmarshal(object["kind"], &kind)
		ok, err := filters[0].Match(r)
		switch {
		case len(value) > maxValues: // may be too large
		case ok != (kind == "alert"):
			t.Fatalf("%v, %v", ok, err)
		case !valid && err == nil, valid && is && err != nil:
			t.Fatalf("valid %v, object %v: error %v", valid, is, err)
		}
	})
}
