package syslog

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks/sinktest"
)

func format(t *testing.T, edit func(*Config), r *buffer.Record) string {
	t.Helper()
	cfg := testConfig("127.0.0.1:1")
	edit(&cfg)
	s := mustNew(t, cfg)
	msg, err := (&encoder{layout: &s.layout}).message(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(msg)
}

func extended(payload string) func(*Config) {
	return func(c *Config) {
		c.Payload, c.Track = payload, false
		c.Vendor, c.Product, c.Version, c.EventID, c.EventName, c.EventSeverity = "we|ir", `a\b`, "1", "{id}", "{name}", "5"
		c.Fields = []Mapping{{Key: "src", Field: "source.ip"}, {Key: "cat", Value: "edr=1"}, {Key: "cmd", Field: "cmd"}}
	}
}

func TestMessages(t *testing.T) {
	const head = "<134>1 2024-05-17T09:21:33.518Z weir-1 edr.events - - "
	const sd = `[kafka@32473 topic="edr.events" partition="3" offset="7"] `
	event := record(7, `{"id":"a|b","name":"x\\y\nz","source":{"ip":"10.0.0.1"},"cmd":"C:\\a=b|c\t\n\u0000d"}`)
	text := record(7, "line 1\nline 2 \x1b\xff=|\\")
	text.Shape = 0
	f := func(name string, r *buffer.Record, edit func(*Config), want string) {
		t.Helper()
		if got := format(t, edit, r); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", name, got, want)
		}
	}
	none := func(*Config) {}
	broken := record(7, "{\n\"a\": \"\x7f\"\r\n}\n")
	broken.Shape |= buffer.ShapeLineBreak
	tombstone := record(7, "")
	tombstone.Value, tombstone.Shape = nil, 0
	f("json", event, none, head+sd+string(event.Value))
	f("json with line breaks", broken, none, head+sd+`{"a":"\u007f"}`)
	f("text", text, none, head+sd+`{"event":{"original":"line 1\nline 2 \u001b`+"\ufffd"+`=|\\","original_base64":"bGluZSAxCmxpbmUgMiAb/z18XA=="}}`)
	f("tombstone", tombstone, none, head+sd+`{"event":{"original":null}}`)
	f("a Shape that lies", &buffer.Record{Origin: event.Origin, Shape: buffer.ShapeObject, Value: []byte("{\"a\":1}\n<0>1 - - - - - - {}")},
		none, `<134>1 - weir-1 edr.events - - [kafka@32473 topic="edr.events" partition="3" offset="0"] {"event":{"original":"{\"a\":1}\n<0>1 - - - - - - {}"}}`)
	f("cef", event, extended("cef"), head+`- CEF:0|we\|ir|a\\b|1|a\|b|x\\y z|5|rt=1715937693518 src=10.0.0.1 cat=edr\=1 cmd=C:\\a\=b|c`+"\t"+`\n d`)
	f("cef of text", text, extended("cef"), head+`- CEF:0|we\|ir|a\\b|1|-|-|5|rt=1715937693518 cat=edr\=1 msg=line 1\nline 2  `+"\ufffd"+`\=|\\`)
	f("leef", event, extended("leef"), head+"- LEEF:2.0|we/ir|a\\b|1|a/b|x09|devTime=1715937693518\tsrc=10.0.0.1\tcat=edr=1\tcmd=C:\\a=b|c   d")
	f("time of the mapping", event, func(c *Config) {
		extended("cef")(c)
		c.Fields = []Mapping{{Key: "rt", Value: "1"}}
	}, head+`- CEF:0|we\|ir|a\\b|1|a\|b|x\\y z|5|rt=1`)

	hostile := record(7, `{"h":"a b\n]\"é😀`+strings.Repeat("x", 300)+`","sev":"HIGH","t":"2020-01-02T03:04:05.6+01:00"}`)
	f("header fields", hostile, func(c *Config) {
		c.Hostname, c.AppName, c.ProcID, c.MsgID, c.Track = "{h}", "{h}", "{missing}", "{h}", false
		c.SeverityField, c.Severities, c.Time = "sev", map[string]string{"high": "crit"}, "t"
	}, "<130>1 2020-01-02T02:04:05.600Z a_b_]\"__"+strings.Repeat("x", 255-8)+" a_b_]\"__"+strings.Repeat("x", 40)+" - a_b_]\"__"+strings.Repeat("x", 24)+
		" - "+string(hostile.Value))
}

func TestTimesOfFields(t *testing.T) {
	for text, want := range map[string]string{
		"1715937693": "2024-05-17T09:21:33.000Z", "1715937693.5189": "2024-05-17T09:21:33.518Z", "1715937693518": "2024-05-17T09:21:33.518Z",
		"2024-05-17T11:21:33+02:00": "2024-05-17T09:21:33.000Z", "x": "", "": "", "-1": "", "1e9": "", "1.x": "", strings.Repeat("1", 50): "",
	} {
		at, ok := parseTime([]byte(text))
		if ok != (want != "") || ok && string(appendStamp(nil, at)) != want {
			t.Errorf("%q: %s, %v", text, at, ok)
		}
	}
	for ms, want := range map[int64]string{1 << 62: "-", -(1 << 62): "-", 0: "1970-01-01T00:00:00.000Z"} {
		if got := string(appendStamp(nil, time.UnixMilli(ms))); got != want {
			t.Errorf("%d: %s", ms, got)
		}
	}
}

func TestNewRefusesWhatWouldBreakAMessage(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"address": func(c *Config) { c.Addresses = []string{"x"} }, "none": func(c *Config) { c.Addresses = nil }, "framing": func(c *Config) { c.Framing = "" },
		"payload": func(c *Config) { c.Payload = "x" }, "facility": func(c *Config) { c.Facility = "x" }, "severity": func(c *Config) { c.Severity = "x" },
		"map": func(c *Config) { c.Severities = map[string]string{"a": "x"} }, "length": func(c *Config) { c.MaxMessage = 10 },
		"template": func(c *Config) { c.AppName = "{" }, "key": func(c *Config) { c.Payload, c.Fields = "cef", []Mapping{{Key: "a=b", Value: "x"}} },
		"two":  func(c *Config) { c.Payload, c.Fields = "cef", []Mapping{{Key: "a", Value: "x", Field: "y"}} },
		"json": func(c *Config) { c.Fields = []Mapping{{Key: "a", Value: "x"}} },
	} {
		cfg := testConfig("127.0.0.1:1")
		edit(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Whatever an event holds, its message is one, with the header it should have; what
// CEF escapes comes back.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"id":"a|b\\","name":"x","cmd":"a=b\\|\n"}`), true, "edr", "a|=\\\n")
	f.Add([]byte("{\"a\":1}\n1 <0>1 - - - - - - x"), true, "t\n<0>1", "\x00\xff\t")
	f.Add([]byte("{\"a\":\"\x7f\x01\"}"), true, "]\"\\", "")
	f.Add([]byte("text \x1b\xff"), false, "é", "a")
	f.Fuzz(func(t *testing.T, value []byte, object bool, topic, fixed string) {
		r := &buffer.Record{Origin: &buffer.Origin{Topic: topic}, Offset: 1, Value: value, Time: time.UnixMilli(1715937693518)}
		if object { // as if the decoder had said so
			r.Shape = buffer.ShapeObject
		}
		for _, payload := range []string{"json", "cef", "leef"} {
			for _, framing := range []string{"octet_counting", "lf"} {
				cfg := testConfig("127.0.0.1:1")
				if payload != "json" {
					extended(payload)(&cfg)
					if fixed != "" {
						cfg.Fields = append(cfg.Fields, Mapping{Key: "fixed", Value: fixed})
					}
				}
				cfg.Framing, cfg.Track, cfg.Hostname, cfg.MsgID = framing, true, "{name}", "{id}"
				s := mustNew(t, cfg)
				msg, err := (&encoder{layout: &s.layout}).message(r)
				if err != nil {
					continue
				}
				if n := checkOne(framing, msg, s); n != "" {
					t.Fatalf("%s, %s: %s: %q", payload, framing, n, msg)
				}
				body := sinktest.SyslogMessage(msg)
				switch {
				case payload == "json" && !json.Valid(body) && (!object || json.Valid(value)):
					t.Errorf("not JSON: %q", body)
				case payload == "cef" && fixed != "":
					checkCEF(t, body, fixed)
				}
			}
		}
	})
}

// checkOne frames msg and reads it back as a receiver would.
func checkOne(framing string, msg []byte, s *Sink) string {
	o := stream{sink: s, buf: nil}
	if len(msg) < pieceSize {
		_ = o.frame(msg, s.counts)
		rest := o.buf
		if framing == "lf" {
			if bytes.Count(rest, []byte("\n")) != 1 || rest[len(rest)-1] != '\n' {
				return "more or less than one line"
			}
		} else if n, _, ok := bytes.Cut(rest, []byte(" ")); !ok || len(rest) != len(n)+1+len(msg) {
			return "a wrong length"
		}
	}
	switch {
	case !headerOf.Match(msg):
		return "no header"
	case bytes.IndexFunc(msg, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0:
		return "a control character"
	}
	return ""
}

var headerOf = regexp.MustCompile(`^<134>1 2024-05-17T09:21:33.518Z [!-~]{1,255} [!-~]{1,48} - [!-~]{1,32} \[kafka@32473 topic="([^"\\\]]|\\["\\\]])*" partition="0" offset="1"\] `)

// checkCEF reads a CEF message as ArcSight's parser does: seven parts of a header,
// and keys that stand before an = that is not escaped.
func checkCEF(t *testing.T, body []byte, fixed string) {
	t.Helper()
	var parts []string
	var part []byte
	i := 0
	for ; i < len(body) && len(parts) < 7; i++ {
		switch {
		case body[i] == '\\' && i+1 < len(body):
			i++
			part = append(part, body[i])
		case body[i] == '|':
			parts, part = append(parts, string(part)), nil
		default:
			part = append(part, body[i])
		}
	}
	if len(parts) != 7 || parts[0] != "CEF:0" || parts[1] != "we|ir" || parts[2] != `a\b` {
		t.Fatalf("header %q of %q", parts, body)
	}
	rest := string(body[i:])
	_, value, ok := strings.Cut(rest, " fixed=")
	if !ok {
		t.Fatalf("no key fixed in %q", rest)
	}
	value, _, _ = strings.Cut(value, " msg=")
	got := strings.NewReplacer(`\\`, `\`, `\=`, "=", `\n`, "\n", `\r`, "\r").Replace(value)
	want := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			return ' '
		}
		return r
	}, string(bytes.ToValidUTF8([]byte(fixed), []byte("\ufffd"))))
	if utf8.ValidString(fixed) && !strings.Contains(fixed, " msg") && got != want {
		t.Errorf("%q comes back as %q", fixed, got)
	}
}
