package front

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/sinks/sinktest"
	"weir/testbed/torture/account"
)

// Splunk is the HTTP Event Collector, with a token that has no indexer
// acknowledgement: what is accepted counts as stored.
var Splunk = Protocol{
	Name:  "splunk_hec",
	Grade: "C",
	Rules: account.Rules{Twice: true},
	Serve: func(l net.Listener, a Account) error { return serve(l, &splunk{account: a}) },
	Sink:  func(t Target) map[string]any { return splunkSink(t, "off") },
}

// SplunkAcks is the HTTP Event Collector with indexer acknowledgement.
var SplunkAcks = Protocol{
	Name:  "splunk_hec_ack",
	Grade: "B",
	Rules: account.Rules{Twice: true, AckTimeout: ackTimeout},
	Serve: func(l net.Listener, a Account) error { return serve(l, &splunk{account: a, acks: true}) },
	Sink:  func(t Target) map[string]any { return splunkSink(t, "required") },
}

const (
	// ackTimeout is how long weir waits for an acknowledgement: the least there is.
	ackTimeout = 10 * time.Second
	// Indexing is how long it takes at most until an accepted event is indexed,
	// unless a plan says more.
	Indexing = 800 * time.Millisecond
)

func splunkSink(t Target, ack string) map[string]any {
	section := map[string]any{"urls": []string{t.URL}, "token": t.Process, "ack": ack, "timeout": patience.String()}
	if ack == "required" {
		section["ack_timeout"] = ackTimeout.String()
	}
	t.common(section)
	if t.SecretFile != "" {
		section["token"] = "${file:" + t.SecretFile + "}"
	}
	return map[string]any{"splunk_hec": section}
}

// splunk is a collector and its indexer. It dies with all that was accepted and
// not indexed, and with all acknowledgements.
type splunk struct {
	account Account
	acks    bool

	mu       sync.Mutex
	channels map[string]*hecChannel
}

type hecChannel struct {
	next    int64
	pending map[int64]*accepted // by acknowledgement id
}

// accepted is a request that was accepted.
type accepted struct {
	receipt int64
	indexed bool
}

func (s *splunk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, r: r, began: time.Now(), refusal: hecRefusal}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	path, ok := strings.CutPrefix(r.URL.Path, "/services/collector")
	switch {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	case strings.HasPrefix(path, "/health"):
		say(v, sinktest.HECAnswer{Code: 17})
	case path == "/ack":
		s.question(v)
	default:
		s.events(v)
	}
}

func say(v *visit, a sinktest.HECAnswer) {
	status, body := a.Render()
	v.w.WriteHeader(status)
	_, _ = v.w.Write(body)
}

// hecRefusal refuses a whole request.
func hecRefusal(how Spoil) (int, []byte) {
	code := 8
	switch how {
	case Busy:
		code = 26
	case Unavailable:
		code = 9
	case Forbidden:
		code = 4
	case AcksFull:
		code = 27
	}
	return sinktest.HECAnswer{Code: code}.Render()
}

// clean reports whether an answer says for certain that nothing was accepted.
func clean(how Spoil) bool {
	return how == Busy || how == Unavailable || how == Forbidden || how == AcksFull
}

// waits puts v's channel in doubt when the answer comes so late that the client may
// have given up. done ends that.
func (s *splunk) waits(v *visit) (done func() bool) {
	channel := channelOf(v)
	return time.AfterFunc(sure, func() {
		if s.acks {
			_ = s.account.Doubt(channel)
		}
	}).Stop
}

// request reads a request and asks how to treat it; false: it has been answered.
func (s *splunk) request(v *visit, acks bool) (body []byte, p Plan, credentials string, ok bool) {
	reader, err := v.body()
	if err == nil {
		body, err = io.ReadAll(reader)
	}
	if err == nil {
		credentials = strings.TrimPrefix(v.r.Header.Get("Authorization"), "Splunk ")
		p, err = s.account.Plan(Request{Credentials: credentials, Acks: acks})
	}
	if err != nil {
		v.reset() // cut off on its way: nothing of it counts
		return nil, p, "", false
	}
	time.Sleep(p.Wait)
	if p.Before != Well {
		s.doubt(v, acks, p.Before)
		v.spoil(p.Before, nil)
		return nil, p, "", false
	}
	return body, p, credentials, true
}

// doubt tells the account that an answer to events may be lost. It has to be told
// before: the client is quick.
func (s *splunk) doubt(v *visit, acks bool, how Spoil) {
	if s.acks && !acks && !clean(how) {
		_ = s.account.Doubt(channelOf(v))
	}
}

func channelOf(v *visit) string { return v.r.Header.Get("X-Splunk-Request-Channel") }

// poison are the codes that refuse one event for its content.
var poison = []int{6, 12, 13, 15}

// events takes a body: all its events, or those before the first bad one.
func (s *splunk) events(v *visit) {
	defer s.waits(v)()
	body, plan, credentials, ok := s.request(v, false)
	if !ok {
		return
	}
	events, number, code, broken := sinktest.ParseHEC(body, func(*sinktest.HECEvent) int { return 0 })
	in := account.Delivery{Sender: credentials, Channel: channelOf(v), Late: !v.there()}
	for i := range events {
		in.Documents = append(in.Documents, hecDocument(&events[i]))
	}
	// It looks at none behind the first bad one.
	if bad := slices.IndexFunc(in.Documents, func(d account.Document) bool { return account.Rejected(d.Event) }); bad >= 0 && len(broken) == 0 {
		in.Documents, in.Behind = in.Documents[:bad+1], in.Documents[bad+1:]
		number, code = bad, poison[in.Documents[bad].Number%int64(len(poison))]
	}
	for range broken {
		in.Documents = append(in.Documents, account.Document{Topic: "a trap that was stepped into"})
	}
	a := sinktest.HECAnswer{Code: code}
	if code != 0 {
		a.Invalid = &number
	} else if plan.After == NearlyFull {
		a.Code, plan.After = 24, Well
	}
	if s.acks {
		s.accept(v, plan, in, a)
		return
	}
	_, receipt, err := s.account.Store(in)
	if err != nil {
		v.reset()
		return
	}
	status, body := a.Render()
	_ = s.account.Answered(receipt, v.hand(plan.After, status, body, nil))
}

// accept takes events that are to be acknowledged later. Those before a bad one are
// indexed or not, and nobody will ever be told.
func (s *splunk) accept(v *visit, plan Plan, in account.Delivery, a sinktest.HECAnswer) {
	receipt, err := s.account.Accept(in)
	if err != nil {
		v.reset()
		return
	}
	unconfirmed := a.Invalid != nil || plan.After == NoID
	p := &accepted{receipt: receipt}
	if !plan.Lose && (!unconfirmed || plan.Index) {
		time.AfterFunc(plan.Late, func() { s.index(p) })
	}
	if unconfirmed {
		_ = s.account.Answered(receipt, false)
	} else {
		a.AckID = s.promise(in.Channel, p)
	}
	if plan.After == NoID {
		plan.After = Well
	}
	if plan.After != Well {
		s.doubt(v, false, plan.After)
	}
	status, body := a.Render()
	if !v.hand(plan.After, status, body, nil) && plan.After == Well {
		s.doubt(v, false, Reset)
	}
}

// promise gives an acknowledgement id.
func (s *splunk) promise(channel string, p *accepted) *int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channels == nil {
		s.channels = map[string]*hecChannel{}
	}
	c := s.channels[channel]
	if c == nil {
		c = &hecChannel{pending: map[int64]*accepted{}}
		s.channels[channel] = c
	}
	id := c.next
	c.next++
	c.pending[id] = p
	return &id
}

// index makes a request's events safe.
func (s *splunk) index(p *accepted) {
	if s.account.Index(p.receipt) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.indexed = true
}

// question says of each id whether it is indexed. What was told is forgotten,
// whether the answer arrives or not.
func (s *splunk) question(v *visit) {
	body, plan, _, ok := s.request(v, true)
	if !ok {
		return
	}
	var asked struct {
		Acks []int64 `json:"acks"`
	}
	if !s.acks || json.Unmarshal(body, &asked) != nil || len(asked.Acks) == 0 {
		say(v, sinktest.HECAnswer{Code: 14})
		return
	}
	said := map[string]bool{}
	var told []int64
	s.mu.Lock()
	c := s.channels[channelOf(v)]
	for _, id := range asked.Acks {
		is := false
		if c != nil && plan.After != False && c.pending[id] != nil && c.pending[id].indexed {
			is = true
			told = append(told, c.pending[id].receipt)
			delete(c.pending, id)
		}
		said[strconv.FormatInt(id, 10)] = is
	}
	s.mu.Unlock()
	if plan.After == False {
		plan.After = Well
	}
	status, whole := sinktest.HECAnswer{Acks: said}.Render()
	// One word less than was asked for.
	delete(said, strconv.FormatInt(asked.Acks[len(asked.Acks)-1], 10))
	_, short := sinktest.HECAnswer{Acks: said}.Render()
	if v.hand(plan.After, status, whole, short) {
		for _, receipt := range told {
			_ = s.account.Answered(receipt, true)
		}
	}
}

// hecDocument is an event as the account knows it.
func hecDocument(e *sinktest.HECEvent) account.Document {
	partition, _ := strconv.ParseInt(e.Fields["kafka_partition"], 10, 32)
	offset, err := strconv.ParseInt(e.Fields["kafka_offset"], 10, 64)
	if err != nil {
		offset = -1
	}
	var value struct {
		N int64 `json:"n"`
	}
	_ = json.Unmarshal(e.Event, &value)
	return account.Document{
		Event: e.Event, Whole: true, Number: value.N,
		Topic: e.Fields["kafka_topic"], Partition: int32(partition), Offset: offset,
	}
}
