package main

import (
	"bytes"
	"slices"
	"time"
)

// tally is what the endpoint saw.
type tally struct {
	Requests  int64 // served
	Refused   int64 // refused as a whole
	Documents int64 // taken
	Items     int64 // refused one by one, in served requests
	Distinct  int64 // events among the taken documents
	Strangers int64 // documents without an event's number
	Bytes     int64 // of the served requests' bodies, decompressed
	// Busy is the service time of all served requests, added up.
	Busy time.Duration
	// First is when the first bulk request came, Last when the last one was
	// served; in nanoseconds of the Unix clock, 0 before.
	First, Last int64
	// Low and High are when 5 and 95 percent of the events were there.
	Low, High int64
	Latency   latency
}

// latency is the time from an event's production to its arrival, of those events
// that say when they were sent.
type latency struct {
	Events                   int
	P50, P99, P999, Greatest time.Duration
}

// quantiles sorts took.
func quantiles(took []time.Duration) latency {
	n := len(took)
	if n == 0 {
		return latency{}
	}
	slices.Sort(took)
	at := func(perMille int) time.Duration { return took[min(n-1, n*perMille/1000)] }
	return latency{Events: n, P50: at(500), P99: at(990), P999: at(999), Greatest: took[n-1]}
}

// account knows every event by its number.
type account struct {
	expected int64
	seen     []uint64 // a bit an event
	took     []time.Duration
	tally
}

// maxNumber bounds what a number read from a document may allocate.
const maxNumber = 1 << 28

// document is what the account needs of one.
type document struct {
	number int64 // -1: it has none
	sent   int64 // 0: it does not say
}

// take counts documents that arrived now.
func (a *account) take(documents []document, now time.Time) {
	for _, d := range documents {
		a.Documents++
		if d.number < 0 || d.number >= maxNumber {
			a.Strangers++
			continue
		}
		word, bit := int(d.number/64), uint64(1)<<(d.number%64)
		if word >= len(a.seen) {
			a.seen = append(a.seen, make([]uint64, word+1024-len(a.seen))...)
		}
		if a.seen[word]&bit != 0 {
			continue
		}
		a.seen[word] |= bit
		a.Distinct++
		if d.sent != 0 {
			a.took = append(a.took, time.Duration(now.UnixNano()-d.sent))
		}
	}
	if a.Low == 0 && a.Distinct*20 >= a.expected {
		a.Low = now.UnixNano()
	}
	if a.High == 0 && a.Distinct*20 >= a.expected*19 {
		a.High = now.UnixNano()
	}
}

// parseBulk appends the documents of a bulk body: a line each, behind the line of
// its action. op is the first one's action.
func parseBulk(body []byte, documents []document) (_ []document, op string) {
	op = "index"
	if bytes.HasPrefix(body, []byte(`{"create"`)) || bytes.HasPrefix(body, []byte(`{ "create"`)) {
		op = "create"
	}
	for len(body) > 0 {
		var line []byte
		_, body = cutLine(body) // the action
		line, body = cutLine(body)
		if line == nil {
			break
		}
		d := document{number: -1}
		if n, rest, ok := number(line, numberKey); ok {
			d.number = n
			// The time stands right behind the number, or nowhere.
			if len(rest) > 0 && bytes.HasPrefix(rest[1:], []byte(sentKey)) {
				d.sent, _, _ = number(rest, sentKey)
			}
		}
		documents = append(documents, d)
	}
	return documents, op
}

func cutLine(text []byte) (line, rest []byte) {
	if at := bytes.IndexByte(text, '\n'); at >= 0 {
		return text[:at], text[at+1:]
	}
	return nil, nil
}

// number reads the decimal number behind key.
func number(line []byte, key string) (n int64, rest []byte, ok bool) {
	at := bytes.Index(line, []byte(key))
	if at < 0 {
		return 0, nil, false
	}
	rest = bytes.TrimLeft(line[at+len(key):], " ") // who writes the event anew may put a space there
	digits := 0
	for digits < len(rest) && digits < 19 && rest[digits]-'0' <= 9 {
		n = n*10 + int64(rest[digits]-'0')
		digits++
	}
	return n, rest[digits:], digits > 0
}
