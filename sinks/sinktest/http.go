package sinktest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HTTP is an intake of JSON over HTTP: an http.Handler for httptest.NewServer or
// an http.Server. NewArrayIntake and its like make one; their fields are set
// before it serves.
//
// It is strict about framing where real ones are lenient, and otherwise does what
// their documentation says.
type HTTP struct {
	// Read takes a body, decompressed, apart into its events.
	Read func(body []byte) ([]json.RawMessage, error)
	// Admit is asked about every request before its body is looked at: 0, or the
	// status that refuses it. Nil: all are admitted.
	Admit func(*http.Request) int
	// Verdict is asked about every event. Nil or 0: it is stored; Drop: it is thrown
	// away and nothing said of it; else the status that its request is answered
	// with. It is called under a lock.
	Verdict func(event json.RawMessage) int
	// Partial stores the other events of a request that is refused for one.
	Partial bool
	// Answer is what a request is answered whose events were stored, but refused
	// ones that Verdict gave the status Refused.
	Answer func(refused int) (status int, body string)
	// MaxBytes and MaxRecords bound a request; 0: no bound.
	MaxBytes, MaxRecords int
	// ID says which event it is, for Count. Nil: all its bytes.
	ID func(event json.RawMessage) string
	// Once stores an event of an ID that is there already only once.
	Once bool
	// Forget keeps only the counts and no events.
	Forget bool

	mu       sync.Mutex
	script   []Fault
	events   []json.RawMessage
	counts   map[string]int
	requests []Request
	broken   []string
}

// Results of Verdict that are no status.
const (
	// Drop: the event is thrown away, and its request answered as if it were not.
	Drop = -1
	// Refused: the event is not stored, which the answer counts.
	Refused = -2
)

// Fail queues faults: one for each of the next requests.
func (h *HTTP) Fail(faults ...Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.script = append(h.script, faults...)
}

// Events are those that were stored, in their order.
func (h *HTTP) Events() []json.RawMessage {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]json.RawMessage(nil), h.events...)
}

// Count is how often the event of that ID was stored.
func (h *HTTP) Count(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[id]
}

// Stored is how many different events were stored.
func (h *HTTP) Stored() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.counts)
}

// Requests are those seen so far, faults included.
func (h *HTTP) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Request(nil), h.requests...)
}

// Broken says what was wrong with the framing of requests: in a test it must be
// empty.
func (h *HTTP) Broken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.broken...)
}

// ServeHTTP answers.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		status := http.StatusMethodNotAllowed
		if h.Admit != nil {
			if refused := h.Admit(r); refused != 0 {
				status = refused
			}
		}
		w.WriteHeader(status)
		return
	}
	f := h.fault()
	seen := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone()}
	if f.Unread {
		h.note(seen, "")
		if f.ResetBefore {
			reset(w)
			return
		}
		h.say(w, f, f.Status, f.Body)
		return
	}
	body, err := read(r)
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-r.Context().Done():
			return
		}
	}
	var events []json.RawMessage
	if err == nil {
		events, err = h.Read(body)
	}
	seen.Documents, seen.Bytes = len(events), int64(len(body))
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	h.note(seen, problem)
	switch {
	case f.ResetBefore:
		reset(w)
		return
	case f.Status != 0:
		h.say(w, f, f.Status, f.Body)
		return
	}
	status, answer := h.take(r, body, events, err)
	if f.Answer != nil {
		answer = *f.Answer
	}
	if f.ResetAfter {
		reset(w)
		return
	}
	if f.Half {
		answer += strings.Repeat(" ", 64) // or there is nothing to cut
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		answer = answer[:len(answer)/2]
		if status == http.StatusNoContent {
			status = http.StatusOK
		}
	}
	if f.Endless && status == http.StatusNoContent {
		status = http.StatusOK
	}
	h.say(w, f, status, answer)
	err = nil
	for space := bytes.Repeat([]byte(" "), 4096); f.Endless && err == nil; {
		_, err = w.Write(space)
	}
	if f.Half {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func (h *HTTP) fault() Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.script) == 0 {
		return Fault{}
	}
	f := h.script[0]
	h.script = h.script[1:]
	return f
}

func (h *HTTP) note(r Request, problem string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, r)
	if problem != "" {
		h.broken = append(h.broken, problem)
	}
}

func (h *HTTP) say(w http.ResponseWriter, f Fault, status int, body string) {
	if body != "" {
		w.Header().Set("Content-Type", "application/json")
	}
	for k, v := range f.Header {
		w.Header()[http.CanonicalHeaderKey(k)] = v
	}
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_, _ = io.WriteString(w, body)
	}
}

// take stores what is to be stored, and says how the request is answered.
func (h *HTTP) take(r *http.Request, body []byte, events []json.RawMessage, broken error) (status int, answer string) {
	if h.Admit != nil {
		if status := h.Admit(r); status != 0 {
			return status, `{"error":"not admitted"}`
		}
	}
	switch {
	case broken != nil:
		return http.StatusBadRequest, `{"error":"cannot be read"}`
	case h.MaxBytes > 0 && len(body) > h.MaxBytes, h.MaxRecords > 0 && len(events) > h.MaxRecords:
		return http.StatusRequestEntityTooLarge, `{"error":"too large"}`
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	refused, refusal := 0, 0
	var keep []json.RawMessage
	for _, e := range events {
		verdict := 0
		if h.Verdict != nil {
			verdict = h.Verdict(e)
		}
		switch verdict {
		case 0:
			keep = append(keep, e)
		case Drop:
		case Refused:
			refused++
		default:
			refusal = verdict
		}
	}
	if refusal != 0 && !h.Partial {
		keep = nil
	}
	for _, e := range keep {
		id := string(e)
		if h.ID != nil {
			id = h.ID(e)
		}
		if h.counts == nil {
			h.counts = make(map[string]int)
		}
		if h.Once && h.counts[id] > 0 {
			continue
		}
		h.counts[id]++
		if !h.Forget {
			h.events = append(h.events, e)
		}
	}
	if refusal != 0 {
		return refusal, `{"error":"an event is refused"}`
	}
	return h.Answer(refused)
}

// ReadArray reads a JSON array.
func ReadArray(body []byte) ([]json.RawMessage, error) {
	var events []json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, fmt.Errorf("not a JSON array: %w", err)
	}
	if len(events) == 0 {
		return nil, errors.New("no events")
	}
	return events, nil
}

// ReadLines reads NDJSON: each event a line of valid JSON, and nothing else.
func ReadLines(body []byte) ([]json.RawMessage, error) {
	if len(body) == 0 || body[len(body)-1] != '\n' {
		return nil, errors.New("does not end with a line break")
	}
	var events []json.RawMessage
	for line := range bytes.SplitSeq(body[:len(body)-1], []byte("\n")) {
		if !json.Valid(line) || bytes.IndexByte(line, '\r') >= 0 {
			return nil, fmt.Errorf("line %d is not JSON", len(events)+1)
		}
		events = append(events, line)
	}
	return events, nil
}

// ReadConcatenated reads events with nothing between them; one alone, too.
func ReadConcatenated(body []byte) ([]json.RawMessage, error) {
	var events []json.RawMessage
	d := json.NewDecoder(bytes.NewReader(body))
	length := 0
	for {
		var e json.RawMessage
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF) && len(events) > 0 && length == len(body):
			return events, nil
		case err != nil:
			return nil, fmt.Errorf("not JSON one behind the other: %w", err)
		}
		length += len(e)
		events = append(events, e)
	}
}

// answers is an Answer that is always the same.
func answers(status int, body string) func(int) (int, string) {
	return func(int) (int, string) { return status, body }
}

// NewArrayIntake is an intake of JSON arrays that answers 200.
func NewArrayIntake() *HTTP { return &HTTP{Read: ReadArray, Answer: answers(http.StatusOK, "{}")} }

// Sentinel is the Logs Ingestion API of Azure Monitor: a JSON array of at most 1 MB
// to /dataCollectionRules/ID/streams/STREAM, with a bearer token; 204.
func Sentinel(token func() string) *HTTP {
	return &HTTP{
		Read: ReadArray, Answer: answers(http.StatusNoContent, ""), MaxBytes: 1_000_000,
		Admit: func(r *http.Request) int {
			switch {
			case r.Header.Get("Authorization") != "Bearer "+token():
				return http.StatusUnauthorized
			case !strings.HasPrefix(r.URL.Path, "/dataCollectionRules/dcr-") || r.URL.Query().Get("api-version") == "":
				return http.StatusNotFound
			case r.Header.Get("Content-Type") != "application/json":
				return http.StatusUnsupportedMediaType
			}
			return 0
		},
	}
}

// Sumo is an HTTP source of Sumo Logic: lines, to a URL that is the secret; 200
// with nothing in it.
func Sumo(token string) *HTTP {
	return &HTTP{
		Read: ReadLines, Answer: answers(http.StatusOK, ""),
		Admit: func(r *http.Request) int {
			if r.URL.Path != "/receiver/v1/http/"+token {
				return http.StatusUnauthorized
			}
			return 0
		},
	}
}

// Datadog is /api/v2/logs: arrays of at most 5 MB and 1000 entries, 202; a longer
// entry than 1 MB is cut off, one older than 18 hours dropped, and nothing said.
// The time is in the member timestamp, in milliseconds.
func Datadog(key string, now time.Time) *HTTP {
	return &HTTP{
		Read: ReadArray, Answer: answers(http.StatusAccepted, "{}"), MaxBytes: 5_000_000, MaxRecords: 1000,
		Admit: func(r *http.Request) int {
			switch {
			case r.URL.Path != "/api/v2/logs":
				return http.StatusNotFound
			case r.Header.Get("DD-API-KEY") == "":
				return http.StatusUnauthorized
			case r.Header.Get("DD-API-KEY") != key:
				return http.StatusForbidden
			}
			return 0
		},
		Verdict: func(event json.RawMessage) int {
			var e struct {
				Timestamp int64 `json:"timestamp"`
			}
			if err := json.Unmarshal(event, &e); err != nil {
				return http.StatusBadRequest
			}
			// What is cut off is as lost as what is dropped.
			if len(event) > 1_000_000 || now.Sub(time.UnixMilli(e.Timestamp)) > 18*time.Hour {
				return Drop
			}
			return 0
		},
	}
}

// Loki is /loki/api/v1/push with one stream: 204, or 400 when a line is further
// behind than limit, and then the others are stored all the same. A line that is
// there already with its time is not stored again.
func Loki(limit, now time.Time) *HTTP {
	return &HTTP{
		Read: func(body []byte) ([]json.RawMessage, error) {
			var push struct {
				Streams []struct {
					Stream map[string]string `json:"stream"`
					Values []json.RawMessage `json:"values"`
				} `json:"streams"`
			}
			if err := json.Unmarshal(body, &push); err != nil || len(push.Streams) != 1 || len(push.Streams[0].Stream) == 0 {
				return nil, fmt.Errorf("not one stream with labels: %w", err)
			}
			for _, v := range push.Streams[0].Values {
				if _, err := lokiTime(v); err != nil {
					return nil, err
				}
			}
			return push.Streams[0].Values, nil
		},
		Admit: func(r *http.Request) int {
			if r.URL.Path != "/loki/api/v1/push" {
				return http.StatusNotFound
			}
			return 0
		},
		Verdict: func(event json.RawMessage) int {
			if at, err := lokiTime(event); err != nil || at.Before(limit) || at.After(now.Add(10*time.Minute)) {
				return http.StatusBadRequest
			}
			return 0
		},
		Partial: true, Once: true, Answer: answers(http.StatusNoContent, ""),
	}
}

// lokiTime is the time of an entry: nanoseconds as a text, the line, and behind it
// perhaps metadata, an object of texts.
func lokiTime(entry json.RawMessage) (time.Time, error) {
	var parts []json.RawMessage
	var ns, line string
	var metadata map[string]string
	err := json.Unmarshal(entry, &parts)
	if err != nil || len(parts) < 2 || len(parts) > 3 {
		return time.Time{}, fmt.Errorf("an entry is not a time, a line and metadata: %w", err)
	}
	for i, into := range []any{&ns, &line, &metadata}[:len(parts)] {
		if err := json.Unmarshal(parts[i], into); err != nil {
			return time.Time{}, fmt.Errorf("part %d of an entry: %w", i, err)
		}
	}
	n, err := strconv.ParseInt(ns, 10, 64)
	return time.Unix(0, n), err
}

// VictoriaLogs is /insert/jsonline: 200; a line of more than 256 KiB, or one
// without a time that can be read, is left out and nothing said.
func VictoriaLogs() *HTTP {
	return &HTTP{
		Read: ReadLines, Answer: answers(http.StatusOK, ""),
		Admit: func(r *http.Request) int {
			if r.URL.Path != "/insert/jsonline" {
				return http.StatusNotFound
			}
			return 0
		},
		Verdict: func(event json.RawMessage) int {
			var e struct {
				Time time.Time `json:"_time"`
			}
			if err := json.Unmarshal(event, &e); err != nil || e.Time.IsZero() || len(event) > 256<<10 {
				return Drop
			}
			return 0
		},
	}
}

// OTLP is /v1/logs of OpenTelemetry with JSON: 200, and the number of records that
// were refused, which are those that refuse says.
func OTLP(refuse func(record json.RawMessage) bool) *HTTP {
	return &HTTP{
		Read: func(body []byte) ([]json.RawMessage, error) {
			var export struct {
				ResourceLogs []struct {
					ScopeLogs []struct {
						LogRecords []json.RawMessage `json:"logRecords"`
					} `json:"scopeLogs"`
				} `json:"resourceLogs"`
			}
			if err := json.Unmarshal(body, &export); err != nil {
				return nil, err
			}
			var records []json.RawMessage
			for _, r := range export.ResourceLogs {
				for _, s := range r.ScopeLogs {
					records = append(records, s.LogRecords...)
				}
			}
			if len(records) == 0 {
				return nil, errors.New("no records")
			}
			return records, nil
		},
		Admit: func(r *http.Request) int {
			switch {
			case r.URL.Path != "/v1/logs":
				return http.StatusNotFound
			case r.Header.Get("Content-Type") != "application/json":
				return http.StatusUnsupportedMediaType
			}
			return 0
		},
		Verdict: func(record json.RawMessage) int {
			var r struct {
				TimeUnixNano string `json:"timeUnixNano"`
				Body         struct {
					StringValue *string `json:"stringValue"`
				} `json:"body"`
			}
			if err := json.Unmarshal(record, &r); err != nil || r.TimeUnixNano == "" {
				return http.StatusBadRequest
			}
			if refuse != nil && refuse(record) {
				return Refused
			}
			return 0
		},
		Answer: func(refused int) (int, string) {
			if refused == 0 {
				return http.StatusOK, `{"partialSuccess":{}}`
			}
			// A 64-bit number is a string in the JSON of protobuf.
			return http.StatusOK, fmt.Sprintf(`{"partialSuccess":{"rejectedLogRecords":"%d","errorMessage":"refused"}}`, refused)
		},
	}
}
