package splunk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	// maxAsked bounds the ids of one question.
	maxAsked = 1000
	// maxAckAnswer bounds the answer to one question, in bytes: an id of 19 digits
	// and a false for each, with room to spare.
	maxAckAnswer = 64 << 10
)

// poll asks for the acknowledgements of ch as long as there are any to wait for:
// often while they come in, ever more rarely while they do not.
func (s *Sink) poll(ch *channel) {
	wait := s.pace.pollMin
	for {
		select {
		case <-s.closing.Done():
			return
		case <-time.After(wait):
		}
		ids, ended := s.unconfirmed(ch)
		if ended {
			return
		}
		came := false
		for some := range slices.Chunk(ids, maxAsked) {
			indexed, err := s.question(ch, some)
			s.mu.Lock()
			ch.trouble = err
			s.mu.Unlock()
			if err != nil {
				break
			}
			s.confirm(ch, indexed)
			came = came || len(indexed) > 0
		}
		if wait = min(2*wait, s.pace.pollMax); came {
			wait = s.pace.pollMin
		}
	}
}

// unconfirmed are the ids that have to be asked for, in order. When nothing is
// pending any more it ends the polling.
func (s *Sink) unconfirmed(ch *channel) (ids []int64, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ch.pending) == 0 {
		ch.polling = false
		return nil, true
	}
	for id, t := range ch.pending {
		if t.until == 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, false
}

// question asks which of ids are indexed.
//
// Errors: no answer that could be believed; then none of them is known to be.
func (s *Sink) question(ch *channel, ids []int64) ([]int64, error) {
	body := []byte(`{"acks":[`)
	for i, id := range ids {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendInt(body, id, 10)
	}
	body = append(body, `]}`...)
	a, err := s.ask(s.closing, ch.endpoint, ch, http.MethodPost, ch.endpoint.acks, body)
	if err != nil {
		if s.closing.Err() == nil {
			s.takeOut(ch.endpoint)
		}
		return nil, err
	}
	if err := s.follow(ch, a.Header); err != nil {
		return nil, err
	}
	switch {
	case a.Status != http.StatusOK:
		r := parseReply(a.Body)
		err := fmt.Errorf("answered %d: %s", a.Status, r.describe(false, &a))
		if a.Status == http.StatusBadRequest && r.code == codeAckDisabled {
			// Nothing that was sent will ever be acknowledged.
			s.mu.Lock()
			defer s.mu.Unlock()
			ch.void(err)
		}
		return nil, err
	case a.Incomplete != nil:
		return nil, a.Incomplete
	}
	return parseAcks(a.Body, ids)
}

var errAcks = errors.New("the answer does not say of each id whether it is indexed")

// parseAcks reads an answer {"acks":{"0":true,"1":false}} and returns those of
// ids, which are in order, that are indexed.
//
// Errors: it is anything but one word on each of ids and on nothing else. Such an
// answer says nothing.
func parseAcks(body []byte, ids []int64) ([]int64, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	follows := func(want ...json.Token) bool {
		for _, w := range want {
			if got, err := d.Token(); err != nil || got != w {
				return false
			}
		}
		return true
	}
	if !follows(json.Delim('{'), "acks", json.Delim('{')) {
		return nil, errAcks
	}
	seen := make([]bool, len(ids))
	var indexed []int64
	for range ids {
		key, err := d.Token()
		if err != nil {
			return nil, errAcks
		}
		text, _ := key.(string)
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, errAcks
		}
		value, err := d.Token()
		if err != nil {
			return nil, errAcks
		}
		is, isBool := value.(bool)
		at, asked := slices.BinarySearch(ids, id)
		if !isBool || !asked || seen[at] {
			return nil, errAcks
		}
		seen[at] = true
		if is {
			indexed = append(indexed, id)
		}
	}
	if !follows(json.Delim('}'), json.Delim('}')) {
		return nil, errAcks
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errAcks
	}
	return indexed, nil
}
