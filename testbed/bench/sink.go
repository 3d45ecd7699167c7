package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

// backend is how the bulk endpoint behaves. The zero value takes everything at
// once.
type backend struct {
	Slots       int           // requests served at a time, 0: any number
	PerDocument time.Duration // service time
	// Fault is what happens to Share of the requests, or, for "items", of the
	// items: "500" and "429" refuse a request before anything is stored, "items"
	// answers 429 for an item. Share is in twentieths.
	Fault string
	Share float64
	// Acks makes the HEC endpoint give acknowledgement ids.
	Acks bool
}

// bulk is the endpoint.
type bulk struct {
	backend
	slots chan struct{}

	mu      sync.Mutex
	account account
	deck    []int // of the next requests, see refuses
}

// sinkCommand serves the endpoint until its standard input is closed, which
// happens when the benchmark ends, however it ends. It prints its address.
func sinkCommand(args []string) error {
	var b bulk
	flags := flag.NewFlagSet("bench sink", flag.ContinueOnError)
	flags.IntVar(&b.Slots, "slots", 0, "requests served at a time; more are answered 429; 0: any number")
	flags.DurationVar(&b.PerDocument, "per-document", 0, "service time of a document")
	flags.StringVar(&b.Fault, "fault", "", "500, 429 or items")
	flags.Float64Var(&b.Share, "share", 0, "share of requests or items that are refused")
	flags.BoolVar(&b.Acks, "acks", false, "HEC: give acknowledgement ids")
	flags.Int64Var(&b.account.expected, "events", 0, "events that will come")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.Slots > 0 {
		b.slots = make(chan struct{}, b.Slots)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	server := &http.Server{Handler: &b}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func (b *bulk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Elastic-Product", "Elasticsearch")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/_bulk"):
		b.serveBulk(w, r)
	case r.URL.Path == "/services/collector/event":
		b.serveHEC(w, r)
	case r.URL.Path == "/services/collector/ack":
		b.serveAcks(w, r)
	case strings.HasPrefix(r.URL.Path, "/services/collector/health"):
		_, _ = io.WriteString(w, `{"text":"HEC is healthy","code":17}`)
	case r.URL.Path == "/tally":
		_ = json.NewEncoder(w).Encode(b.tally(r.URL.Query().Has("latency")))
	case r.URL.Path == "/":
		_, _ = io.WriteString(w, `{"name":"bench","cluster_name":"bench","cluster_uuid":"bench-------bench------","version":{"number":"8.19.0","build_flavor":"default"},"tagline":"You Know, for Search"}`)
	case strings.HasPrefix(r.URL.Path, "/_cat/health"): // some clients ask before they send
		_, _ = io.WriteString(w, "green\n")
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":{"type":"resource_not_found_exception","reason":"bench"},"status":404}`)
	}
}

// tally is the account so far; the latencies, which take a while to sort, on
// demand.
func (b *bulk) tally(withLatency bool) tally {
	b.mu.Lock()
	t := b.account.tally
	var took []time.Duration
	if withLatency {
		took = slices.Clone(b.account.took)
	}
	b.mu.Unlock()
	t.Latency = quantiles(took)
	return t
}

// request is what serving one needs, kept for the next one.
type request struct {
	body      bytes.Buffer
	documents []document
	answer    bytes.Buffer
}

var requests = sync.Pool{New: func() any { return new(request) }}

// read reads the body of r, decompressed.
func (q *request) read(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		text, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = text
	}
	q.body.Reset()
	_, err := q.body.ReadFrom(body)
	return err
}

func (b *bulk) serveBulk(w http.ResponseWriter, r *http.Request) {
	b.begin()
	q := requests.Get().(*request)
	defer requests.Put(q)
	if err := q.read(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if b.Share > 0 && b.Fault != "items" && b.refuses() {
		// A refusal costs the backend what serving would have.
		time.Sleep(time.Duration(bytes.Count(q.body.Bytes(), []byte("\n"))/2) * b.PerDocument)
		status := http.StatusInternalServerError
		if b.Fault == "429" {
			status = http.StatusTooManyRequests
		}
		b.refuse(w, status)
		return
	}
	if b.slots != nil {
		select {
		case b.slots <- struct{}{}:
			defer func() { <-b.slots }()
		default:
			b.refuse(w, http.StatusTooManyRequests)
			return
		}
	}
	var op string
	q.documents, op = parseBulk(q.body.Bytes(), q.documents[:0])
	q.answer.Reset()
	taken := b.answer(&q.answer, q.documents, op)
	busy := time.Duration(len(q.documents)) * b.PerDocument
	if busy > 0 {
		time.Sleep(busy)
	}

	b.mu.Lock()
	b.account.Items += int64(len(q.documents) - len(taken))
	b.mu.Unlock()
	b.taken(taken, q.body.Len(), busy)

	head, items := "{", q.answer.Bytes()
	switch refused := len(taken) < len(q.documents); r.URL.Query().Get("filter_path") {
	case "":
		// Who does not say what he wants gets what Elasticsearch tells everybody.
		head = fmt.Sprintf(`{"took":1,"errors":%t,`, refused)
	case "errors":
		head, items = fmt.Sprintf(`{"errors":%t}`, refused), nil
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(head)+len(items)))
	_, _ = io.WriteString(w, head)
	_, _ = w.Write(items)
}

// refuses decides about a request. Of twenty in a row exactly Share are refused,
// at random which: left to chance, 5 percent of a run's 160 would be 3 or 13.
func (b *bulk) refuses() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.deck) == 0 {
		b.deck = rand.Perm(20)
	}
	drawn := b.deck[0]
	b.deck = b.deck[1:]
	return float64(drawn) < 20*b.Share
}

func (b *bulk) refuse(w http.ResponseWriter, status int) {
	b.mu.Lock()
	b.account.Refused++
	b.mu.Unlock()
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"type":"es_rejected_execution_exception","reason":"bench"},"status":%d}`, status)
}

// answer writes the rest of an answer: an item a document, as weir's filter_path
// leaves it. It returns the documents that are taken, in place.
func (b *bulk) answer(w *bytes.Buffer, documents []document, op string) []document {
	good := `{"` + op + `":{"status":201}}`
	bad := `{"` + op + `":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"bench"}}}`
	taken := documents[:0]
	w.WriteString(`"items":[`)
	for i, d := range documents {
		if i > 0 {
			w.WriteByte(',')
		}
		if b.Fault == "items" && rand.Float64() < b.Share {
			w.WriteString(bad)
			continue
		}
		w.WriteString(good)
		taken = append(taken, d)
	}
	w.WriteString("]}")
	return taken
}
