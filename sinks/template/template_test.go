package template

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"weir/buffer"
)

var origin = &buffer.Origin{Topic: "edr.Events", Partition: 7}

func object(value string) *buffer.Record {
	return &buffer.Record{Origin: origin, Time: time.Date(2024, 2, 29, 23, 59, 58, 123456789, time.UTC), Value: []byte(value), Shape: buffer.ShapeObject}
}

func parse(t testing.TB, s string) *Template {
	t.Helper()
	made, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// A placeholder that is replaced by something else sends events elsewhere.
func TestPlaceholders(t *testing.T) {
	for _, c := range []struct{ template, value, want string }{
		{"", `{}`, ""},
		{"plain", `{}`, "plain"},
		{"a-{topic}-b", `{}`, "a-edr.Events-b"},
		{"{partition}{partition}", `{}`, "77"},
		{"{time:2006.01.02}", `{}`, "2024.02.29"},
		{"{time:15:04:05.000}", `{}`, "23:59:58.123"},
		{"{a.b}", `{"x":{"a":{"b":"no"}},"a":{"c":[{"b":1}],"b":"Yes"}}`, "Yes"},
		{"{a.b.c}", `{"a":{"b":1},"a.b":{"c":"yes"}}`, "yes"},
		{"{a}", `{"\u0061":"y\u0065s"}`, "yes"},
		{"{a}", `{"a":-1.50e3}`, "-1.50e3"},
		{"{a}", ` { "a" : false } `, "false"},
		{"{a}x", `{"a":""}`, "x"},
		{"{a}", `{"a":"first","a":"second"}`, "first"},
		{"{a}", `{"a":"` + strings.Repeat("x", MaxFieldText) + `"}`, strings.Repeat("x", MaxFieldText)},
		// As it is: who uses the text makes it fit.
		{"{a}", `{"a":"../\u0000\u001b[2J\r\n"}`, "../\x00\x1b[2J\r\n"},
	} {
		got, err := parse(t, c.template).Append([]byte("before "), object(c.value))
		if err != nil || string(got) != "before "+c.want {
			t.Errorf("%s of %.100s: %q %v, want %q", c.template, c.value, got, err, c.want)
		}
	}
}

// Zone and clock of the machine must not move an event to another day, nor may a
// missing timestamp: what is sent twice has to come to the same place.
func TestTimesAreInUTCAndFixed(t *testing.T) {
	r := object(`{}`)
	r.Time = time.Date(2024, 3, 1, 1, 0, 0, 0, time.FixedZone("east", 2*60*60))
	if got, _ := parse(t, "{time:2006.01.02}").Append(nil, r); string(got) != "2024.02.29" {
		t.Errorf("got %s", got)
	}
	r.Time = time.Time{}
	if got, _ := parse(t, "{time:2006.01.02}").Append(nil, r); string(got) != "1970.01.01" {
		t.Errorf("without a timestamp: %s", got)
	}
}

// A text that cannot be made must not be made of half of it, and its error goes
// to logs: what the event holds must not.
func TestWhatCannotBeMade(t *testing.T) {
	for value, want := range map[string]string{
		`{"b":"SECRET"}`:     "field a: missing",
		`{"a":{"SECRET":1}}`: "field a: not a string, number or boolean",
		`{"a":["SECRET"]}`:   "field a: not a string, number or boolean",
		`{"a":null}`:         "field a: not a string, number or boolean",
		`{"a":"SECRET\x"}`:   "field a: not a valid string",
		`{"a":"SECRET` + strings.Repeat("x", MaxFieldText) + `"}`: "field a: longer than 1024 bytes",
	} {
		got, err := parse(t, "x-{a}").Append([]byte("before"), object(value))
		if string(got) != "before" || err == nil || err.Error() != want {
			t.Errorf("%.60s: %q %v, want %q", value, got, err, want)
		}
	}
	r := object("SECRET")
	r.Shape = 0
	if _, err := parse(t, "{a}").Append(nil, r); err == nil || err.Error() != "field a: the value is not a JSON object" {
		t.Errorf("no object: %v", err)
	}
}

// What a template needs decides which texts are kept and which are not trusted.
func TestWhatATemplateNeeds(t *testing.T) {
	for _, c := range []struct {
		template                     string
		event, begins, perRecord, is bool
		pattern                      string
	}{
		{"", false, false, false, true, ""},
		{"a", false, false, false, true, "a"},
		{"a-{topic}", false, false, false, false, "a-*"},
		{"{topic}{partition}-{time:2006}", false, false, true, false, "*-*"},
		{"x{a}", true, false, true, false, "x*"},
		{"{a}x{b}", true, true, true, false, "*x*"},
	} {
		m := parse(t, c.template)
		text, is := m.Constant()
		if m.NeedsEvent() != c.event || m.BeginsWithEvent() != c.begins || m.PerRecord() != c.perRecord || is != c.is || m.Pattern() != c.pattern {
			t.Errorf("%s: %v %v %v %v %s", c.template, m.NeedsEvent(), m.BeginsWithEvent(), m.PerRecord(), is, m.Pattern())
		}
		if is && text != c.template {
			t.Errorf("%s: %q", c.template, text)
		}
	}
}

// A text that is kept for the next record must be that record's.
func TestSameIsSaidOnlyOfTheSameText(t *testing.T) {
	elsewhere := &buffer.Origin{Topic: "other", Partition: 7}
	var rs []*buffer.Record
	for _, o := range []*buffer.Origin{origin, elsewhere} {
		for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(100, 0), time.Unix(100, 5e8), time.Unix(101, 0)} {
			for _, v := range []string{`{"a":"1"}`, `{"a":"2"}`} {
				rs = append(rs, &buffer.Record{Origin: o, Time: at, Value: []byte(v), Shape: buffer.ShapeObject})
			}
		}
	}
	for _, s := range []string{"x", "{topic}", "{partition}", "{time:150405}", "{time:150405.0}", "{topic}{time:05}", "{a}", "{time:05}{a}"} {
		m := parse(t, s)
		same := 0
		for _, a := range rs {
			for _, b := range rs {
				if !m.Same(a, b) {
					continue
				}
				same++
				x, errX := m.Append(nil, a)
				y, errY := m.Append(nil, b)
				if errX != nil || errY != nil || !bytes.Equal(x, y) {
					t.Errorf("%s: %q and %q are not the same", s, x, y)
				}
			}
		}
		if same == 0 && !m.NeedsEvent() {
			t.Errorf("%s: nothing is the same", s)
		}
	}
}

func TestTemplatesThatCannotBe(t *testing.T) {
	for _, s := range []string{
		"{", "}", "a{", "a}b", "{a{b}}", "{}", "{a..b}", "{.a}", "{a.}", "{time}", "{time:}", "{time:x}", "{" + strings.Repeat("a.", maxSteps) + "a}",
	} {
		if m, err := Parse(s); err == nil {
			t.Errorf("%q was taken: %+v", s, m)
		}
	}
}

// Whatever the template and the event, there is a text or an error, and the text
// matches the template's pattern.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "a", "{topic}-{partition}", "{time:2006.01.02}{a.b}", "x{a}y{a}", "{", "{time:05.000}"} {
		f.Add(s, []byte(`{"a":{"b":"c"}}`))
		f.Add(s, []byte(`{"a":"*"}`))
	}
	f.Fuzz(func(t *testing.T, s string, value []byte) {
		m, err := Parse(s)
		if err != nil {
			if utf8.ValidString(s) && !strings.ContainsAny(s, "{}") {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		got, err := m.Append([]byte("-"), object(string(value)))
		if err != nil {
			if string(got) != "-" || !m.NeedsEvent() {
				t.Fatalf("%q: %q %v", s, got, err)
			}
			return
		}
		parts := strings.Split(m.Pattern(), "*")
		if strings.Contains(s, "*") {
			return // a star that stands for itself
		}
		rest, ok := strings.CutPrefix(string(got), "-"+parts[0])
		if last := parts[len(parts)-1]; !ok || !strings.HasSuffix(string(got), last) || len(parts) == 1 && rest != "" {
			t.Fatalf("%q does not match %q", got, m.Pattern())
		}
	})
}

// The scanner finds what encoding/json finds, and never leaves the document.
func FuzzField(f *testing.F) {
	f.Add([]byte(`{"a":{"b":"c\u0041"},"x":[1,{"y":null}]}`))
	f.Add([]byte(`{"a":{"b":1.5e3}}`))
	f.Add([]byte(`{"a":]`))
	path, err := ParseField("a.b")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := path.Text(object(string(value)))
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		var doc map[string]any
		if !utf8.Valid(value) || d.Decode(&doc) != nil || bytes.Count(value, []byte("a")) != 1 || bytes.Count(value, []byte("b")) != 1 || bytes.IndexByte(value, '\\') >= 0 {
			return // no guarantee but that it came back
		}
		inner, _ := doc["a"].(map[string]any)
		switch want := inner["b"].(type) {
		case string:
			if err != nil || string(got) != want {
				t.Fatalf("%q: %q %v, want %q", value, got, err, want)
			}
		case json.Number:
			if err != nil || string(got) != want.String() {
				t.Fatalf("%q: %q %v, want %q", value, got, err, want)
			}
		}
	})
}
