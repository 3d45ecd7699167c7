package splunk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"weir/sinks"
	"weir/sinks/httpclient"
)

// A channel is what acknowledgement ids are counted in: a GUID, at one endpoint.
// The collector answers each request with the next id, from 0, and forgets all
// of them when it restarts: then they begin anew, and an old id that is still
// waited for would be confirmed by another request's events. So an id that goes
// back ends the channel, and what is confirmed counts only once no answer is
// outstanding that could tell that it has.
//
// All fields but id and endpoint are guarded by Sink.mu.
type channel struct {
	id       string
	endpoint *endpoint
	acks     bool // the endpoint acknowledges

	cookies []*http.Cookie // of a load balancer: they lead back to the same indexer
	next    int64          // one above the largest id so far
	pending map[int64]*ticket
	held    []*ticket        // of pending: those that are confirmed
	turn    uint64           // of the requests that were begun
	missing int64            // requests whose answers were lost
	flying  map[uint64]int64 // requests without an answer: next, as it was when they began
	polling bool
	trouble error // why the last question was of no use; nil: it was answered
}

// A ticket waits for the acknowledgement of one request.
type ticket struct {
	channel *channel
	id      int64
	done    chan struct{} // closed when it is decided
	err     error         // once it is: nil, it was acknowledged
	until   uint64        // confirmed for good once no request before it is flying
}

// open gives the channel to send with. Opening one asks for an acknowledgement
// that cannot be there: the answer says whether there are any, and brings the
// load balancer's cookies before there is anything to lose by them.
//
// Errors: a *sinks.RequestError.
func (s *Sink) open(ctx context.Context, ep *endpoint) (*channel, error) {
	current := func() *channel {
		s.mu.Lock()
		defer s.mu.Unlock()
		return ep.channel
	}
	if ch := current(); ch != nil {
		return ch, nil
	}
	select {
	case ep.opening <- struct{}{}:
		defer func() { <-ep.opening }()
	case <-ctx.Done():
		return nil, &sinks.RequestError{Endpoint: ep.name, Err: context.Cause(ctx)}
	}
	if ch := current(); ch != nil {
		return ch, nil
	}
	ch := &channel{id: newGUID(), endpoint: ep, pending: make(map[int64]*ticket), flying: make(map[uint64]int64)}
	if s.cfg.Ack != ackOff {
		if err := s.probe(ctx, ch); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ep.channel = ch
	return ch, nil
}

// probe asks whether ch's endpoint acknowledges, and notes it. An answer that
// does not say so (there is no such question at LogScale) leaves it open: then
// the first answer to events tells, which has an id or has none.
//
// Errors: a *sinks.RequestError, when it cannot be known now, or it does not and
// has to.
func (s *Sink) probe(ctx context.Context, ch *channel) error {
	ep := ch.endpoint
	a, err := s.ask(ctx, ep, ch, http.MethodPost, ep.acks, []byte(`{"acks":[0]}`))
	if err != nil {
		s.takeOut(ep)
		return err
	}
	state := ackUnknown
	r := parseReply(a.Body)
	if _, err := parseAcks(a.Body, []int64{0}); err == nil && a.Status == http.StatusOK && a.Incomplete == nil {
		state = ackWith
	} else if r.code == codeAckDisabled && a.Status == http.StatusBadRequest {
		state = ackWithout
	}
	switch {
	case state == ackWith:
	case a.Incomplete != nil, a.Status >= 300 && a.Status < 400, a.Status >= 500, a.Status == http.StatusRequestTimeout,
		a.Status == http.StatusTooManyRequests, credentialsRefused(a.Status, &r):
		if unwell(a.Status, &r) {
			s.takeOut(ep)
		}
		return refusal(&a, &r, ep.name, s.cfg.IncludeReasons)
	case s.cfg.Ack == ackRequired:
		err = &sinks.RequestError{
			Status: a.Status, Endpoint: ep.name, Misconfigured: true,
			Err: fmt.Errorf("ack is required, but there is none: %s", r.describe(false, &a)),
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ep.ack, ch.acks = state, state == ackWith
	ch.cookies, _ = renewed(nil, a.Header)
	return err
}

// newGUID is a random UUID (RFC 9562, version 4) in upper case, as Splunk's own
// clients write it.
func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// begin notes that a request is sent through ch, and gives it a number.
func (s *Sink) begin(ch *channel) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch.turn++
	ch.flying[ch.turn] = ch.next
	return ch.turn
}

// landed notes that request turn was answered, without an acknowledgement to
// wait for.
func (s *Sink) landed(ch *channel, turn uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(ch.flying, turn)
	ch.release()
}

// lost notes that nobody knows what became of request turn. The channel gets no
// further request; what was sent through it before is still asked for.
//
// A collector that was restarted gave the requests whose answers were lost the
// ids from 0 on, as many as there are. A ticket with such an id can never be
// told from them.
func (s *Sink) lost(ch *channel, turn uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(ch.flying, turn)
	ch.missing++
	if !ch.acks {
		return
	}
	if t := ch.pending[ch.missing-1]; t != nil {
		t.settle(errAmbiguous)
	}
	ch.retire()
	ch.release()
}

var errAmbiguous = errors.New("another request's answer was lost, and may have had the same acknowledgement id")

// promised notes that request turn was answered with an acknowledgement id, and
// returns the ticket to wait with.
//
// Errors: the id cannot be waited for. Where it goes back, all that is pending in
// the channel is void.
func (s *Sink) promised(ch *channel, turn uint64, id int64) (*ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	least := ch.flying[turn]
	delete(ch.flying, turn)
	if ch.pending[id] != nil || id < least {
		err := errors.New("the acknowledgement ids went back: the collector was restarted, " +
			"or a load balancer in between has no sticky sessions")
		ch.void(err)
		return nil, err
	}
	if id < ch.missing {
		ch.release()
		return nil, errAmbiguous
	}
	t := &ticket{channel: ch, id: id, done: make(chan struct{})}
	ch.pending[id] = t
	ch.next = max(ch.next, id+1)
	if !ch.acks { // the token has acknowledgement since: the next channel knows
		ch.acks = true
		ch.endpoint.ack = ackWith
		ch.retire()
	}
	ch.release()
	if !ch.polling {
		ch.polling = s.start(func() { s.poll(ch) })
	}
	return t, nil
}

// confirm notes that the collector says of ids that their events are indexed.
func (s *Sink) confirm(ch *channel, ids []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if t := ch.pending[id]; t != nil && t.until == 0 {
			t.until = ch.turn + 1
			ch.held = append(ch.held, t)
		}
	}
	ch.release()
}

// giveUp has t count as not acknowledged, unless it was.
func (s *Sink) giveUp(t *ticket, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.channel.pending[t.id] == t {
		t.settle(why)
	}
}

// settle decides t.
func (t *ticket) settle(err error) {
	ch := t.channel
	delete(ch.pending, t.id)
	ch.held = slices.DeleteFunc(ch.held, func(o *ticket) bool { return o == t })
	t.err = err
	close(t.done)
}

// release settles what is confirmed and cannot be doubted any more.
func (ch *channel) release() {
	if len(ch.held) == 0 {
		return
	}
	oldest := ch.turn + 1
	for turn := range ch.flying {
		oldest = min(oldest, turn)
	}
	for _, t := range slices.Clone(ch.held) {
		if t.until <= oldest {
			t.settle(nil)
		}
	}
}

// retire has the next request open a channel of its own.
func (ch *channel) retire() {
	if ch.endpoint.channel == ch {
		ch.endpoint.channel = nil
	}
}

// void ends the channel: nothing that is pending in it can be believed.
func (ch *channel) void(why error) {
	ch.retire()
	for _, t := range ch.pending {
		t.settle(why)
	}
}

const (
	maxCookies = 8
	maxCookie  = 4 << 10
)

// renewed is what of old is left once the answer's Set-Cookie headers were
// obeyed, and whether that leads elsewhere: a load balancer gives a cookie with
// another value when it could not go on to where the old one led.
func renewed(old []*http.Cookie, h http.Header) (now []*http.Cookie, elsewhere bool) {
	now = old
	if len(h["Set-Cookie"]) == 0 {
		return now, false
	}
	now = slices.Clone(old)
	for _, c := range (&http.Response{Header: h}).Cookies() {
		at := slices.IndexFunc(now, func(o *http.Cookie) bool { return o.Name == c.Name })
		switch {
		case len(c.Name)+len(c.Value) > maxCookie:
		case at < 0 && (c.MaxAge < 0 || len(now) == maxCookies):
		case at < 0:
			now, elsewhere = append(now, &http.Cookie{Name: c.Name, Value: c.Value, Quoted: c.Quoted}), true
		case c.MaxAge < 0:
			now, elsewhere = slices.Delete(now, at, at+1), true
		case now[at].Value != c.Value:
			now[at] = &http.Cookie{Name: c.Name, Value: c.Value, Quoted: c.Quoted}
			// AWS's application load balancer gives its cookie another value with
			// each answer, wherever it leads.
			elsewhere = elsewhere || !strings.HasPrefix(c.Name, "AWSALB")
		}
	}
	return now, elsewhere
}

// follow takes over the cookies of an answer that came through ch.
//
// Errors: they lead elsewhere now, so all that is pending in the channel is void.
func (s *Sink) follow(ch *channel, h http.Header) error {
	if len(h["Set-Cookie"]) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ch.acks {
		return nil // each may go to another collector: nobody has to come back
	}
	first := len(ch.cookies) == 0 && ch.next == 0
	cookies, elsewhere := renewed(ch.cookies, h)
	if elsewhere && !first {
		err := errors.New("the load balancer's cookie has changed, so acknowledgements cannot be asked for where the events went")
		ch.void(err)
		return err
	}
	ch.cookies = cookies
	return nil
}

// header is what every request to a collector carries; ch is nil for one outside
// of a channel.
func (s *Sink) header(ch *channel, token string) http.Header {
	h := http.Header{"Authorization": {"Splunk " + token}}
	if ch == nil {
		return h
	}
	h["X-Splunk-Request-Channel"] = []string{ch.id}
	h["Content-Type"] = []string{"application/json"}
	s.mu.Lock()
	defer s.mu.Unlock()
	var pairs []string
	for _, c := range ch.cookies {
		pairs = append(pairs, c.String())
	}
	if len(pairs) > 0 {
		h["Cookie"] = []string{strings.Join(pairs, "; ")}
	}
	return h
}

// ask sends a small request to ep and returns the answer.
//
// Errors: a *sinks.RequestError when there was no answer.
func (s *Sink) ask(ctx context.Context, ep *endpoint, ch *channel, method, url string, body []byte) (httpclient.Answer, error) {
	token, err := s.token.Value()
	if err != nil {
		return httpclient.Answer{}, &sinks.RequestError{Endpoint: ep.name, Misconfigured: true, Err: fmt.Errorf("token: %w", err)}
	}
	r := httpclient.Request{Method: method, URL: url, Header: s.header(ch, token)}
	if body != nil {
		r.Body = strings.NewReader(string(body))
	}
	a, err := s.small.Do(ctx, r)
	if err != nil {
		return a, err
	}
	if rep := parseReply(a.Body); credentialsRefused(a.Status, &rep) {
		s.token.Refused(token)
	}
	return a, nil
}
