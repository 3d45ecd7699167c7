package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// hecFile is a file with one splunk_hec sink, whose keys are lines.
func hecFile(lines ...string) string {
	return "kafka: {brokers: [\"127.0.0.1:9092\"]}\nconnectors:\n- name: a\n  topics: [a]\n  sink:\n    splunk_hec:\n      " +
		strings.Join(lines, "\n      ") + "\n"
}

func TestSplunkHECDefaults(t *testing.T) {
	cfg := mustLoad(t, hecFile("urls: [https://splunk:8088]", "token: abc"))
	s := *cfg.Connectors[0].Sink.SplunkHEC
	if token, err := s.Token.Value(); err != nil || token != "abc" {
		t.Errorf("token %q, %v", token, err)
	}
	if s.Ack != "auto" || s.AckTimeout != 5*time.Minute || !s.Track || s.Compression != "none" || s.Timeout != time.Minute || s.Index != "" {
		t.Errorf("%+v", s)
	}
}

func TestSplunkHECTakesWhatIsRight(t *testing.T) {
	for _, line := range []string{
		"index: sec-{topic}-{time:2006.01.02}", "index: Main_2", "index: \"{event.index}\"", "source: kafka:{topic}/{partition}",
		"sourcetype: \"{winlog.channel}\"", "host: \"{host.name}\"", "time: event.created", "ack: required", "ack: off", "ack_timeout: 10s",
		"compression: gzip", "track: false", "tls: {insecure_skip_verify: true}",
	} {
		mustLoad(t, hecFile("urls: [https://a:8088, https://b:8088/prefix]", "token: abc", line))
	}
	mustLoad(t, hecFile("urls: [http://127.0.0.1:8088]", "token: abc"))
}

func TestSplunkHECFaults(t *testing.T) {
	const url, token = "urls: [https://a:8088]", "token: hunter2"
	f := func(want string, lines ...string) {
		t.Helper()
		_, err := load([]byte(hecFile(lines...)), t.TempDir(), nil)
		var faults Faults
		if !errors.As(err, &faults) || len(faults) != 1 || !strings.HasPrefix(faults[0].Path+": "+faults[0].Problem, "connectors[0].sink.splunk_hec."+want) {
			t.Errorf("%q\ngot  %v\nwant %s", lines, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Error("shows the token")
		}
	}
	f("urls: at least one", token, "index: a")
	f("urls[1]: must be http", "urls: [https://a, ftp://b]", token)
	f("urls[0]: must not hold a user", "urls: [https://u:hunter2@a]", token)
	f("urls[0]: must end with the path", "urls: [\"https://a/?x=1\"]", token)
	f("urls[0]: must not hold /services/collector", "urls: [https://a:8088/services/collector/event]", token)
	f("token: is needed", url)
	f("token: would go over the network unencrypted", "urls: [http://a:8088]", token)
	f("tls.server_name: is set, but not used", "urls: [http://127.0.0.1:8088]", token, "tls: {server_name: a}")
	f("tls.enabled: is true, but", "urls: [http://127.0.0.1:8088]", token, "tls: {enabled: true}")
	f("index: is not a legal name", url, token, "index: a b")
	f("index: is not a legal name", url, token, "index: _internal")
	f("index: has a { or }", url, token, "index: \"a{\"")
	f("index: has a {time:LAYOUT}", url, token, "index: \"{time:x}\"")
	f("source: has an unknown placeholder", url, token, "source: \"{}\"")
	f("sourcetype: has an unknown placeholder", url, token, "sourcetype: \"{time}\"")
	f("host: has an unknown placeholder", url, token, "host: \"{a..b}\"")
	f("time: must be a dotted path", url, token, "time: \"{a}\"")
	f("ack: must be one of", url, token, "ack: maybe")
	f("ack_timeout: must be", url, token, "ack_timeout: 1s")
	f("ack_timeout: must be", url, token, "ack_timeout: 2h")
	f("compression: must be one of", url, token, "compression: zstd")
	f("timeout: must be", url, token, "timeout: 0")
}
