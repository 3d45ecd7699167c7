package sinktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// post sends a body and returns the answer, status 0 when there was none.
func post(t *testing.T, h *HTTP, path, body string, header ...string) (int, string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	req, err := http.NewRequest(http.MethodPost, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(answer)
}

// A server that overlooks broken framing would make every test of a sink pass.
func TestBrokenFramingIsNoticed(t *testing.T) {
	f := func(read func([]byte) ([]json.RawMessage, error), body string, want int) {
		t.Helper()
		if events, err := read([]byte(body)); len(events) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d events, %v", body, len(events), err)
		}
	}
	f(ReadArray, `[1,{}]`, 2)
	f(ReadArray, `[]`, 0)
	f(ReadArray, `[1,]`, 0)
	f(ReadArray, `[1][2]`, 0)
	f(ReadLines, "{}\n{}\n", 2)
	f(ReadLines, "{}\n{}", 0)
	f(ReadLines, "{}\n\n", 0)
	f(ReadLines, "{}\r\n", 0)
	f(ReadLines, "", 0)
	f(ReadConcatenated, "{}{}[]", 3)
	f(ReadConcatenated, "{} {}", 0)
	f(ReadConcatenated, "{}{", 0)
	f(ReadConcatenated, "", 0)

	h := NewArrayIntake()
	if status, _ := post(t, h, "/", "nonsense"); status != 400 || len(h.Broken()) != 1 || h.Stored() != 0 {
		t.Errorf("%d, %q", status, h.Broken())
	}
}

func TestFaultsComeInTheirOrder(t *testing.T) {
	h := NewArrayIntake()
	h.Fail(Fault{Status: 503}, Fault{}, Fault{ResetBefore: true}, Fault{ResetAfter: true}, Fault{Half: true})
	want := []struct{ status, stored int }{{503, 0}, {200, 1}, {0, 1}, {0, 2}, {0, 3}, {200, 4}}
	for i, w := range want {
		status, _ := post(t, h, "/", fmt.Sprintf(`[{"i":%d}]`, i))
		if status != w.status || h.Stored() != w.stored {
			t.Errorf("request %d: status %d, %d stored, want %+v", i, status, h.Stored(), w)
		}
	}
}

func TestForgetKeepsOnlyCounts(t *testing.T) {
	h := NewArrayIntake()
	h.Forget = true
	h.ID = func(e json.RawMessage) string { return string(e[:2]) }
	post(t, h, "/", `["a1","a2","b1"]`)
	if len(h.Events()) != 0 || h.Count(`"a`) != 2 || h.Stored() != 2 {
		t.Errorf("%d events, %d, %d", len(h.Events()), h.Count(`"a`), h.Stored())
	}
}

// Each does what its vendor documents, above all where that loses events.
func TestIntakesDoAsTheyAreDocumented(t *testing.T) {
	now := time.UnixMilli(1700000000000)
	f := func(about string, h *HTTP, path, body string, wantStatus, wantStored int, header ...string) {
		t.Helper()
		if status, answer := post(t, h, path, body, header...); status != wantStatus || h.Stored() != wantStored {
			t.Errorf("%s: %d %s, %d stored, want %d and %d", about, status, answer, h.Stored(), wantStatus, wantStored)
		}
	}
	const dcr = "/dataCollectionRules/dcr-1/streams/s?api-version=1"
	sentinel := func() *HTTP { return Sentinel(func() string { return "t" }) }
	asJSON := []string{"Authorization", "Bearer t", "Content-Type", "application/json"}
	f("Sentinel", sentinel(), dcr, `[{}]`, 204, 1, asJSON...)
	f("Sentinel without a token", sentinel(), dcr, `[{}]`, 401, 0)
	f("Sentinel too large", sentinel(), dcr, `["`+strings.Repeat("x", 1_000_000)+`"]`, 413, 0, asJSON...)

	f("Sumo", Sumo("t"), "/receiver/v1/http/t", "{}\n", 200, 1)
	f("Sumo with another token", Sumo("t"), "/receiver/v1/http/u", "{}\n", 401, 0)

	event := func(ms int64, more string) string { return fmt.Sprintf(`[{"timestamp":%d%s}]`, ms, more) }
	key := []string{"DD-API-KEY", "k"}
	f("Datadog", Datadog("k", now), "/api/v2/logs", event(now.UnixMilli(), ""), 202, 1, key...)
	f("Datadog, old", Datadog("k", now), "/api/v2/logs", event(now.Add(-19*time.Hour).UnixMilli(), ""), 202, 0, key...)
	f("Datadog, long", Datadog("k", now), "/api/v2/logs", event(now.UnixMilli(), `,"m":"`+strings.Repeat("x", 1_000_000)+`"`), 202, 0, key...)
	f("Datadog, many", Datadog("k", now), "/api/v2/logs", "[1"+strings.Repeat(",1", 1000)+"]", 413, 0, key...)
	f("Datadog without a key", Datadog("k", now), "/api/v2/logs", event(now.UnixMilli(), ""), 401, 0)

	push := func(ns ...int64) string {
		var values []string
		for _, n := range ns {
			values = append(values, fmt.Sprintf(`["%d","line"]`, n))
		}
		return `{"streams":[{"stream":{"a":"b"},"values":[` + strings.Join(values, ",") + `]}]}`
	}
	loki := func() *HTTP { return Loki(now.Add(-time.Hour), now) }
	f("Loki", loki(), "/loki/api/v1/push", push(now.UnixNano()), 204, 1)
	f("Loki, one line too far behind", loki(), "/loki/api/v1/push", push(now.UnixNano(), 1), 400, 1)
	f("Loki, a time in milliseconds", loki(), "/loki/api/v1/push", push(now.UnixMilli()), 400, 0)
	f("Loki, no label", loki(), "/loki/api/v1/push", `{"streams":[{"stream":{},"values":[]}]}`, 400, 0)
	again := loki()
	f("Loki", again, "/loki/api/v1/push", push(now.UnixNano(), now.UnixNano()), 204, 1)
	if len(again.Events()) != 1 {
		t.Error("Loki stored a line twice")
	}

	f("VictoriaLogs", VictoriaLogs(), "/insert/jsonline", `{"_time":"2023-11-14T22:13:20Z"}`+"\n"+`{"_time":"never"}`+"\n", 200, 1)

	record := func(n string) string {
		return `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1"},{"timeUnixNano":"` + n + `"}]}]}]}`
	}
	otlp := OTLP(func(r json.RawMessage) bool { return strings.Contains(string(r), `"2"`) })
	if status, answer := post(t, otlp, "/v1/logs", record("2"), asJSON...); status != 200 || !strings.Contains(answer, `"rejectedLogRecords":"1"`) || otlp.Stored() != 1 {
		t.Errorf("OTLP: %d %s", status, answer)
	}
	f("OTLP without a time", OTLP(nil), "/v1/logs", record(""), 400, 0, asJSON...)
}
