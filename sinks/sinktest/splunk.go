package sinktest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Splunk is an HTTP Event Collector: /services/collector/event, /ack and
// /health. It is an http.Handler; the zero value is ready and has a token without
// acknowledgements. Its fields are set before it serves.
//
// It does what the real one does, traps included: at a key that it does not know
// it stops indexing and answers 200, an object without an event is skipped, a bad
// event is named by its number and those before it are indexed. Where a client
// must not step into a trap, Broken says that it did.
type Splunk struct {
	// Token that is asked for; empty: any.
	Token string
	// Acks: the token has indexer acknowledgement.
	Acks bool
	// Delay is how long an accepted event takes until it is indexed, with Acks.
	Delay time.Duration
	// Most is the length of a body, decompressed, above which it answers "invalid
	// data format" for event 0, as Splunk Cloud does; 0: none.
	Most int
	// Indices that the token may write to; empty: all.
	Indices []string
	// Verdict is asked about every event; a code other than 0 refuses it. Nil: all
	// are good. It is called under a lock.
	Verdict func(HECEvent) int
	// Cookie, if set, is given to each client that does not bring it.
	Cookie string
	// Gate is asked before anything else what to do with a request, of whatever
	// kind; nil or a nil fault: what Fail or FailAcks was given. The body was not
	// read yet.
	Gate func(*http.Request) *HECFault
	// Forget keeps only how often each coordinate was indexed, and no events.
	Forget bool

	mu        sync.Mutex
	script    []HECFault // for events
	ackScript []HECFault
	health    int
	channels  map[string]*hecChannel
	indexed   []HECEvent
	copies    map[Coordinate]int
	requests  []HECRequest
	broken    []string
}

// HECEvent is one that was sent.
type HECEvent struct {
	// Time is as it was written; empty: there was none.
	Time                            json.Number
	Index, Source, Sourcetype, Host string
	Event                           json.RawMessage
	Fields                          map[string]string
}

// Coordinate is where in Kafka an event comes from, as its fields kafka_topic,
// kafka_partition and kafka_offset say.
type Coordinate struct{ Topic, Partition, Offset string }

// HECFault is what happens to one request.
type HECFault struct {
	Fault
	// Code is answered, with the HTTP status that belongs to it; nothing is stored,
	// unless it is one of success. Text takes the place of what it means.
	Code int
	Text string
	// Drop accepts the events, with an acknowledgement id, and loses them.
	Drop bool
	// NoID leaves the acknowledgement id out.
	NoID bool
}

// HECRequest is what was seen of one request.
type HECRequest struct {
	Method, Path string
	Header       http.Header
	Events       int
	Bytes        int64 // of the body, decompressed
	Acks         []int64
}

type hecChannel struct {
	next    int64
	pending map[int64]*hecPending
}

// hecPending is a request that was accepted.
type hecPending struct {
	due    time.Time // when it is indexed
	events []HECEvent
	lost   bool
	stored bool
}

// hecCodes are the HTTP status and the text of each code.
var hecCodes = map[int]struct {
	status int
	text   string
}{
	0: {200, "Success"}, 1: {403, "Token disabled"}, 2: {401, "Token is required"}, 3: {401, "Invalid authorization"},
	4: {403, "Invalid token"}, 5: {400, "No data"}, 6: {400, "Invalid data format"}, 7: {400, "Incorrect index"},
	8: {500, "Internal server error"}, 9: {503, "Server is busy"}, 10: {400, "Data channel is missing"},
	11: {400, "Invalid data channel"}, 12: {400, "Event field is required"}, 13: {400, "Event field cannot be blank"},
	14: {400, "ACK is disabled"}, 15: {400, "Error in handling indexed fields"}, 16: {400, "Query string authorization is not enabled"},
	17: {200, "HEC is healthy"}, 18: {503, "HEC is unhealthy, queues are full"}, 19: {503, "HEC is unhealthy, ack service unavailable"},
	20: {503, "HEC is unhealthy, queues are full, ack service unavailable"}, 21: {400, "Invalid token"}, 22: {400, "Token disabled"},
	23: {503, "Server is shutting down"}, 24: {200, "HEC queue is approaching its capacity limit"},
	25: {200, "HEC ACK is approaching its capacity limit"}, 26: {429, "HEC queue is at its capacity limit"},
	27: {429, "HEC ACK channel is at its capacity limit"}, 28: {400, "Data channel is missing, or sticky sessions are not enabled"},
}

// Fail queues faults: one for each of the next requests with events.
func (s *Splunk) Fail(faults ...HECFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, faults...)
}

// FailAcks queues faults: one for each of the next questions for
// acknowledgements.
func (s *Splunk) FailAcks(faults ...HECFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackScript = append(s.ackScript, faults...)
}

// SetHealth sets the code that /health answers; 0: healthy.
func (s *Splunk) SetHealth(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = code
}

// SetAcks turns the token's indexer acknowledgement on or off.
func (s *Splunk) SetAcks(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Acks = on
}

// Restart is a crash: all that was accepted and is not indexed is lost, and every
// channel begins anew.
func (s *Splunk) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.channels = nil
}

// Events are the indexed ones, in the order they were.
func (s *Splunk) Events() []HECEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return slices.Clone(s.indexed)
}

// Copies says how often the event of a coordinate is indexed.
func (s *Splunk) Copies(c Coordinate) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return s.copies[c]
}

// Requests are those seen so far, of whatever kind, faults included.
func (s *Splunk) Requests() []HECRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Broken says what was wrong with requests: in a test it must be empty.
func (s *Splunk) Broken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.broken)
}

// settle indexes what is due.
func (s *Splunk) settle() {
	now := time.Now()
	for _, ch := range s.channels {
		for _, p := range ch.pending {
			if !p.lost && !p.stored && !p.due.After(now) {
				p.stored = true
				s.store(p.events)
				p.events = nil
			}
		}
	}
}

func (s *Splunk) store(events []HECEvent) {
	if s.copies == nil {
		s.copies = make(map[Coordinate]int)
	}
	for _, e := range events {
		s.copies[Coordinate{e.Fields["kafka_topic"], e.Fields["kafka_partition"], e.Fields["kafka_offset"]}]++
	}
	if !s.Forget {
		s.indexed = append(s.indexed, events...)
	}
}

// ServeHTTP answers.
func (s *Splunk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/1.0")
	kind := path[strings.LastIndexByte(path, '/')+1:]
	seen := HECRequest{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone()}
	f := s.fault(r, kind)
	if f.Unread {
		s.note(seen)
		if f.ResetBefore {
			reset(w)
			return
		}
		s.say(w, f, HECAnswer{Code: f.Code})
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		s.note(seen)
		panic(http.ErrAbortHandler) // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	body, err := read(r)
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-r.Context().Done():
			s.note(seen)
			return
		}
	}
	seen.Bytes = int64(len(body))
	if err != nil {
		s.note(seen)
		s.wrong(err.Error())
		s.say(w, f, HECAnswer{Code: 6})
		return
	}
	var a HECAnswer
	s.mu.Lock()
	switch {
	case f.ResetBefore, f.Status != 0 && !f.stored():
	case !strings.Contains(r.URL.Path, "/services/collector"):
		f.Status = http.StatusNotFound
	case kind == "health" && r.Method == http.MethodGet:
		a.Code = s.health
		if a.Code == 0 {
			a.Code = 17
		}
	case r.Method != http.MethodPost:
		f.Status = http.StatusMethodNotAllowed
	case s.unauthorized(r) != 0:
		a.Code = s.unauthorized(r)
	case f.Code != 0 && !f.stored():
		a.Code = f.Code
	case kind == "ack":
		a = s.acks(r, body, &seen)
	case kind == "event" || kind == "collector":
		a = s.events(r, body, f, &seen)
	default:
		f.Status = http.StatusNotFound
	}
	s.mu.Unlock()
	s.note(seen)
	if f.ResetBefore || f.ResetAfter {
		reset(w)
		return
	}
	if s.Cookie != "" && !strings.Contains(r.Header.Get("Cookie"), s.Cookie) {
		w.Header().Add("Set-Cookie", s.Cookie+"; path=/")
	}
	s.say(w, f, a)
}

// stored reports whether the request is carried out, whatever is answered.
func (f *HECFault) stored() bool {
	return f.Code == 24 || f.Code == 25 || f.ResetAfter || f.Answer != nil || f.Half || f.Drop || f.NoID
}

func (s *Splunk) note(seen HECRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.Forget {
		s.requests = append(s.requests, seen)
	}
}

func (s *Splunk) wrong(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = append(s.broken, what)
}

// fault is what is to happen to r.
func (s *Splunk) fault(r *http.Request, kind string) HECFault {
	if s.Gate != nil {
		if f := s.Gate(r); f != nil {
			return *f
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	script := &s.script
	switch kind {
	case "ack":
		script = &s.ackScript
	case "health":
		return HECFault{}
	}
	if len(*script) == 0 {
		return HECFault{}
	}
	f := (*script)[0]
	*script = (*script)[1:]
	return f
}

// unauthorized is the code for a token that is none, 0 for a good one.
func (s *Splunk) unauthorized(r *http.Request) int {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Splunk ")
	switch {
	case r.Header.Get("Authorization") == "":
		return 2
	case !ok || token == "":
		return 3
	case s.Token != "" && token != s.Token:
		return 4
	}
	return 0
}

// HECAnswer is the body of an answer.
type HECAnswer struct {
	Text    string `json:"text,omitempty"`
	Code    int    `json:"code"`
	Invalid *int   `json:"invalid-event-number,omitempty"`
	AckID   *int64 `json:"ackId,omitempty"`
	// Acks are the answer to a question for acknowledgements, in place of all else.
	Acks map[string]bool `json:"-"`
}

// Render is the answer as the collector writes it, with its own words unless there
// is a Text.
func (a HECAnswer) Render() (status int, body []byte) {
	if a.Acks != nil {
		body, _ = json.Marshal(map[string]any{"acks": a.Acks})
		return http.StatusOK, body
	}
	if a.Text == "" {
		a.Text = hecCodes[a.Code].text
	}
	body, _ = json.Marshal(a)
	return hecCodes[a.Code].status, body
}

// say answers.
func (s *Splunk) say(w http.ResponseWriter, f HECFault, a HECAnswer) {
	a.Text = f.Text
	status, answer := a.Render()
	if f.Status != 0 {
		status, answer = f.Status, []byte(f.Body)
	}
	if f.Answer != nil {
		answer = []byte(*f.Answer)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	for k, v := range f.Header {
		w.Header()[http.CanonicalHeaderKey(k)] = v
	}
	if f.Half {
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		answer = answer[:len(answer)/2]
	}
	w.WriteHeader(status)
	_, err := w.Write(answer)
	for space := bytes.Repeat([]byte(" "), 4096); f.Endless && err == nil; {
		_, err = w.Write(space)
	}
	if f.Half {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

var hecGUID = regexp.MustCompile(`^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$`)

// channel is that of r; with an answer in its place when there is none.
func (s *Splunk) channel(r *http.Request) (*hecChannel, *HECAnswer) {
	id := r.Header.Get("X-Splunk-Request-Channel")
	switch {
	case id == "":
		return nil, &HECAnswer{Code: 10}
	case !hecGUID.MatchString(id):
		return nil, &HECAnswer{Code: 11}
	}
	if s.channels == nil {
		s.channels = make(map[string]*hecChannel)
	}
	if s.channels[id] == nil {
		s.channels[id] = &hecChannel{pending: make(map[int64]*hecPending)}
	}
	return s.channels[id], nil
}

// acks says of each id whether it is indexed. What was told is forgotten.
func (s *Splunk) acks(r *http.Request, body []byte, seen *HECRequest) HECAnswer {
	if !s.Acks {
		return HECAnswer{Code: 14}
	}
	ch, refused := s.channel(r)
	if refused != nil {
		return *refused
	}
	var asked struct {
		Acks []int64 `json:"acks"`
	}
	if err := json.Unmarshal(body, &asked); err != nil || len(asked.Acks) == 0 {
		s.broken = append(s.broken, fmt.Sprintf("a question for acknowledgements that cannot be read: %.100q", body))
		return HECAnswer{Code: 6}
	}
	seen.Acks = asked.Acks
	s.settle()
	said := make(map[string]bool, len(asked.Acks))
	for _, id := range asked.Acks {
		p := ch.pending[id]
		is := p != nil && p.stored
		if is {
			delete(ch.pending, id)
		}
		said[strconv.FormatInt(id, 10)] = is
	}
	return HECAnswer{Acks: said}
}

// events takes a body.
func (s *Splunk) events(r *http.Request, body []byte, f HECFault, seen *HECRequest) HECAnswer {
	var ch *hecChannel
	if s.Acks {
		var refused *HECAnswer
		if ch, refused = s.channel(r); refused != nil {
			return *refused
		}
	}
	if s.Most > 0 && len(body) > s.Most {
		return HECAnswer{Code: 6, Invalid: new(int)}
	}
	events, number, code, broken := ParseHEC(body, s.refuse)
	s.broken = append(s.broken, broken...)
	seen.Events = number
	if code == 0 && len(events) == 0 {
		return HECAnswer{Code: 5}
	}
	p := &hecPending{events: events, lost: f.Drop}
	switch {
	case s.Acks:
		p.due = time.Now().Add(s.Delay)
	case !f.Drop:
		s.store(events)
	}
	if code != 0 {
		// Those before it are indexed, and nobody will be told.
		if s.Acks && !f.Drop {
			s.store(events)
		}
		if code == 7 {
			number++
		}
		return HECAnswer{Code: code, Invalid: &number}
	}
	a := HECAnswer{Code: f.Code}
	if ch != nil && !f.NoID {
		id := ch.next
		ch.next++
		ch.pending[id] = p
		a.AckID = &id
	}
	return a
}

// ParseHEC reads the events of a body up to the first bad one, whose number and
// code it returns; else their number, and 0. refuse is the code for an event that
// is not taken, 0 for a good one. broken are the traps that were stepped into.
func ParseHEC(body []byte, refuse func(*HECEvent) int) (events []HECEvent, number, code int, broken []string) {
	d := json.NewDecoder(bytes.NewReader(body))
	for ; ; number++ {
		var envelope map[string]json.RawMessage
		if err := d.Decode(&envelope); errors.Is(err, io.EOF) {
			return events, number, 0, broken
		} else if err != nil {
			broken = append(broken, fmt.Sprintf("event %d: %v", number, err))
			return events, number, 6, broken
		}
		var e HECEvent
		for key, raw := range envelope {
			var err error
			switch key {
			case "time":
				err = json.Unmarshal(raw, &e.Time)
			case "index":
				err = json.Unmarshal(raw, &e.Index)
			case "source":
				err = json.Unmarshal(raw, &e.Source)
			case "sourcetype":
				err = json.Unmarshal(raw, &e.Sourcetype)
			case "host":
				err = json.Unmarshal(raw, &e.Host)
			case "fields":
				err = json.Unmarshal(raw, &e.Fields)
			case "event":
				e.Event = raw
			default:
				broken = append(broken, fmt.Sprintf("event %d: the key %q stops indexing", number, key))
				return events, number, 0, broken
			}
			if err != nil {
				broken = append(broken, fmt.Sprintf("event %d: %s: %v", number, key, err))
				return events, number, 6, broken
			}
		}
		if e.Event == nil {
			broken = append(broken, fmt.Sprintf("event %d: without an event it is skipped", number))
			continue
		}
		if code := refuse(&e); code != 0 {
			return events, number, code, broken
		}
		events = append(events, e)
	}
}

// refuse is the code for an event that is not taken, 0 for a good one.
func (s *Splunk) refuse(e *HECEvent) int {
	var text string
	switch {
	case string(e.Event) == "null":
		return 12
	case json.Unmarshal(e.Event, &text) == nil && strings.TrimSpace(text) == "":
		return 13
	case e.Index != "" && len(s.Indices) > 0 && !slices.Contains(s.Indices, e.Index):
		return 7
	case s.Verdict != nil:
		return s.Verdict(*e)
	}
	return 0
}
