package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// httpSink is a configuration with an http sink that has these lines.
func httpSink(lines string) string {
	return "kafka: {brokers: [\"127.0.0.1:9092\"]}\nconnectors:\n- name: a\n  topics: [a]\n  sink:\n    http:\n" +
		"      " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n      ") + "\n"
}

func TestTheExamplesOfTheHTTPPageLoad(t *testing.T) {
	page, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```yaml\n")[1:]
	if len(blocks) != 7 {
		t.Errorf("%d examples, want 7", len(blocks))
	}
	dir := t.TempDir()
	secret := filepath.Join(dir, "token")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		block = strings.ReplaceAll(block, "/run/secrets/intake-token", secret)
		lines, _ := strings.CutPrefix(block, "sink:\n  http:\n")
		file := httpSink(strings.ReplaceAll(strings.TrimPrefix(lines, "    "), "\n    ", "\n"))
		cfg, err := load([]byte(file), dir, []string{"SUMO_TOKEN=hunter2", "DD_API_KEY=hunter2", "AZURE_CLIENT_SECRET=hunter2"})
		if err != nil {
			t.Errorf("%v\n%s", err, file)
			continue
		}
		var shown strings.Builder
		if err := cfg.Print(&shown); err != nil || strings.Contains(shown.String(), "hunter2") {
			t.Errorf("%v, shows a secret:\n%s", err, shown.String())
		}
	}
}

func TestHTTPDefaults(t *testing.T) {
	s := mustLoad(t, httpSink(`url: https://a/`)).Connectors[0].Sink.HTTP
	if got := s.Method + " " + s.Framing + " " + s.Event; got != "POST json_array {event}" || s.MaxRecords != 1000 || s.MaxBytes != 1<<20 {
		t.Errorf("%s, %d records, %s", got, s.MaxRecords, s.MaxBytes)
	}
}

// Each fault of an http sink, by its path.
func TestHTTPFaults(t *testing.T) {
	f := func(lines string, want ...string) {
		t.Helper()
		_, err := load([]byte(httpSink(lines)), t.TempDir(), nil)
		var faults Faults
		if len(want) > 0 && !errors.As(err, &faults) || len(want) == 0 && err != nil {
			t.Errorf("%s: %v", lines, err)
			return
		}
		var got []string
		for _, fault := range faults {
			got = append(got, strings.TrimPrefix(fault.Path, "connectors[0].sink.http."))
			if strings.Contains(fault.String(), "hunter2") {
				t.Errorf("shows a secret: %s", fault)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %q\nwant %q\n%v", lines, got, want, err)
		}
	}
	const url = "url: https://a/\n"
	f(`method: POST`, "url")
	f(`url: ftp://a`, "url")
	f(`url: https://user:hunter2@a/`, "url")
	f(`url: https://a/?k=v`)
	f(url+`method: GET`, "method")
	f(url+`framing: xml`, "framing")
	f(url+`compression: zip`, "compression")
	f(url+`timeout: 1ms`, "timeout")
	f(url+`parallel: 0`, "parallel")
	f(url+`parallel: 65`, "parallel")
	f(url+`max_records: -1`, "max_records")
	f(url+`max_bytes: 1`, "max_bytes")
	f(url + `max_bytes: 0`)
	f(url+`tls: {cert_file: missing.pem}`, "tls.cert_file", "tls.key_file")
	f("url: http://a/\ntls: {insecure_skip_verify: true, enabled: true}", "tls.insecure_skip_verify", "tls.enabled")

	f(url + `event: '{"a":{event},"b":"{event_text}","c":{time:unix_ms},"d":"{x.y} {time:15:04}"}'`)
	for _, event := range []string{
		``, `{event_text}`, `{offset}`, `{"a":"{event}"}`, `{"a":{time}}`, `{"a":{time:now}}`, `{"a":{event}`, `{"a":{a..b}}`, `{"a":1 "b":{topic}}`,
	} {
		f(url+`event: '`+event+`'`, "event")
	}
	f(url + `body: '{"a":{events}}'`)
	f(url+`body: '{"a":"{events}"}'`, "body")
	f(url+`body: '{"a":1}'`, "body")
	f(url+`body: '[{events},{events}]'`, "body")
	f(url+`body: '{"a":{events},"t":{topic}}'`, "body")
	f(url+"framing: ndjson\nbody: '{\"a\":{events}}'", "body")

	f(url + `auth: {bearer: x}`)
	f(url+`auth: {bearer: hunter2, username: u, password: hunter2}`, "auth")
	f(url+`auth: {username: u}`, "auth.password")
	f(url+`auth: {password: hunter2}`, "auth.username")
	f(url+`auth: {username: "a:b", password: hunter2}`, "auth.username")
	f(url + `auth: {oauth2: {token_url: "https://l/", client_id: c, client_secret: hunter2}}`)
	f(url+`auth: {oauth2: {token_url: "https://l/"}}`, "auth.oauth2.client_id", "auth.oauth2.client_secret")
	f(url+`auth: {oauth2: {scopes: [a]}}`, "auth.oauth2.token_url", "auth.oauth2.client_id", "auth.oauth2.client_secret")
	f(url+`auth: {oauth2: {token_url: "http://l/", client_id: c, client_secret: hunter2}}`, "auth.oauth2.token_url")
	f(url + `auth: {oauth2: {token_url: "http://127.0.0.1:1/", client_id: c, client_secret: hunter2}}`)
	f(url+`auth: {bearer: b, oauth2: {token_url: "https://l/", client_id: c, client_secret: hunter2}}`, "auth")
	f("url: http://a/\nauth: {bearer: hunter2}", "auth")
	f("url: http://127.0.0.1/\nauth: {bearer: hunter2}")

	f(url+`headers: [{name: "a b", value: x}, {name: X, value: x}, {name: x, value: y}, {name: Host, value: h}, {name: Y}]`,
		"headers[0].name", "headers[2].name", "headers[3].name", "headers[4].value")
	f(url+"auth: {bearer: x}\nheaders: [{name: Authorization, value: hunter2}]", "headers[0].name")
	f("url: http://a/\nheaders: [{name: X-Scope-OrgID, value: t}, {name: DD-API-KEY, value: hunter2}]", "headers[1].value")
	f("url: http://a/\nheaders: [{name: X-Honeycomb-Team, value: hunter2}]", "headers[0].value")
	f("url: http://127.0.0.1/\nheaders: [{name: X-Honeycomb-Team, value: hunter2}]")
	f("url: http://a/insert?_stream_fields=a&AccountID=1\nheaders: [{name: accountid, value: one}, {name: VL-Debug, value: yes!}, {name: x-sumo-category, value: c}]")
	f("url: http://a/?apiKey=hunter2", "url")
	f("url: http://localhost/?apiKey=hunter2")
	f("url: https://a/?apiKey=hunter2")

	f(url+`verdicts: [{status: "409", verdict: ack}, {status: "500-599", verdict: retry}, {status: "4xx", verdict: split}, {status: "100", verdict: ack}]`,
		"verdicts[2].status", "verdicts[3].status")
	f(url+`verdicts: [{status: "409", verdict: drop}]`, "verdicts[0].verdict")
	f(url+`verdicts: [{status: "409", verdict: reject}]`, "verdicts[0].verdict")
	f(url + "framing: single\nverdicts: [{status: \"409\", verdict: reject}]")
	f(url+`answer: {type: json, refused: a..b}`, "answer.type", "answer.refused")
	f(url + `answer: {type: application/json, refused: partialSuccess.rejectedLogRecords}`)
}

func TestAnOrderedConnectorSendsOneRequestAtATime(t *testing.T) {
	file := strings.Replace(httpSink(`url: https://a/`), "topics: [a]", "topics: [a]\n  ordered: true", 1)
	_, err := load([]byte(file), t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "sink.http.parallel") {
		t.Error(err)
	}
	mustLoad(t, file+"      parallel: 1\n")
}

func TestHTTPWarnings(t *testing.T) {
	f := func(lines string, want ...string) {
		t.Helper()
		var got []string
		warnHTTPSink("s", mustLoad(t, httpSink(lines)).Connectors[0].Sink.HTTP, func(key, _ string, _ ...any) { got = append(got, key) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", lines, got, want)
		}
	}
	f(`url: https://a/`)
	f(`url: http://127.0.0.1/`)
	f(`url: http://a/`, "s.url")
	f("url: https://a/\ntls: {insecure_skip_verify: true}", "s.tls.insecure_skip_verify")
	f("url: https://a/\nverdicts: [{status: \"202\", verdict: ack}, {status: \"409\", verdict: ack}, {status: \"200-499\", verdict: ack}]",
		"s.verdicts[1]", "s.verdicts[2]")
}
