package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const syslogConfig = `
kafka: {brokers: ["127.0.0.1:9092"]}
connectors:
- {name: a, topics: [a], sink: {syslog: {addresses: ["127.0.0.1:6514"]}}}
`

func TestSyslogDefaults(t *testing.T) {
	got := *mustLoad(t, syslogConfig).Connectors[0].Sink.Syslog
	want := DefaultSyslog()
	want.Addresses = []string{"127.0.0.1:6514"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSyslogFaults(t *testing.T) {
	f := func(keys string, want ...string) {
		t.Helper()
		_, err := load([]byte(strings.Replace(syslogConfig, `addresses: ["127.0.0.1:6514"]`, strings.Join(strings.Fields(keys), " "), 1)), t.TempDir(), nil)
		var got Faults
		if err != nil && !errors.As(err, &got) {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Errorf("%s: got %v, want %d faults", keys, err, len(want))
			return
		}
		for _, w := range want {
			key, problem, _ := strings.Cut(w, ": ")
			if !strings.Contains(err.Error(), "connectors[0].sink.syslog."+key+" (line 4): "+problem) {
				t.Errorf("%s: got %v, want %s", keys, err, w)
			}
		}
	}
	f(`addresses: ["siem:6514", "10.0.0.1:6514"], tls: {enabled: true}, payload: cef, fields: [{key: src, field: source.ip}, {key: cat, value: edr}],
	  severity_field: event.severity, severities: [{value: High, severity: crit}], hostname: "{host.name}", event_id: "{event.code}-{partition}"`)
	f(`framing: lf`, "addresses: at least one is needed")
	f(`addresses: [x], framing: x, payload: x, facility: x, severity: x, max_message: 1, timeout: 0s`, "addresses[0]: must be HOST:PORT", "framing: must be one of",
		"payload: must be one of", "facility: must be one of", "severity: must be one of", "max_message: must be 480", "timeout: must be 1s")
	f(`addresses: ["a:1"], hostname: "{", app_name: "{a", procid: "}", msgid: "{time}", vendor: "{time:x}", event_name: "{a..b}"`, "hostname: has a {",
		"app_name: has a {", "procid: has a {", "msgid: has an unknown placeholder", "vendor: has a {time:LAYOUT}", "event_name: has an unknown placeholder")
	f(`addresses: ["a:1"], tls: {ca_file: x}, severities: [{value: a, severity: crit}], time: "{a}"`, "tls.ca_file: is set, but not used",
		"tls.ca_file: cannot be read", "severities: is set, but not used", "time: must be a dotted path")
	f(`addresses: ["a:1"], payload: leef, severity_field: a, severities: [{value: a, severity: x}, {value: A, severity: crit}, {severity: err}],
	  fields: [{key: "a=b", value: x}, {key: c}, {key: c, field: x, value: y}, {key: d, field: "{x}"}]`,
		"severities[0].severity: must be one of", "severities[1].value: is in the list already", "severities[2].value: is needed",
		"fields[0].key: is needed", "fields[1].field: is needed", "fields[2].key: is in the list", "fields[2].field: and value", "fields[3].field: must be")
	f(`addresses: ["a:1"], fields: [{key: a, value: x}]`, "fields: is for cef and leef")
}

func TestSyslogWarnings(t *testing.T) {
	f := func(change func(*Syslog), want ...string) {
		t.Helper()
		s := DefaultSyslog()
		change(&s)
		var got []string
		warnSyslog("s", &s, func(key, format string, args ...any) { got = append(got, key+": "+fmt.Sprintf(format, args...)) })
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(func(s *Syslog) { s.Addresses = []string{"127.0.0.1:514", "localhost:514"} })
	f(func(s *Syslog) { s.Addresses = []string{"127.0.0.1:514", "a:514", "b:514"} },
		"s.addresses[1]: events go over the network unencrypted, since tls.enabled is false")
	f(func(s *Syslog) { s.Addresses, s.TLS = []string{"a:514"}, TLS{Enabled: true, InsecureSkipVerify: true} }, "s.tls.insecure_skip_verify: "+unverified)
}
