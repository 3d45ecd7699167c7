package sinktest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"weir/sinks"
)

// HTTPSubject is a kind of sink that speaks HTTP.
type HTTPSubject struct {
	// Server makes a destination: how it answers, and what of the suite's records
	// it holds for good. poison, which may be nil, is Place.Poison.
	Server func(t *testing.T) (h http.Handler, stored func() map[int]int, poison func(n int))
	// Sink makes a sink for the destination at url, with a generous limit for a
	// request. trust is nil for http.
	Sink func(t *testing.T, url string, trust *tls.Config) sinks.Sink
	// Delivery reports whether a request carries records; only those go wrong.
	Delivery func(*http.Request) bool
	// Once is Subject.Once.
	Once bool
}

// ConformHTTP is Conform with all that HTTP can do to a request.
func ConformHTTP(t *testing.T, s HTTPSubject) {
	Conform(t, Subject{Once: s.Once, Open: func(t *testing.T) Place { return s.open(t).place }})
	for hazard, name := range hazardNames {
		t.Run(name, func(t *testing.T) {
			o := s.open(t)
			c := &conformance{Subject: Subject{Once: s.Once}, place: o.place, acked: map[int]bool{}, rejected: map[int]bool{}}
			o.faulty.queue(hazard)
			c.deliver(t, c.batch(40, 100))
			c.check(t)
			if left := o.faulty.left(); left > 0 {
				t.Errorf("%d faults did not happen: did Delivery know the request?", left)
			}
		})
	}
	t.Run("an answer before the request was read", func(t *testing.T) {
		o := s.open(t)
		c := &conformance{Subject: Subject{Once: s.Once}, place: o.place, acked: map[int]bool{}, rejected: map[int]bool{}}
		o.faulty.queue(early)
		b := c.batch(16, 1<<20)
		out, err := c.attempt(t, b)
		c.judge(t, b, out, err)
		if err == nil {
			t.Error("no error, though nothing was read")
		}
		for _, r := range b.Records { // the race detector is the judge
			clear(r.Value)
		}
	})
	t.Run("a server that nobody vouches for", func(t *testing.T) {
		h, stored, _ := s.Server(t)
		srv := httptest.NewUnstartedServer(h)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		sink := s.Sink(t, srv.URL, &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12})
		c := &conformance{place: Place{Sink: sink, Stored: stored}}
		out, err := c.attempt(t, c.batch(3, 10))
		var re *sinks.RequestError
		if !errors.As(err, &re) || !re.Misconfigured || out != nil {
			t.Errorf("%v, %v; want a RequestError that says misconfigured", out, err)
		}
		if n := len(stored()); n > 0 {
			t.Errorf("%d records are there", n)
		}
	})
	t.Run("a server that our authority vouches for", func(t *testing.T) {
		h, stored, _ := s.Server(t)
		srv := httptest.NewTLSServer(h)
		t.Cleanup(srv.Close)
		pool := x509.NewCertPool()
		pool.AddCert(srv.Certificate())
		sink := s.Sink(t, srv.URL, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
		c := &conformance{Subject: Subject{Once: s.Once}, place: Place{Sink: sink, Stored: stored}, acked: map[int]bool{}, rejected: map[int]bool{}}
		c.deliver(t, c.batch(3, 10))
		c.check(t)
	})
}

// opened is a destination behind a faulty server.
type opened struct {
	place  Place
	faulty *faulty
}

func (s HTTPSubject) open(t *testing.T) opened {
	t.Helper()
	h, stored, poison := s.Server(t)
	f := &faulty{next: h, delivery: s.Delivery, stalled: make(chan struct{})}
	srv := httptest.NewUnstartedServer(f)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return opened{faulty: f, place: Place{
		Sink: s.Sink(t, srv.URL, nil), Stored: stored, Poison: poison, Stalled: f.stalled,
		Break: func(rng *rand.Rand) { f.queue(hazard(rng.IntN(int(early)))) },
	}}
}

// hazard is what goes wrong with one request.
type hazard int

const (
	resetBefore hazard = iota // the connection breaks before anything is stored
	resetAfter                // and after
	stallHeaders
	stallBody
	half
	endless
	html
	badGzip
	busy
	unwell
	failedAfter
	unavailable
	tooLarge
	unauthorized
	redirect
	teapot
	early // last: not one of those that a script draws
)

var hazardNames = map[hazard]string{
	resetBefore: "reset before storing", resetAfter: "reset after storing",
	stallHeaders: "no answer, though stored", stallBody: "half an answer and silence", half: "half an answer and the end",
	endless: "an endless answer", html: "a page in the place of an answer", badGzip: "an answer in broken gzip",
	busy: "429", unwell: "500 before storing", failedAfter: "500 after storing", unavailable: "503", tooLarge: "413 once",
	unauthorized: "401 once", redirect: "a redirect to elsewhere", teapot: "a status that nobody expects",
}

// faulty is a server in front of another one.
type faulty struct {
	next     http.Handler
	delivery func(*http.Request) bool
	stalled  chan struct{}

	mu     sync.Mutex
	script []hazard
}

func (f *faulty) queue(h hazard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = append(f.script, h)
}

func (f *faulty) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.script)
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	fine := len(f.script) == 0 || !f.delivery(r)
	var h hazard
	if !fine {
		h, f.script = f.script[0], f.script[1:]
	}
	f.mu.Unlock()
	if fine {
		f.next.ServeHTTP(w, r)
		return
	}
	answer := func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		f.next.ServeHTTP(rec, r)
		return rec
	}
	refuse := func(status int) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
	}
	switch h {
	case resetBefore:
		_, _ = io.Copy(io.Discard, r.Body)
		reset(w)
	case resetAfter:
		answer()
		reset(w)
	case stallHeaders:
		answer()
		f.stall(r)
	case stallBody:
		partly(w, answer())
		f.stall(r)
	case half:
		partly(w, answer())
		panic(http.ErrAbortHandler)
	case endless:
		rec := answer()
		copyHead(w, rec)
		_, err := w.Write(rec.Body.Bytes())
		for space := bytes.Repeat([]byte(" "), 64<<10); err == nil; {
			_, err = w.Write(space)
		}
	case html:
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body>It works!</body></html>")
	case badGzip:
		rec := answer()
		w.Header().Set("Content-Encoding", "gzip")
		copyHead(w, rec)
		_, _ = w.Write([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xab"))
	case busy:
		refuse(http.StatusTooManyRequests)
	case unwell:
		refuse(http.StatusInternalServerError)
	case failedAfter:
		answer()
		w.WriteHeader(http.StatusInternalServerError)
	case unavailable:
		refuse(http.StatusServiceUnavailable)
	case tooLarge:
		refuse(http.StatusRequestEntityTooLarge)
	case unauthorized:
		refuse(http.StatusUnauthorized)
	case redirect:
		w.Header().Set("Location", "http://169.254.169.254/latest/meta-data")
		refuse(http.StatusTemporaryRedirect)
	case teapot:
		refuse(http.StatusTeapot)
	case early:
		answerUnread(w)
	}
}

// stall waits until the client is gone.
func (f *faulty) stall(r *http.Request) {
	select {
	case f.stalled <- struct{}{}:
	case <-r.Context().Done():
	}
	<-r.Context().Done()
}

func copyHead(w http.ResponseWriter, rec *httptest.ResponseRecorder) {
	for k, v := range rec.Header() {
		if k != "Content-Length" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(rec.Code)
}

// partly sends the head and the first half of an answer.
func partly(w http.ResponseWriter, rec *httptest.ResponseRecorder) {
	w.Header().Set("Content-Length", strconv.Itoa(max(rec.Body.Len(), 2)))
	copyHead(w, rec)
	_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
}

// answerUnread answers 500 without having read the request, and reads on.
func answerUnread(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	_, _ = io.CopyN(io.Discard, bufio.NewReaderSize(rw, 512), 1<<20)
}
