package elastic

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks/sinktest"
)

// What a server may do to a document that it stores, and what nobody may.
func TestDigestIsThatOfTheValues(t *testing.T) {
	of := func(text string) Digest {
		t.Helper()
		d, err := digest([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return d
	}
	const text = `{"a":1,"b":[1.50,-0.0,1e3,"\u00fc\/"],"c":{"d":null,"e":true},"n":12345678901234567890123}`
	for _, same := range []string{
		` { "c" : {"e":true,"d":null}, "n":12345678901234567890123.0, "b":[15e-1,0,1000,"ü/"], "a":1.0}`,
		`{"a":1E0,"b":[1.5,0.000,0.1e4,"ü\u002f"],"c":{"d":null,"e":true},"n":1234567890123456789012.3e1}`,
	} {
		if of(same) != of(text) {
			t.Errorf("another digest: %s", same)
		}
	}
	for _, other := range []string{
		`{"a":"1","b":[1.50,-0.0,1e3,"\u00fc\/"],"c":{"d":null,"e":true},"n":12345678901234567890123}`,
		`{"a":1,"b":[-0.0,1.50,1e3,"\u00fc\/"],"c":{"d":null,"e":true},"n":12345678901234567890123}`,
		`{"a":1,"b":[1.50,-0.0,1e3,"\u00fc\/"],"c":{"d":null,"e":true},"n":12345678901234567890124}`,
		`{"a":1,"b":[1.50,-0.0,1e3,"\u00fc\/"],"c":{"e":true},"n":12345678901234567890123}`,
		`{"a":1,"b":[1.50,-0.0,1e3,"\u00fc\/",[]],"c":{"d":null,"e":true},"n":12345678901234567890123}`,
		`{"a":-1,"b":[1.50,-0.0,1e3,"\u00fc\/"],"c":{"d":null,"e":true},"n":12345678901234567890123}`,
		`{"a":1,"a":2,"b":[1.50,-0.0,1e3,"\u00fc\/"],"c":{"d":null,"e":true},"n":12345678901234567890123}`,
	} {
		if of(other) == of(text) {
			t.Errorf("the same digest: %s", other)
		}
	}
	// Huge exponents take no time and no memory.
	if of(`{"a":1e999999999}`) == of(`{"a":1e999999998}`) || of(`{"a":1e99999999999999999999}`) == of(`{"a":1}`) {
		t.Error("one exponent is like another")
	}
	for _, no := range []string{``, `{`, `{} {}`, `{"a":}`, `nul`} {
		if _, err := digest([]byte(no)); err == nil {
			t.Errorf("%q has a digest", no)
		}
	}
}

// A document is copied once, and not once for each of its levels.
func TestDigestOfADeepDocumentTakesLittleMemory(t *testing.T) {
	const levels = 2000
	text := []byte(strings.Repeat(`{"a":`, levels) + `"` + strings.Repeat("x", 512<<10) + `"` + strings.Repeat("}", levels))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := digest(text)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; err != nil || n > 40*uint64(len(text)) {
		t.Errorf("%d bytes take %d: %v", len(text), n, err)
	}
	if _, err := digest([]byte(strings.Repeat("[", 1<<20))); err == nil || !strings.Contains(err.Error(), "levels") {
		t.Error(err)
	}
}

// filled is a server that can be searched, with records that were delivered to it.
func filled(t *testing.T, n int, search *sinktest.Search) (*sinktest.Elasticsearch, *Sink) {
	t.Helper()
	es := &sinktest.Elasticsearch{Search: search}
	s := serve(t, es, nil)
	var all []*buffer.Record
	for i := range n {
		all = append(all, record(int64(i), fmt.Sprintf(`{"n":%d}`, i)))
	}
	rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	if _, err := s.Deliver(t.Context(), batch(all...), nil); err != nil {
		t.Fatal(err)
	}
	return es, s
}

func TestStoredDocumentsComeInTheOrderOfTheirOffsets(t *testing.T) {
	const n = 1300
	search := &sinktest.Search{}
	es, s := filled(t, n, search)
	// Offset 700 has more documents than fit into the first page.
	var more []*buffer.Record
	for i := range 40 {
		r := record(700, `{"n":700}`)
		r.Origin = &buffer.Origin{Cluster: fmt.Sprint("other ", i), Topic: testOrigin.Topic, TopicID: "id"}
		more = append(more, r)
	}
	if _, err := s.Deliver(t.Context(), batch(more...), nil); err != nil {
		t.Fatal(err)
	}
	v, err := s.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	v.size = 100
	doc := s.NewDocument()
	var offsets []int64
	err = v.Partition(t.Context(), testOrigin.Topic, 0, 0, 2000, func(f Found) error {
		offsets = append(offsets, f.Offset)
		want, err := doc.Of(record(f.Offset, fmt.Sprintf(`{"n":%d}`, f.Offset)))
		if err != nil || want != f.Digest || f.Unread != nil {
			t.Errorf("%+v: %v", f, err)
		}
		return nil
	})
	if err != nil || len(offsets) != n+40 || !slices.IsSorted(offsets) || len(slices.Compact(offsets)) != n {
		t.Errorf("%d documents: %v", len(offsets), err)
	}
	if len(search.Asked) < 4 {
		t.Error("it was not read in pages")
	}
	if c, err := v.Count(t.Context()); err != nil || c != n+40 || int(c) != es.Count("events") {
		t.Errorf("%d documents, %v", c, err)
	}
	ids := []string{DocumentID(testOrigin, 3), DocumentID(testOrigin, n+5), DocumentID(testOrigin, 4)}
	if found, err := v.ByID(t.Context(), ids); err != nil || len(found) != 2 {
		t.Errorf("%+v, %v", found, err)
	}
	if found, err := v.Others(t.Context(), map[string][]int32{testOrigin.Topic: {0}}); err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	if found, err := v.Others(t.Context(), map[string][]int32{testOrigin.Topic: {1, 2}}); err != nil || len(found) != 500 {
		t.Errorf("%d, %v", len(found), err)
	}
}

// A server can answer for ever: no more is read than the range has room for, and of
// what lies outside of it a page.
func TestStoredReadsNoFurtherThanTheRangeThatWasAskedFor(t *testing.T) {
	const end = 400
	for name, c := range map[string]struct {
		offset func(from, end int64, i int) int64
		most   int
	}{
		"offsets that rise for ever":      {func(from, _ int64, i int) int64 { return from + int64(i) }, 0},
		"offsets below":                   {func(from, _ int64, _ int) int64 { return from - 1 }, 0},
		"offsets behind":                  {func(_, end int64, _ int) int64 { return end }, 0},
		"the same offset for ever":        {func(from, _ int64, _ int) int64 { return from }, 32*end + 4*maxPage},
		"the next offset for ever":        {func(from, end int64, i int) int64 { return min(from+int64(min(i, 1)), end-1) }, 32*end + 4*maxPage},
		"no more than there may be twice": {func(from, end int64, i int) int64 { return min(from+int64(i/2), end-1) }, 32*end + 4*maxPage},
	} {
		t.Run(name, func(t *testing.T) {
			search := &sinktest.Search{}
			_, s := filled(t, 1, search)
			search.Edit = func(path string, status int, answer []byte) (int, []byte) {
				if path != "/_search" {
					return status, answer
				}
				var q struct {
					Size  int
					Query struct {
						Bool struct {
							Filter []struct {
								Range map[string]struct{ GTE, LT *int64 }
							}
						}
					}
				}
				if err := json.Unmarshal([]byte(search.Asked[len(search.Asked)-1]), &q); err != nil {
					t.Error(err)
				}
				var hits []string
				for i := range q.Size {
					from, end := int64(0), int64(1)<<60
					for _, f := range q.Query.Bool.Filter {
						if r, ok := f.Range["kafka.offset"]; ok {
							if from = *r.GTE; r.LT != nil {
								end = *r.LT
							}
						}
					}
					hits = append(hits, fmt.Sprintf(`{"_index":"i","_id":"x","_source":{},"sort":[%d]}`, c.offset(from, end, i)))
				}
				return status, fmt.Appendf(nil, `{"timed_out":false,"_shards":{"total":1,"successful":1,"failed":0},"hits":{"hits":[%s]}}`, strings.Join(hits, ","))
			}
			v, err := s.Store(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			n := 0
			enough := errors.New("it goes on for ever")
			err = v.Partition(t.Context(), testOrigin.Topic, 0, 100, end, func(Found) error {
				if n++; n > 200_000 {
					return enough
				}
				return nil
			})
			if errors.Is(err, enough) || n > c.most+4*maxPage || c.most == 0 && err == nil {
				t.Errorf("%d documents: %v", n, err)
			}
		})
	}
}

// Documents whose offsets are not of the range are there to be named.
func TestStoredShowsWhatLiesBesideTheRange(t *testing.T) {
	_, s := filled(t, 1000, &sinktest.Search{})
	v, err := s.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	v.size = 50
	var offsets []int64
	if err := v.Partition(t.Context(), testOrigin.Topic, 0, 300, 600, func(f Found) error { offsets = append(offsets, f.Offset); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(offsets)
	if n := len(slices.Compact(offsets)); n != len(offsets) || n <= 300 || n >= 900 || offsets[0] >= 300 || offsets[n-1] < 600 {
		t.Errorf("%d documents: %d", n, offsets)
	}
	for at := int64(300); at < 600; at++ {
		if !slices.Contains(offsets, at) {
			t.Errorf("offset %d is left out", at)
		}
	}
}

// A page of large documents is more than an answer may be: less is asked for.
func TestStoredAsksForLessWhenAnswersAreTooLong(t *testing.T) {
	search := &sinktest.Search{}
	_, s := filled(t, 20, search)
	var long []*buffer.Record
	for i := range 30 {
		long = append(long, record(int64(100+i), `{"x":"`+strings.Repeat("x", 4<<10)+`"}`))
	}
	if _, err := s.Deliver(t.Context(), batch(long...), nil); err != nil {
		t.Fatal(err)
	}
	v, err := s.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	v.limit = 10 << 10
	n := 0
	if err := v.Partition(t.Context(), testOrigin.Topic, 0, 0, 2000, func(Found) error { n++; return nil }); err != nil || n != 50 {
		t.Errorf("%d documents: %v", n, err)
	}
	var ids []string
	for _, r := range long {
		ids = append(ids, DocumentID(testOrigin, r.Offset))
	}
	if found, err := v.ByID(t.Context(), ids); err != nil || len(found) != 30 {
		t.Errorf("%d documents: %v", len(found), err)
	}
}

// Whatever a server answers, nothing that it left out counts as read.
func TestStoredTakesNoAnswerThatCannotBe(t *testing.T) {
	replace := func(old, by string) func([]byte) []byte {
		return func(a []byte) []byte { return []byte(strings.Replace(string(a), old, by, 1)) }
	}
	for name, edit := range map[string]func([]byte) []byte{
		"timed out":      replace(`"timed_out":false`, `"timed_out":true`),
		"a failed shard": replace(`"failed":0`, `"failed":1`),
		"a lost shard":   replace(`"successful":1`, `"successful":0`),
		"no shards":      replace(`"_shards"`, `"x"`),
		"not sorted":     replace(`"sort":[3]`, `"sort":[9]`),
		"no sort":        replace(`"sort":[3]`, `"sort":[]`),
		"a sort of text": replace(`"sort":[3]`, `"sort":["x"]`),
		"cut off":        func(a []byte) []byte { return a[:len(a)/2] },
		"not JSON":       func([]byte) []byte { return []byte("<html>") },
		"too many": func(a []byte) []byte {
			var p map[string]json.RawMessage
			_ = json.Unmarshal(a, &p)
			one := `{"_index":"i","_id":"x","_source":{},"sort":[1]},`
			p["hits"] = []byte(`{"hits":[` + strings.Repeat(one, 4*maxPage) + strings.TrimSuffix(one, ",") + `]}`)
			a, _ = json.Marshal(p)
			return a
		},
	} {
		t.Run(name, func(t *testing.T) {
			search := &sinktest.Search{}
			_, s := filled(t, 10, search)
			search.Edit = func(path string, status int, answer []byte) (int, []byte) {
				if path == "/_search" {
					answer = edit(answer)
				}
				return status, answer
			}
			v, err := s.Store(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			n := 0
			if err := v.Partition(t.Context(), testOrigin.Topic, 0, 0, 2000, func(Found) error { n++; return nil }); err == nil {
				t.Errorf("taken, %d documents", n)
			}
		})
	}
}

func TestStoredByIDTakesNoDocumentThatWasNotAskedFor(t *testing.T) {
	search := &sinktest.Search{}
	_, s := filled(t, 3, search)
	v, err := s.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	search.Edit = func(_ string, status int, answer []byte) (int, []byte) {
		return status, []byte(strings.Replace(string(answer), ":0:1", ":0:2", 1))
	}
	if found, err := v.ByID(t.Context(), []string{DocumentID(testOrigin, 1)}); err == nil {
		t.Errorf("%+v", found)
	}
}

func TestStoredOfNoIndexHasNoDocuments(t *testing.T) {
	_, s := fakeSearch(t, &sinktest.Search{})
	v, err := s.Store(t.Context())
	if err != nil || !v.Absent {
		t.Fatal(err)
	}
	defer v.Close()
	if n, err := v.Count(t.Context()); n != 0 || err != nil {
		t.Error(n, err)
	}
	if err := v.Partition(t.Context(), "t", 0, 0, 2000, func(Found) error { return errors.New("one") }); err != nil {
		t.Error(err)
	}
	// A proxy that says 404 has not said that there is none.
	_, s = fake(t, nil)
	s.flavor = &openSearchFlavor
	if v, err := s.Store(t.Context()); err == nil {
		t.Errorf("%+v", v)
	}
}

func fakeSearch(t *testing.T, search *sinktest.Search) (*sinktest.Elasticsearch, *Sink) {
	t.Helper()
	es := &sinktest.Elasticsearch{Search: search}
	return es, serve(t, es, nil)
}

// A server that is busy for a moment is asked again, one that refuses is not; one
// that only does not refresh is believed, and that is said.
func TestStoredAsksAgain(t *testing.T) {
	search := &sinktest.Search{}
	_, s := filled(t, 5, search)
	answers := map[string][]int{"/events/_refresh": {403}}
	search.Edit = func(path string, status int, answer []byte) (int, []byte) {
		if left := answers[path]; len(left) > 0 {
			answers[path] = left[1:]
			return left[0], []byte(`{}`)
		}
		return status, answer
	}
	v, err := s.Store(t.Context())
	if err != nil || !strings.Contains(v.Unrefreshed, "maintenance") {
		t.Fatalf("%+v %v", v, err)
	}
	defer v.Close()
	v.waits = []time.Duration{time.Nanosecond}
	answers["/_search"] = []int{429}
	if n, err := v.Count(t.Context()); n != 5 || err != nil {
		t.Error(n, err)
	}
	answers["/_search"] = []int{http.StatusForbidden}
	if _, err := v.Count(t.Context()); err == nil || !strings.Contains(err.Error(), "the index privilege read") {
		t.Error(err)
	}
}
