package transform

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"weir/buffer"
)

const (
	object     = buffer.ShapeObject
	broken     = object | buffer.ShapeLineBreak
	timestamps = object | buffer.ShapeTimestamp
	kafkas     = object | buffer.ShapeKafka
	empty      = object | buffer.ShapeEmpty
)

var values = []struct {
	name  string
	value string
	want  buffer.Shape
}{
	{"object", `{"a":1}`, object},
	{"every kind of value", `{"a":"x","b":-1.5e+10,"c":true,"d":false,"e":null,"f":[1,"2",{}],"g":{"h":[]}}`, object},
	{"no members", `{}`, empty},
	{"no members, with a line break", "{\n}", empty | broken},
	{"no members further in", `{"a":{},"b":[{}]}`, object},
	{"both names", `{"@timestamp":"2024-01-01T00:00:00Z","kafka":{}}`, timestamps | kafkas},

	{"no value", ``, 0},
	{"white space alone", " \n", 0},
	{"string", `"{}"`, 0},
	{"number", `1`, 0},
	{"null", `null`, 0},
	{"array", `[{"a":1}]`, 0},
	{"text", `Nov 22 20:46:01 host sshd[1]: failed`, 0},
	{"NaN", `{"a":NaN}`, 0},
	{"Infinity", `{"a":-Infinity}`, 0},
	{"single quotes", `{'a':1}`, 0},
	{"comment", `{"a":1/**/}`, 0},
	{"trailing comma", `{"a":1,}`, 0},
	{"trailing comma in an array", `{"a":[1,]}`, 0},
	{"leading comma", `{,"a":1}`, 0},
	{"leading comma in an array", `{"a":[,1]}`, 0},
	{"two commas", `{"a":1,,"b":2}`, 0},
	{"no colon", `{"a" 1}`, 0},
	{"no value of a member", `{"a":}`, 0},
	{"no name", `{:1}`, 0},
	{"number as a name", `{1:1}`, 0},
	{"closed by the other bracket", `{"a":[1}`, 0},
	{"array closed by the other bracket", `{"a":[1}]`, 0},
	{"object closed by the other bracket", `{"a":1]`, 0},
	{"empty object closed by the other bracket", `{]`, 0},
	{"after an array an object goes on", `{"a":[1],"b":2}`, object},
	{"after an object an array goes on", `{"a":[{"b":1},2]}`, object},
	{"a name where an array goes on", `{"a":[{"b":1},"c":2]}`, 0},
	{"not closed", `{"a":1`, 0},
	{"not closed behind a comma", `{"a":1,`, 0},
	{"not closed in a name", `{"a`, 0},
	{"not closed in a long string", `{"a":"` + strings.Repeat("x", 40), 0},
	{"ends in an escape", `{"a":"\`, 0},
	{"ends in a surrogate", `{"a":"\ud8`, 0},
	{"one bracket", `{`, 0},

	{"a second object", `{"a":1}{"b":2}`, 0},
	{"a second object on its own line", "{\"a\":1}\n{\"b\":2}", 0},
	{"trailing garbage", `{"a":1}x`, 0},
	{"one bracket too many", `{"a":1}}`, 0},
	{"byte order mark", "\ufeff{\"a\":1}", 0},
	{"NUL behind", "{\"a\":1}\x00", 0},
	{"NUL before", "\x00{\"a\":1}", 0},
	{"NUL in a string", "{\"a\":\"\x00\"}", 0},
	{"form feed is no white space", "{\"a\":\f1}", 0},
	{"no-break space is no white space", "{\"a\":\u00a01}", 0},

	{"white space", " \t{ \"a\" : 1 , \"b\" : [ 1 , 2 ] } ", object},
	{"line break before", "\n{\"a\":1}", broken},
	{"line break behind", "{\"a\":1}\n", broken},
	{"carriage return behind", "{\"a\":1}\r\n", broken},
	{"line break behind a bracket", "{\n\"a\":1}", broken},
	{"line break before a colon", "{\"a\"\n:1}", broken},
	{"line break behind a colon", "{\"a\":\n1}", broken},
	{"line break before a comma", "{\"a\":1\n,\"b\":2}", broken},
	{"line break behind a comma", "{\"a\":1,\n\"b\":2}", broken},
	{"line break before a bracket", "{\"a\":1\n}", broken},
	{"line break in an array", "{\"a\":[\n]}", broken},
	{"carriage return alone", "{\"a\":1,\r\"b\":2}", broken},
	{"bulk line smuggled between members", "{\"a\":1,\n\"delete\":{\"_id\":\"x\"}}", broken},
	{"escaped line break in a string", `{"a":"x\r\ny"}`, object},
	{"raw line break in a string", "{\"a\":\"x\n{\\\"delete\\\":{}}\"}", 0},
	{"raw carriage return in a string", "{\"a\":\"x\r\"}", 0},
	{"raw line break in a name", "{\"a\n\":1}", 0},
	{"raw line break far into a string", "{\"a\":\"" + strings.Repeat("x", 30) + "\n" + strings.Repeat("y", 30) + "\"}", 0},
	{"tab in a string", "{\"a\":\"\t\"}", 0},
	{"DEL in a string", "{\"a\":\"\x7f\"}", object},

	{"invalid UTF-8", "{\"a\":\"\xff\"}", 0},
	{"invalid UTF-8 in a name", "{\"a\xc3\":1}", 0},
	{"invalid UTF-8 far into a string", "{\"a\":\"" + strings.Repeat("x", 30) + "\xe2\x28\xa1" + strings.Repeat("y", 30) + "\"}", 0},
	{"surrogate as UTF-8", "{\"a\":\"\xed\xa0\x80\"}", 0},
	{"overlong quote", "{\"a\":\"\xc0\xa2\"}", 0},
	{"invalid UTF-8 between tokens", "{\"a\":1 \xff}", 0},
	{"valid UTF-8", `{"é":"日本語 😀 and more than eight bytes"}`, object},
	{"lone surrogate", `{"a":"\ud800"}`, object},
	{"lone surrogate in a name", `{"\udc00":1}`, object},
	{"surrogate pair", `{"a":"\ud83d\ude00"}`, object},
	{"every escape", `{"a":"\"\\\/\b\f\n\r\t\u00e9\uABCD"}`, object},
	{"unknown escape", `{"a":"\x41"}`, 0},
	{"escaped quote ends nothing", `{"a":"\"}`, 0},
	{"short hex", `{"a":"\u12"}`, 0},
	{"bad hex", `{"a":"\u12g4"}`, 0},
	{"capital U", `{"a":"\U1234"}`, 0},

	{"zero", `{"a":0,"b":-0,"c":0.0,"d":0e0}`, object},
	{"leading zero", `{"a":01}`, 0},
	{"leading zeros", `{"a":-00}`, 0},
	{"plus", `{"a":+1}`, 0},
	{"minus alone", `{"a":-}`, 0},
	{"minus at the end", `{"a":-`, 0},
	{"no digit before the point", `{"a":.5}`, 0},
	{"no digit behind the point", `{"a":1.}`, 0},
	{"no digit in the exponent", `{"a":1e}`, 0},
	{"no digit behind the exponent's sign", `{"a":1e+}`, 0},
	{"hexadecimal", `{"a":0x10}`, 0},
	{"400 digits", `{"a":` + strings.Repeat("9", 400) + `}`, object},
	{"400 decimals", `{"a":0.` + strings.Repeat("9", 400) + `}`, object},
	{"exponent out of every range", `{"a":1e400}`, object},
	{"literal cut short", `{"a":tru}`, 0},
	{"literal too long", `{"a":nulls}`, 0},
	{"literal in capitals", `{"a":True}`, 0},

	{"name twice", `{"a":1,"a":2}`, object},
	{"@timestamp twice", `{"@timestamp":1,"@timestamp":2}`, timestamps},
	{"@timestamp with an escape", `{"\u0040timestamp":1}`, timestamps},
	{"@timestamp all in escapes", `{"\u0040\u0074\u0069\u006D\u0065\u0073\u0074\u0061\u006d\u0070":1}`, timestamps},
	{"kafka with an escape", `{"k\u0061fka":1}`, kafkas},
	{"kafka with its end in an escape", `{"kafk\u0061":1}`, kafkas},
	{"kafka and more, with an escape", `{"k\u0061fkas":1}`, object},
	{"less than kafka, with an escape", `{"k\u0061fk":1}`, object},
	{"kafka with another escape", `{"kafk\n":1}`, object},
	{"a quote before kafka", `{"\"kafka":1}`, object},
	{"a wide character whose low byte fits", `{"\u0161fka":1,"k\u0161fka":1}`, object},
	{"escape in another name", `{"\u0041":1}`, object},
	{"capitals", `{"Kafka":1,"@Timestamp":1}`, object},
	{"names further in", `{"a":{"kafka":1,"@timestamp":1},"b":[{"kafka":1}]}`, object},
	{"names as values", `{"a":"kafka","b":"@timestamp"}`, object},
	{"name behind a deeper object", `{"a":{"b":{}},"kafka":1}`, kafkas},
	{"dotted name", `{"kafka.topic":1}`, object},
	{"empty name", `{"":1}`, object},

	{"deepest", nested(maxDepth), object},
	{"deepest, in arrays", `{"a":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `,"kafka":1}`, kafkas},
	{"too deep", nested(maxDepth + 1), 0},
	{"too deep, in arrays", `{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`, 0},
	{"depth 10,000", nested(10_000), 0},
	{"10,000 open brackets", `{"a":` + strings.Repeat("[", 10_000), 0},
	{"objects and arrays by turns", strings.Repeat(`{"a":[`, maxDepth/2) + strings.Repeat(`]}`, maxDepth/2), object},
	{"objects and arrays by turns, one swapped", strings.Repeat(`{"a":[`, maxDepth/2) + strings.Repeat(`]}`, maxDepth/2-2) + `}]]}`, 0},
}

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth-1) + `{}` + strings.Repeat(`}`, depth-1)
}

func TestShape(t *testing.T) {
	for _, v := range values {
		t.Run(v.name, func(t *testing.T) {
			in := []byte(v.value)
			if got := Shape(in); got != v.want {
				t.Errorf("Shape(%.100q) = %05b, want %05b", v.value, got, v.want)
			}
			if string(in) != v.value {
				t.Errorf("Shape altered its value to %.100q", in)
			}
			if want := slowShape(in); want != v.want {
				t.Errorf("the slow shape of %.100q is %05b, the table says %05b", v.value, want, v.want)
			}
		})
	}
}

// A string's end is looked for eight bytes at a time: whatever stops it has to
// be found at every place of a word and of the last, shorter one.
func TestShapeFindsWhatEndsAStringAtEveryPlace(t *testing.T) {
	for before := range 20 {
		for after := range 20 {
			head, tail := strings.Repeat("x", before), strings.Repeat("y", after)
			for stop, want := range map[string]buffer.Shape{
				``: object, `\n`: object, `\u0041`: object, "é": object,
				`"`: 0, `\x`: 0, "\n": 0, "\x1f": 0, "\xff": 0, "\xc3": 0,
			} {
				in := []byte(`{"a":"` + head + stop + tail + `"}`)
				if got := Shape(in); got != want {
					t.Errorf("Shape(%q) = %05b, want %05b", in, got, want)
				}
				in = append(bytes.TrimSuffix(in, []byte(`"}`)), `":1,"b":"`...)
				if got := Shape(in); got != 0 {
					t.Errorf("Shape(%q) = %05b, want 0", in, got)
				}
			}
		}
	}
}

// The arithmetic on eight bytes carries from one byte to the next: no byte may
// hide or make up its neighbour.
func TestShapeOfEveryTwoBytesInAString(t *testing.T) {
	in := []byte(`{"a":"xxxxxxxx"}`)
	for a := range 256 {
		for b := range 256 {
			in[8], in[9] = byte(a), byte(b)
			if got, want := Shape(in) != 0, json.Valid(in) && utf8.Valid(in); got != want {
				t.Errorf("Shape(%q) is an object: %t, want %t", in, got, want)
			}
		}
	}
}

func TestShapeOfEveryCutIsNoObject(t *testing.T) {
	whole := []byte(`{"@timestamp":"2024-01-01T00:00:00Z","n":-1.5e+10,"s":"\u00e9\\ \"é","l":[true,false,null,{}],"kafka":{"a":[[]]}}`)
	if Shape(whole) == 0 {
		t.Fatal("the whole is no object")
	}
	for n := range whole {
		// A cut that ends where its memory ends: reading on would panic.
		if got := Shape(bytes.Clone(whole[:n])[:n:n]); got != 0 {
			t.Errorf("Shape(%q) = %05b, want 0", whole[:n], got)
		}
	}
}

func TestShapeAllocatesNothing(t *testing.T) {
	in := []byte(`{"\u0040timestamp":"é","a":` + nested(300) + `}`)
	if n := testing.AllocsPerRun(100, func() { Shape(in) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzShape(f *testing.F) {
	for _, v := range values {
		f.Add([]byte(v.value))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if got, want := Shape(in), slowShape(in); got != want {
			t.Errorf("Shape(%q) = %05b, want %05b", in, got, want)
		}
	})
}

// slowShape says the same as Shape by means of encoding/json.
func slowShape(in []byte) buffer.Shape {
	trimmed := bytes.Trim(in, " \t\r\n")
	if !utf8.Valid(in) || !json.Valid(in) || trimmed[0] != '{' {
		return 0
	}
	shape := object
	// In valid JSON a raw line break can only be between tokens.
	if bytes.ContainsAny(in, "\r\n") {
		shape |= buffer.ShapeLineBreak
	}
	d := json.NewDecoder(bytes.NewReader(trimmed))
	d.UseNumber()
	depth, tokens := 0, 0
	name := false // at depth 1: the next token is a name
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			panic(err)
		}
		tokens++
		top := depth == 1
		switch token {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return 0
			}
			if depth == 1 {
				name = true
				continue
			}
			name = depth == 1
		case json.Delim('}'), json.Delim(']'):
			depth--
			name = depth == 1
		default:
			if top && name {
				switch token {
				case "@timestamp":
					shape |= buffer.ShapeTimestamp
				case "kafka":
					shape |= buffer.ShapeKafka
				}
				name = false
			} else {
				name = top
			}
		}
	}
	if tokens == 2 {
		shape |= buffer.ShapeEmpty
	}
	return shape
}

func realEvents(tb testing.TB) [][]byte {
	dir := os.Getenv("WEIR_TEST_DATA")
	if dir == "" {
		tb.Skip("WEIR_TEST_DATA is not set to a folder of real events (*.jsonl.gz)")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl.gz"))
	if err != nil || len(files) == 0 {
		tb.Skipf("no *.jsonl.gz in WEIR_TEST_DATA=%s", dir)
	}
	var events [][]byte
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			tb.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			tb.Fatal(err)
		}
		lines := bufio.NewScanner(z)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			events = append(events, bytes.Clone(lines.Bytes()))
		}
		if err := lines.Err(); err != nil {
			tb.Fatal(err)
		}
	}
	return events
}

func TestShapeOfRealEvents(t *testing.T) {
	for n, event := range realEvents(t) {
		if got, want := Shape(event), slowShape(event); got != want {
			t.Errorf("event %d: shape %05b, want %05b", n, got, want)
		}
	}
}

// A process event of about 500 bytes with 12 members.
const event = `{"@timestamp":"2024-05-17T09:21:33.518Z","event.code":4688,"host.name":"ws-0173.corp.example",` +
	`"user.name":"m.jensen","user.domain":"CORP","process.pid":11284,"process.parent.pid":4410,` +
	`"process.executable":"C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",` +
	`"process.command_line":"powershell.exe -NoProfile -ExecutionPolicy Bypass -File C:\\Scripts\\nightly-inventory.ps1 -Quiet",` +
	`"source.ip":"10.20.31.173","event.outcome":"success","labels":{"site":"cph","tier":2,"managed":true}}`

func benchmark(b *testing.B, events [][]byte, check func([]byte) bool) {
	var size int
	for _, e := range events {
		size += len(e)
	}
	b.SetBytes(int64(size) / int64(len(events)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if !check(events[n]) {
			b.Fatalf("not an object: %q", events[n])
		}
		if n++; n == len(events) {
			n = 0
		}
	}
}

func isObject(v []byte) bool { return Shape(v) != 0 }

func BenchmarkShape(b *testing.B)     { benchmark(b, [][]byte{[]byte(event)}, isObject) }
func BenchmarkJSONValid(b *testing.B) { benchmark(b, [][]byte{[]byte(event)}, json.Valid) }

func BenchmarkShapeOfRealEvents(b *testing.B) { benchmark(b, realEvents(b), isObject) }
func BenchmarkJSONValidOfRealEvents(b *testing.B) {
	benchmark(b, realEvents(b), json.Valid)
}
