package sinktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const hecTestChannel = "5A1B8E0A-1F5C-4C0E-9D65-1B4C2B8AF0C1"

// hecSay sends one request and returns the status and the answer.
func hecSay(t *testing.T, s *Splunk, path, body string) (int, map[string]any) {
	t.Helper()
	method := http.MethodPost
	if path == "health" {
		method = http.MethodGet
	}
	r := httptest.NewRequest(method, "/services/collector/"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Splunk abc")
	r.Header.Set("X-Splunk-Request-Channel", hecTestChannel)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var answer map[string]any
	text, _ := io.ReadAll(w.Body)
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return w.Code, answer
}

// The traps of the real one: what is indexed, and what is answered.
func TestSplunkTraps(t *testing.T) {
	for _, c := range []struct {
		name, body   string
		status, code int
		number       int // -1: none
		indexed      int
		broken       bool
	}{
		{"good", `{"event":"a"}{"event":{"b":1},"time":1.5,"fields":{"f":"x"}}` + "\n", 200, 0, -1, 2, false},
		{"unknown key", `{"event":"a"}{"event":"b","other":1}{"event":"c"}`, 200, 0, -1, 1, true},
		{"unknown key alone", `{"event":"b","other":1}`, 400, 5, -1, 0, true},
		{"fields alone", `{"event":"a"}{"fields":{"f":"x"}}{"event":"c"}`, 200, 0, -1, 2, true},
		{"nothing", ``, 400, 5, -1, 0, false},
		{"no JSON", `{"event":"a"}{"event":`, 400, 6, 1, 1, true},
		{"nested fields", `{"event":"a","fields":{"f":{}}}`, 400, 6, 0, 0, true},
		{"null", `{"event":"a"}{"event":"a"}{"event":null}{"event":"d"}`, 400, 12, 2, 2, false},
		{"blank", `{"event":" "}`, 400, 13, 0, 0, false},
		{"index", `{"event":"a"}{"event":"b","index":"bad"}{"event":"c"}`, 400, 7, 2, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Splunk{Indices: []string{"good"}}
			status, a := hecSay(t, s, "event", c.body)
			number := -1.0
			if n, ok := a["invalid-event-number"].(float64); ok {
				number = n
			}
			if status != c.status || a["code"] != float64(c.code) || number != float64(c.number) {
				t.Errorf("%d %v", status, a)
			}
			if n := len(s.Events()); n != c.indexed {
				t.Errorf("%d are indexed", n)
			}
			if (len(s.Broken()) > 0) != c.broken {
				t.Errorf("%q", s.Broken())
			}
		})
	}
}

func TestSplunkAcknowledgesOnceWhatIsIndexed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Splunk{Acks: true, Delay: time.Second}
		for id := range 3 {
			if id == 1 {
				s.Fail(HECFault{Drop: true})
			}
			if _, a := hecSay(t, s, "event", `{"event":"a"}`); a["ackId"] != float64(id) {
				t.Errorf("%v", a)
			}
		}
		ask := func() string {
			_, a := hecSay(t, s, "ack", `{"acks":[0,1,2,9]}`)
			return fmt.Sprint(a["acks"])
		}
		for _, want := range []string{
			"map[0:false 1:false 2:false 9:false]", "map[0:true 1:false 2:true 9:false]", "map[0:false 1:false 2:false 9:false]",
		} {
			if got := ask(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			time.Sleep(time.Second)
		}
		if n := len(s.Events()); n != 2 {
			t.Errorf("%d are indexed", n)
		}
		hecSay(t, s, "event", `{"event":"a"}`)
		s.Restart()
		if _, a := hecSay(t, s, "event", `{"event":"a"}`); a["ackId"] != 0.0 {
			t.Errorf("%v", a)
		}
		time.Sleep(time.Second)
		if n := len(s.Events()); n != 3 {
			t.Errorf("%d are indexed", n)
		}
	})
}

func TestSplunkCodes(t *testing.T) {
	for code := range 29 {
		s := &Splunk{}
		s.Fail(HECFault{Code: code})
		status, a := hecSay(t, s, "event", `{"event":"a"}`)
		if a["code"] != float64(code) || a["text"] == "" || (status == 200) != (code == 0 || code == 17 || code == 24 || code == 25) {
			t.Errorf("code %d: %d %v", code, status, a)
		}
		s.SetHealth(code)
		if code > 0 {
			if _, a = hecSay(t, s, "health", ""); a["code"] != float64(code) {
				t.Errorf("health %d: %v", code, a)
			}
		}
	}
	if _, a := hecSay(t, &Splunk{}, "ack", `{"acks":[0]}`); a["code"] != 14.0 {
		t.Errorf("%v", a)
	}
	if status, a := hecSay(t, &Splunk{Token: "other"}, "event", `{"event":"a"}`); status != 403 || a["code"] != 4.0 {
		t.Errorf("%d %v", status, a)
	}
}

func TestSplunkForgetsEventsAndKeepsTheCount(t *testing.T) {
	s := &Splunk{Forget: true}
	for range 2 {
		hecSay(t, s, "event", `{"event":"a","fields":{"kafka_topic":"t","kafka_partition":"1","kafka_offset":"7"}}`)
	}
	if n := s.Copies(Coordinate{"t", "1", "7"}); n != 2 || len(s.Events()) != 0 || len(s.Requests()) != 0 {
		t.Errorf("%d copies, %d events", n, len(s.Events()))
	}
}
