package demo

import (
	"math"
	"time"
)

// cycle is how long the SIEM takes through all its moods when the demo is not
// told to be shorter.
const cycle = 45 * time.Second

// fault says what the SIEM does to every request.
type fault uint8

const (
	well        fault = iota // serves it
	reset                    // cuts the connection
	unavailable              // answers 503
)

// mood is how the SIEM behaves for a while.
type mood struct {
	name    string
	says    string
	slots   int           // requests it takes at a time; one more is answered 429
	workers int           // requests it works on at a time; those beyond wait for a worker
	doc     time.Duration // a worker's time for one document
	busy    float64       // share of documents that are answered 429 in a request that is served
	fault   fault
}

// calm is the mood while the rest is drained at the end.
var calm = mood{name: "calm", says: "the generator has stopped, the SIEM is well, weir brings the rest", slots: 8, workers: 8, doc: 200 * time.Microsecond}

// act is a mood with its place in the cycle.
type act struct {
	until  float64 // share of the cycle
	mood   mood
	slower float64 // how many times the service time is at the act's end what it was; 0: it stays
	fewer  int     // workers that are gone at the act's end
}

var acts = []act{
	{until: 0.18, mood: mood{name: "healthy", says: "answers every request at once", slots: 8, workers: 8, doc: 300 * time.Microsecond}},
	{until: 0.42, mood: mood{name: "slowing", says: "takes longer and longer for every document", slots: 8, workers: 8, doc: 300 * time.Microsecond}, slower: 4, fewer: 6},
	{until: 0.56, mood: mood{name: "overloaded", says: "takes 2 requests at a time, answers 429 to the rest", slots: 2, workers: 2, doc: 1200 * time.Microsecond, busy: 0.02}},
	{until: 0.63, mood: mood{name: "outage", says: "cuts every connection, answers on their way are lost", slots: 8, fault: reset}},
	{until: 0.70, mood: mood{name: "restarting", says: "answers 503 to every request", fault: unavailable}},
	{until: 0.80, mood: mood{name: "recovering", says: "is back, and takes 4 requests at a time", slots: 4, workers: 4, doc: 400 * time.Microsecond}},
	{until: 1, mood: mood{name: "recovered", says: "answers every request at once again", slots: 8, workers: 8, doc: 300 * time.Microsecond}},
}

// burst is traffic beyond the usual.
type burst struct {
	name, says  string
	from, until float64 // shares of the cycle
	kind        kind
	factor      float64 // of the usual rate, on top of it
}

var bursts = []burst{
	{name: "phishing wave", says: "a phishing wave: Office starts PowerShell on many hosts", from: 0.26, until: 0.33, kind: phishing, factor: 1.5},
	{name: "port scan", says: "a port scan: the firewall denies thousands of connections", from: 0.43, until: 0.51, kind: scan, factor: 2},
}

// script says what happens when.
type script struct {
	cycle time.Duration
}

// newScript fits whole cycles into the run time; 0 is a run without end.
func newScript(run time.Duration) script {
	if run <= 0 {
		return script{cycle: cycle}
	}
	n := max(1, math.Round(float64(run)/float64(cycle)))
	return script{cycle: time.Duration(float64(run) / n)}
}

// at is the place in the cycle, from 0 to below 1.
func (s script) at(elapsed time.Duration) float64 {
	return float64(elapsed%s.cycle) / float64(s.cycle)
}

// mood is the SIEM's mood after elapsed.
func (s script) mood(elapsed time.Duration) mood {
	at, from := s.at(elapsed), 0.0
	for _, a := range acts {
		if at < a.until {
			m := a.mood
			passed := (at - from) / (a.until - from)
			if a.slower > 0 {
				m.doc = time.Duration(float64(m.doc) * math.Pow(a.slower, passed))
			}
			m.workers -= int(passed * float64(a.fewer+1))
			return m
		}
		from = a.until
	}
	return acts[len(acts)-1].mood
}

// burst is the extra traffic after elapsed, nil when there is none.
func (s script) burst(elapsed time.Duration) *burst {
	at := s.at(elapsed)
	for i := range bursts {
		if b := &bursts[i]; at >= b.from && at < b.until {
			return b
		}
	}
	return nil
}
