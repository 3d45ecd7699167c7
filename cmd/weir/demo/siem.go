package demo

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	maxBody = 32 << 20 // bytes of one bulk request, unpacked
	maxLine = 16 << 20
)

// siem is a stand-in for Elasticsearch: it answers the bulk API as one does,
// slowly or not at all when its mood says so, and keeps account of what it took.
// It keeps no document.
type siem struct {
	http *http.Server
	url  string

	mu      sync.Mutex
	mood    mood
	serving int
	taken   bool        // in this outage one request was taken
	free    []time.Time // when each worker is done with what it was given
	ids     idSet
	counts  siemCounts

	stored numbers
}

// siemCounts are totals since the SIEM was started.
type siemCounts struct {
	Stored, Twice, Refused, Rejected int64 // documents: taken, taken of an event it had, 409, 400
	Busy, Turned                     int64 // documents answered 429; requests answered 429, 503 or cut
}

// startSIEM serves on a free port of loopback.
func startSIEM() (*siem, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("demo: starting the stand-in SIEM: %w", err)
	}
	s := &siem{url: "http://" + l.Addr().String(), mood: calm, ids: newIDSet()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"name":"stand-in","cluster_name":"weir-demo","cluster_uuid":"weir-demo","version":{"number":"8.19.0","build_flavor":"default"},"tagline":"You Know, for Search"}`)
	})
	mux.HandleFunc("POST /_bulk", s.bulk)
	mux.HandleFunc("PUT /_bulk", s.bulk)
	mux.HandleFunc("POST /{index}/_bulk", s.bulk)
	mux.HandleFunc("PUT /{index}/_bulk", s.bulk)
	s.http = &http.Server{
		Handler:           s.moody(mux),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() { _ = s.http.Serve(l) }()
	return s, nil
}

func (s *siem) close() { _ = s.http.Close() }

// set changes the mood, for requests that are being served too.
func (s *siem) set(m mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.name != s.mood.name {
		s.free = nil // what waited in the old mood does not burden the new one
		s.taken = false
	}
	s.mood = m
}

// work gives docs documents to the worker that is free first, and returns how
// long it takes until they are done.
func (s *siem) work(now time.Time, docs int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mood.workers <= 0 {
		return 0
	}
	slices.SortFunc(s.free, time.Time.Compare)
	for len(s.free) < s.mood.workers {
		s.free = slices.Insert(s.free, 0, now)
	}
	// Workers that were taken away finish what they have, and get no more.
	s.free = s.free[len(s.free)-s.mood.workers:]
	if s.free[0].Before(now) {
		s.free[0] = now
	}
	s.free[0] = s.free[0].Add(time.Duration(docs) * s.mood.doc)
	return s.free[0].Sub(now)
}

func (s *siem) state() (mood, siemCounts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mood, s.counts
}

// moody answers every request while the SIEM is out.
func (s *siem) moody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		w.Header().Set("Content-Type", "application/json")
		if s.last(r) || !s.out(w) {
			next.ServeHTTP(w, r)
		}
	})
}

// last reports whether r is the one bulk request of an outage that is taken
// before its connection is cut. The sender cannot know, and has to send it again.
func (s *siem) last(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mood.fault != reset || s.taken || r.Method == http.MethodGet {
		return false
	}
	s.taken = true
	return true
}

// out reports whether the SIEM is out, after having treated the request so.
func (s *siem) out(w http.ResponseWriter) bool {
	s.mu.Lock()
	f := s.mood.fault
	if f != well {
		s.counts.Turned++
	}
	s.mu.Unlock()
	switch f {
	case reset:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // a reset, not a polite end
			}
			_ = conn.Close()
		}
	case unavailable:
		refuse(w, http.StatusServiceUnavailable, "cluster_block_exception", "state not recovered / initialized")
	}
	return f != well
}

// refuse answers a whole request with an error.
func refuse(w http.ResponseWriter, status int, kind, reason string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"type": kind, "reason": reason}, "status": status})
}

// enter takes a place for a request if there is one.
func (s *siem) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving >= s.mood.slots {
		s.counts.Turned++
		return false
	}
	s.serving++
	return true
}

func (s *siem) leave() {
	s.mu.Lock()
	s.serving--
	s.mu.Unlock()
}

func (s *siem) bulk(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "es_rejected_execution_exception", "too many bulk requests at a time")
		return
	}
	defer s.leave()
	body, err := unpacked(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "parse_exception", "body is not gzip")
		return
	}
	answer, docs, err := s.take(body)
	switch {
	case errors.Is(err, errTooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, "content_too_long_exception", err.Error())
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, "illegal_argument_exception", err.Error())
		return
	}
	work := time.NewTimer(s.work(time.Now(), docs))
	defer work.Stop()
	select {
	case <-work.C:
	case <-r.Context().Done():
		return
	}
	// What was taken stays taken: an answer that is lost here makes the sender
	// repeat the request, and every document in it meets its own id.
	if !s.out(w) {
		_, _ = w.Write(answer)
	}
}

var errTooLarge = fmt.Errorf("bulk request of more than %d bytes", maxBody)

func unpacked(r *http.Request) (io.Reader, error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = z
	}
	return &io.LimitedReader{R: body, N: maxBody + 1}, nil
}

// take stores the documents of a bulk body and makes the answer. An error means
// that the body itself is wrong; what stood before the fault has been stored.
func (s *siem) take(body io.Reader) (answer []byte, docs int, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var read int
	// A line that was cut by the limit or by the sender is not taken.
	next := func() bool {
		if !lines.Scan() || lines.Err() != nil {
			return false
		}
		read += len(lines.Bytes()) + 1
		return read <= maxBody
	}
	var items bytes.Buffer
	failed := false
	for next() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		op, id, err := action(lines.Bytes())
		if err != nil {
			return nil, 0, fmt.Errorf("malformed action/metadata line [%d]: %w", 2*docs+1, err)
		}
		if !next() {
			break
		}
		status, kind, reason := s.index(op, id, lines.Bytes())
		failed = failed || status > 299
		if docs > 0 {
			items.WriteByte(',')
		}
		item(&items, op, id, status, kind, reason)
		docs++
	}
	switch {
	case read > maxBody, errors.Is(lines.Err(), bufio.ErrTooLong):
		return nil, 0, errTooLarge
	case lines.Err() != nil:
		return nil, 0, errors.New("the body ended early")
	case docs == 0:
		return nil, 0, errors.New("request body is required")
	}
	return fmt.Appendf(nil, `{"errors":%t,"took":%d,"items":[%s]}`, failed, docs/10, items.Bytes()), docs, nil
}

// action reads an action line.
func action(line []byte) (op, id string, err error) {
	var ops map[string]struct {
		ID string `json:"_id"`
	}
	if err := json.Unmarshal(line, &ops); err != nil || len(ops) != 1 {
		return "", "", errors.New("expected one action")
	}
	for name, meta := range ops {
		op, id = name, meta.ID
	}
	if op != "create" && op != "index" {
		return "", "", errors.New("the stand-in knows create and index only")
	}
	return op, id, nil
}

// item writes the answer for one document.
func item(b *bytes.Buffer, op, id string, status int, kind, reason string) {
	name, _ := json.Marshal(id)
	fmt.Fprintf(b, `{"%s":{"_id":%s,"status":%d`, op, name, status)
	if kind != "" {
		fmt.Fprintf(b, `,"error":{"type":"%s","reason":"%s"}`, kind, reason)
	}
	b.WriteString("}}")
}

// index takes one document or says why not.
func (s *siem) index(op, id string, doc []byte) (status int, kind, reason string) {
	valid := json.Valid(doc) && bytes.TrimSpace(doc)[0] == '{'
	n, marked := markOf(doc)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mood.busy > 0 && rand.Float64() < s.mood.busy:
		s.counts.Busy++
		return http.StatusTooManyRequests, "es_rejected_execution_exception", "the write queue is full"
	case !valid:
		s.counts.Rejected++
		return http.StatusBadRequest, "document_parsing_exception", "failed to parse"
	case bytes.Contains(doc, []byte(`"port":"`)):
		// The whole of the stand-in's mapping: a port is a number. Inside a
		// string the quotes would be escaped.
		s.counts.Rejected++
		return http.StatusBadRequest, "document_parsing_exception", "failed to parse field [destination.port] of type [long]"
	case id != "" && !s.ids.add(id) && op == "create":
		s.counts.Refused++
		return http.StatusConflict, "version_conflict_engine_exception", "version conflict, document already exists"
	}
	s.counts.Stored++
	if marked && !s.stored.add(n) && op == "create" {
		s.counts.Twice++
	}
	return http.StatusCreated, "", ""
}

// idsKept is how many of the latest ids are remembered at least. It is far more
// than can be on its way, and bounds the memory of a demo that nobody stops.
const idsKept = 1 << 21

// idSet is the set of the latest ids, each as a hash of 64 bits.
type idSet struct {
	seed     maphash.Seed
	now, old map[uint64]struct{}
}

func newIDSet() idSet {
	return idSet{seed: maphash.MakeSeed(), now: map[uint64]struct{}{}}
}

// add reports whether id was not in the set before.
func (s *idSet) add(id string) bool {
	h := maphash.String(s.seed, id)
	if _, ok := s.now[h]; ok {
		return false
	}
	_, ok := s.old[h]
	if len(s.now) >= idsKept {
		s.now, s.old = map[uint64]struct{}{}, s.now
	}
	s.now[h] = struct{}{}
	return !ok
}
