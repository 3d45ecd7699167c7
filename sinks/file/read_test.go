package file

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"weir/buffer"
)

// same reports whether two records hold the same, null and empty told apart.
func same(a, b *buffer.Record) bool {
	x, y := *a, *b
	x.Origin, y.Origin = nil, nil
	x.Time, y.Time = time.Time{}, time.Time{}
	return *a.Origin == *b.Origin && a.Time.Equal(b.Time) && a.Time.IsZero() == b.Time.IsZero() && reflect.DeepEqual(x, y)
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	texts := [][]byte{
		nil, {}, []byte("plain"), []byte("<&>\u2028\u2029\ufffd"), []byte("line\nbreak\r\t\"quoted\\\""),
		{0}, {0x7f, 0x1b}, {0xff, 0xfe}, []byte("half \xe6\x97"), []byte("日本語😀"), {0xed, 0xa0, 0x80}, []byte(`"\ud800"`),
	}
	random := rand.New(rand.NewPCG(1, 2))
	text := func() []byte {
		b := texts[random.IntN(len(texts))]
		if random.IntN(4) > 0 {
			return bytes.Clone(b)
		}
		b = make([]byte, random.IntN(60))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	times := []time.Time{{}, time.UnixMilli(0), time.UnixMilli(-1), time.UnixMilli(1715937693518),
		time.UnixMilli(math.MaxInt64), time.UnixMilli(math.MinInt64)}
	path := filepath.Join(t.TempDir(), "weir.dlq")
	s := open(t, path)
	var want []*buffer.Record
	for range 300 {
		b := &buffer.Batch{}
		for range 10 {
			r := &buffer.Record{
				Origin: &buffer.Origin{Cluster: "c\u00e9", Topic: "t.1", Partition: int32(random.Uint32())},
				Offset: int64(random.Uint64()), Time: times[random.IntN(len(times))], Appended: random.IntN(2) == 0, Key: text(), Value: text(),
			}
			for range random.IntN(4) {
				r.Headers = append(r.Headers, buffer.Header{Key: string(text()), Value: text()})
			}
			b.Add(r)
		}
		deliver(t, s, b)
		want = append(want, b.Records...)
	}
	n := 0
	for got, err := range Read(path) {
		if err != nil {
			t.Fatal(err)
		}
		if !same(got, want[n]) {
			t.Fatalf("record %d came back as %+v %+v, was %+v %+v", n, got.Origin, got, want[n].Origin, want[n])
		}
		n++
	}
	if n != len(want) {
		t.Errorf("%d of %d came back", n, len(want))
	}
}

// The package comment shows a line.
func TestDocumentedLineIsOne(t *testing.T) {
	const text = `{"topic":"edr.events","topic_id":"Jb3KpkzXQ7qFbOQ1Cq9wMA","cluster":"MkU3OEVBNTcwNTJENDM2Qg",` +
		`"partition":3,"offset":1741,"timestamp":1715937693518,` +
		`"key":"ws-0173","value":"{\"event\":1}",` +
		`"headers":[{"key":"trace","value_base64":"/wA="},{"key":"weir.reason","value":"mapper_parsing_exception"}]}`
	source := strings.ReplaceAll(content(t, "file.go"), "\n//\t ", "")
	if !strings.Contains(source, text) {
		t.Error("the package comment shows another line than this test")
	}
	want := &buffer.Record{
		Origin: &buffer.Origin{Topic: "edr.events", TopicID: "Jb3KpkzXQ7qFbOQ1Cq9wMA", Cluster: "MkU3OEVBNTcwNTJENDM2Qg", Partition: 3},
		Offset: 1741, Time: time.UnixMilli(1715937693518), Key: []byte("ws-0173"), Value: []byte(`{"event":1}`),
		Headers: []buffer.Header{{Key: "trace", Value: []byte{0xff, 0}}, {Key: "weir.reason", Value: []byte("mapper_parsing_exception")}},
	}
	if got, err := appendLine(nil, want); err != nil || string(got) != text+"\n" {
		t.Errorf("written: %s (%v)", got, err)
	}
	if got, err := parseLine([]byte(text)); err != nil || !same(got, want) {
		t.Errorf("read: %+v (%v)", got, err)
	}
}

// People look into this file with grep.
func TestMarkupStaysReadable(t *testing.T) {
	r := record(1)
	r.Value = []byte("<Event a='1'>&amp;</Event>")
	if got, err := appendLine(nil, r); err != nil || !bytes.Contains(got, r.Value) {
		t.Errorf("written: %s (%v)", got, err)
	}
}

func TestBadLineIsNamedAndTheNextIsRead(t *testing.T) {
	good, err := appendLine(nil, record(7))
	if err != nil {
		t.Fatal(err)
	}
	const start = `{"topic":"t","topic_id":"","cluster":"","partition":0,"offset":1`
	for name, c := range map[string]struct{ line, want string }{
		"empty":                {``, "not a whole"},
		"zeros":                {"\x00\x00\x00", "not valid JSON"},
		"text":                 {`secret`, "not valid JSON"},
		"cut":                  {start + `,"value":"secr`, "not a whole"},
		"null":                 {`null`, "missing"},
		"two":                  {start + `}{"secret":1}`, "more than one"},
		"no topic":             {`{"partition":0,"offset":1,"value":"secret"}`, "missing"},
		"no offset":            {`{"topic":"t","partition":0,"value":"secret"}`, "missing"},
		"misspelt value":       {start + `,"valeu":"secret"}`, "unknown member"},
		"value is an object":   {start + `,"value":{"secret":1}}`, "value is of the wrong type"},
		"offset out of range":  {`{"topic":"t","partition":0,"offset":` + strings.Repeat("9", 40) + `}`, "offset is of the wrong type or out of range"},
		"partition has a half": {`{"topic":"t","partition":0.5,"offset":1}`, "partition is of the wrong type"},
		"value twice":          {start + `,"value":"secret","value_base64":"AA=="}`, "value: given twice"},
		"no base64":            {start + `,"key_base64":"secret!"}`, "base64"},
		"header without a key": {start + `,"headers":[{"key":"a"},{"value":"secret"}]}`, "key of header 1"},
		"header twice":         {start + `,"headers":[{"key":"a","value":"secret","value_base64":"AA=="}]}`, "value of header 0"},
		"invalid UTF-8":        {start + ",\"value\":\"secret\xff\"}", "UTF-8"},
		"too long":             {start + `,"value":"` + strings.Repeat("secret", 100_000) + `"}`, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			in := string(good) + c.line + "\n" + string(good)
			var got []string
			for r, err := range read(strings.NewReader(in), 1000) {
				if err != nil {
					if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "secret") {
						t.Errorf("error %q, want one about line 2 that says %q and not what is in it", err, c.want)
					}
					if line, ok := errors.AsType[*LineError](err); !ok || line.Line != 2 {
						t.Errorf("error %#v, want one about a line", err)
					}
					got = append(got, "error")
				} else {
					got = append(got, fmt.Sprint(r.Offset))
				}
			}
			if want := "7 error 7"; strings.Join(got, " ") != want {
				t.Errorf("read %v, want %s", got, want)
			}
		})
	}
}

func TestUnfinishedLastLineIsNoRecord(t *testing.T) {
	good, err := appendLine(nil, record(7))
	if err != nil {
		t.Fatal(err)
	}
	for _, tail := range []string{`{`, strings.TrimSuffix(string(good), "\n"), strings.Repeat("x", 5000)} {
		var records int
		var last error
		for r, err := range read(strings.NewReader(string(good)+tail), 1000) {
			if last = err; r != nil {
				records++
			}
		}
		if records != 1 || !errors.Is(last, ErrTorn) {
			t.Errorf("%.20q: %d records and %v, want 1 and ErrTorn", tail, records, last)
		}
	}
}

func TestReadStopsWhenToldTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.dlq")
	deliver(t, open(t, path), batch(1, 2, 3))
	n := 0
	for _, err := range Read(path) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestReadOfNoFileSaysSo(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]error{dir: errNotOurs, filepath.Join(dir, "none"): fs.ErrNotExist} {
		n := 0
		for r, err := range Read(path) {
			n++
			if r != nil || !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Read(%q): %v, %v", path, r, err)
			}
		}
		if n != 1 {
			t.Errorf("Read(%q): %d errors", path, n)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for r, err := range Read(filepath.Join(dir, "empty")) {
		t.Errorf("an empty file has %v, %v", r, err)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("topic", int32(1), int64(2), int64(3), []byte("key"), []byte("value"), "h", []byte{0xff}, uint8(0))
	f.Add("t", int32(-1), int64(-2), int64(0), []byte{}, []byte("\n\x00\""), "\xff", []byte{}, uint8(0b111))
	f.Fuzz(func(t *testing.T, topic string, partition int32, offset, ms int64, key, value []byte, name string, header []byte, null uint8) {
		for bit, b := range []*[]byte{&key, &value, &header} {
			if null>>bit&1 != 0 {
				*b = nil
			} else if *b == nil {
				*b = []byte{}
			}
		}
		want := &buffer.Record{
			// Kafka's names are text; base64 makes one of anything.
			Origin: &buffer.Origin{Topic: "t" + base64.URLEncoding.EncodeToString([]byte(topic)), Partition: partition},
			Offset: offset, Time: time.UnixMilli(ms), Key: key, Value: value,
			Headers: []buffer.Header{{Key: name, Value: header}, {Key: name, Value: value}},
		}
		text, err := appendLine(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text, '\n') != len(text)-1 || !bytes.HasPrefix(text, []byte(lineStart)) {
			t.Fatalf("not one line: %q", text)
		}
		n := 0
		for got, err := range read(bytes.NewReader(text), maxLine) {
			if n++; err != nil || !same(got, want) {
				t.Errorf("%q came back as %+v (%v), was %+v", text, got, err, want)
			}
		}
		if n != 1 {
			t.Errorf("%d records", n)
		}
	})
}

func FuzzRead(f *testing.F) {
	good, err := appendLine(nil, record(7))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(good, good[:20]...))
	f.Add([]byte("\n\n{}\nnull\n[]\n\x00"))
	f.Add([]byte(`{"topic":"t","partition":0,"offset":1,"headers":[{"key_base64":"/w=="},null]}` + "\n"))
	f.Add(bytes.Repeat([]byte("x"), 3000))
	f.Fuzz(func(t *testing.T, in []byte) {
		n := 0
		for r, err := range read(bytes.NewReader(in), 2000) {
			n++
			if (r == nil) == (err == nil) {
				t.Fatalf("record %v and error %v", r, err)
			}
			if err != nil {
				continue
			}
			text, err := appendLine(nil, r)
			if err != nil {
				t.Fatal(err)
			}
			again, err := parseLine(bytes.TrimSuffix(text, []byte("\n")))
			if err != nil || !same(again, r) {
				t.Errorf("%+v was written as %q and read as %+v (%v)", r, text, again, err)
			}
		}
		lines := bytes.Count(in, []byte("\n"))
		if len(in) > 0 && in[len(in)-1] != '\n' {
			lines++
		}
		if n != lines {
			t.Errorf("%d yields for %d lines", n, lines)
		}
	})
}
