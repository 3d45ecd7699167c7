package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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
}

// tally is what the endpoint saw.
type tally struct {
	Requests  int64 // served
	Refused   int64 // answered 429
	Documents int64 // in the served requests
	Bytes     int64 // of their bodies, decompressed
	// Busy is the service time of all served requests, added up.
	Busy time.Duration
	// First is when the first bulk request came, Last when the last one was
	// answered; in nanoseconds of the Unix clock, 0 before.
	First, Last int64
}

// bulk is the endpoint.
type bulk struct {
	backend
	slots chan struct{}

	mu    sync.Mutex
	tally tally
}

// An answer is cut from these: an item a document, as filter_path leaves it.
const (
	answerHead = `{"items":[`
	answerItem = `{"create":{"status":201}},`
)

var answerItems = []byte(strings.Repeat(answerItem, 100_000))

// sinkCommand serves the endpoint until its standard input is closed, which
// happens when the benchmark ends, however it ends. It prints its address.
func sinkCommand(args []string) error {
	var b bulk
	flags := flag.NewFlagSet("bench sink", flag.ContinueOnError)
	flags.IntVar(&b.Slots, "slots", 0, "requests served at a time; more are answered 429; 0: any number")
	flags.DurationVar(&b.PerDocument, "per-document", 0, "service time of a document")
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
	case r.URL.Path == "/tally":
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = json.NewEncoder(w).Encode(b.tally)
	case r.URL.Path == "/":
		_, _ = io.WriteString(w, `{"name":"bench","cluster_name":"bench","cluster_uuid":"bench-------bench------","version":{"number":"8.19.0","build_flavor":"default"},"tagline":"You Know, for Search"}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":{"type":"resource_not_found_exception","reason":"bench"},"status":404}`)
	}
}

var buffers = sync.Pool{New: func() any { return new(make([]byte, 256<<10)) }}

func (b *bulk) serveBulk(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	b.mu.Lock()
	if b.tally.First == 0 {
		b.tally.First = now.UnixNano()
	}
	b.mu.Unlock()

	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		text, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = text
	}
	buf := buffers.Get().(*[]byte)
	lines, n, err := countLines(body, *buf)
	buffers.Put(buf)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	documents := lines / 2 // an action line and the event
	if b.slots != nil {
		select {
		case b.slots <- struct{}{}:
			defer func() { <-b.slots }()
		default:
			b.mu.Lock()
			b.tally.Refused++
			b.mu.Unlock()
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"error":{"type":"es_rejected_execution_exception","reason":"bench"},"status":429}`)
			return
		}
	}
	busy := time.Duration(documents) * b.PerDocument
	if busy > 0 {
		time.Sleep(busy)
	}
	b.mu.Lock()
	b.tally.Requests++
	b.tally.Documents += documents
	b.tally.Bytes += n
	b.tally.Busy += busy
	b.tally.Last = time.Now().UnixNano()
	b.mu.Unlock()

	length := len(answerHead) + len("]}")
	items := int(documents) * len(answerItem)
	if items > 0 {
		length += items - 1 // without the last comma
	}
	w.Header().Set("Content-Length", strconv.Itoa(length))
	_, _ = io.WriteString(w, answerHead)
	for items > 0 {
		piece := min(items, len(answerItems))
		items -= piece
		if items == 0 {
			_, _ = w.Write(answerItems[:piece-1])
		} else {
			_, _ = w.Write(answerItems[:piece])
		}
	}
	_, _ = io.WriteString(w, "]}")
}

func countLines(r io.Reader, buf []byte) (lines, size int64, err error) {
	for {
		n, err := r.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte{'\n'}))
		size += int64(n)
		if err == io.EOF {
			return lines, size, nil
		}
		if err != nil {
			return lines, size, err
		}
	}
}
