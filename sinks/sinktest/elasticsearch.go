// Package sinktest has scripted SIEM servers that speak over real HTTP: they
// keep what they are sent, and fail as they are told to.
package sinktest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Elasticsearch is a server that knows GET / and _bulk, and can be OpenSearch as
// well. It is an http.Handler
// for httptest.NewServer or an http.Server. The zero value is ready; its fields
// are set before it serves.
//
// It is strict where the real one is lenient: every action and every document
// must be one line of valid JSON, and an action must hold nothing but what weir
// sends.
type Elasticsearch struct {
	// OpenSearch answers as OpenSearch does.
	OpenSearch bool
	// Version is the version number that it reports; empty: 8.19.0, or 3.6.0.
	Version string
	// Verdict is asked about every document that could be stored; nil, or an
	// ItemError with Status 0: it is stored. It is called under a lock.
	Verdict func(Document) ItemError
	// Edit may change the answer to a _bulk request, which is 200 and what the real
	// one would say. The documents are stored by then.
	Edit func(answer []byte) []byte
	// Gate is asked before anything else what to do with the request; nil or a nil
	// Fault: what Fail was given. The body was not read yet.
	Gate func(*http.Request) *Fault
	// Search has it answer searches, too; nil: it knows none.
	Search *Search
	// Forget keeps only ids and counts, and no sources.
	Forget bool

	mu       sync.Mutex
	script   []Fault
	indices  map[string]*storedIndex
	requests []Request
	broken   []string
}

// Document is one that was sent.
type Document struct {
	Index, ID, Op, Pipeline string
	Source                  []byte
}

// ItemError is what the answer says about one document that is not stored.
type ItemError struct {
	Status       int
	Type, Reason string
	// FailureStore with Status 201: it was stored aside, say "used".
	FailureStore string
}

// Fault is what happens to one request. The zero Fault is none.
type Fault struct {
	// Status is answered with Header and Body in the place of everything else;
	// nothing is stored. An empty Body becomes an error such as Elasticsearch's.
	Status int
	Header http.Header
	Body   string
	// Foreign leaves the header X-Elastic-Product out.
	Foreign bool
	// Wait holds the request, once it was read, until the channel is closed or the
	// client is gone.
	Wait <-chan struct{}
	// Unread answers (or resets) before the body was read.
	Unread bool
	// ResetBefore and ResetAfter break the connection, before or after the
	// documents were stored.
	ResetBefore, ResetAfter bool
	// Half sends the first half of the answer and breaks the connection.
	Half bool
	// Endless sends white space after the answer until the client goes.
	Endless bool
	// Answer is answered, as 200, after the documents were stored.
	Answer *string
}

// Request is what was seen of one _bulk request.
type Request struct {
	Method, Path, Query string
	Header              http.Header
	Documents           int
	Bytes               int64 // of the body, decompressed
}

type storedIndex struct {
	byID   map[string][]byte
	order  []string
	nextID int
}

// Fail queues faults: one for each of the next _bulk requests.
func (es *Elasticsearch) Fail(faults ...Fault) {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.script = append(es.script, faults...)
}

// Documents are those of an index, in the order they were first stored.
func (es *Elasticsearch) Documents(index string) []Document {
	es.mu.Lock()
	defer es.mu.Unlock()
	in := es.indices[index]
	if in == nil {
		return nil
	}
	var docs []Document
	for _, id := range in.order {
		docs = append(docs, Document{Index: index, ID: id, Source: in.byID[id]})
	}
	return docs
}

// Count is the number of documents of an index.
func (es *Elasticsearch) Count(index string) int {
	es.mu.Lock()
	defer es.mu.Unlock()
	if in := es.indices[index]; in != nil {
		return len(in.byID)
	}
	return 0
}

// Indices are the names and numbers of documents of all indices.
func (es *Elasticsearch) Indices() map[string]int {
	es.mu.Lock()
	defer es.mu.Unlock()
	n := make(map[string]int)
	for name, in := range es.indices {
		n[name] = len(in.byID)
	}
	return n
}

// Requests are the _bulk requests seen so far, faults included.
func (es *Elasticsearch) Requests() []Request {
	es.mu.Lock()
	defer es.mu.Unlock()
	return append([]Request(nil), es.requests...)
}

// Broken says what was wrong with the framing of requests: in a test it must be
// empty.
func (es *Elasticsearch) Broken() []string {
	es.mu.Lock()
	defer es.mu.Unlock()
	return append([]string(nil), es.broken...)
}

// ServeHTTP answers.
func (es *Elasticsearch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/":
		es.head(w, Fault{})
		_, _ = w.Write(es.about())
	case r.URL.Path == "/_bulk" || strings.HasSuffix(r.URL.Path, "/_bulk"):
		es.bulk(w, r)
	case es.Search != nil && (r.Method == http.MethodDelete || es.Search.serves(r.URL.Path)):
		es.search(w, r)
	default:
		es.head(w, Fault{})
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":{"type":"resource_not_found_exception","reason":"not here"},"status":404}`)
	}
}

// version is the version number.
func (es *Elasticsearch) version() string {
	switch {
	case es.Version != "":
		return es.Version
	case es.OpenSearch:
		return "3.6.0"
	}
	return "8.19.0"
}

// about is the answer to GET /.
func (es *Elasticsearch) about() []byte {
	version, tagline := map[string]any{"number": es.version(), "build_flavor": "default"}, "You Know, for Search"
	if es.OpenSearch {
		version = map[string]any{"number": es.version(), "distribution": "opensearch", "build_type": "zip"}
		tagline = "The OpenSearch Project: https://opensearch.org/"
	}
	answer, _ := json.Marshal(map[string]any{
		"name": "sinktest", "cluster_name": "sinktest", "cluster_uuid": "c2lua3Rlc3QtY2x1c3Rlcg",
		"version": version, "tagline": tagline,
	})
	return answer
}

// head sets the headers of an answer.
func (es *Elasticsearch) head(w http.ResponseWriter, f Fault) {
	switch {
	case f.Foreign:
	case es.OpenSearch:
		w.Header().Set("X-OpenSearch-Version", "OpenSearch/"+es.version()+" (opensearch)")
	default:
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
	}
	w.Header().Set("Content-Type", "application/json")
	for k, v := range f.Header {
		w.Header()[http.CanonicalHeaderKey(k)] = v
	}
}

func (es *Elasticsearch) bulk(w http.ResponseWriter, r *http.Request) {
	f := es.fault(r)
	seen := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone()}
	note := func() {
		es.mu.Lock()
		defer es.mu.Unlock()
		es.requests = append(es.requests, seen)
	}
	if f.Unread {
		note()
		if f.ResetBefore {
			reset(w)
			return
		}
		es.refuse(w, f, f.Status, "", "")
		return
	}
	body, err := read(r)
	// Only a request that was read to its end lets the server notice that the
	// client is gone.
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-r.Context().Done():
			return
		}
	}
	seen.Bytes = int64(len(body))
	if err != nil {
		note()
		es.mu.Lock()
		es.broken = append(es.broken, err.Error())
		es.mu.Unlock()
		es.refuse(w, Fault{}, http.StatusBadRequest, "parse_exception", err.Error())
		return
	}
	docs, err := parse(r, body)
	if unknown := "require_data_stream"; es.OpenSearch && err == nil && r.URL.Query().Has(unknown) {
		err = fmt.Errorf("request [%s] contains unrecognized parameter: [%s]", r.URL.Path, unknown)
	}
	seen.Documents = len(docs)
	note()
	switch {
	case f.ResetBefore:
		reset(w)
		return
	case f.Status != 0:
		es.refuse(w, f, f.Status, "", "")
		return
	case err != nil:
		es.mu.Lock()
		es.broken = append(es.broken, err.Error())
		es.mu.Unlock()
		es.refuse(w, f, http.StatusBadRequest, "illegal_argument_exception", err.Error())
		return
	}
	answer := es.store(docs)
	if es.Edit != nil {
		answer = es.Edit(answer)
	}
	if f.Answer != nil {
		answer = []byte(*f.Answer)
	}
	if f.ResetAfter {
		reset(w)
		return
	}
	es.head(w, f)
	if f.Half {
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		answer = answer[:len(answer)/2]
	}
	_, err = w.Write(answer)
	for space := bytes.Repeat([]byte(" "), 4096); f.Endless && err == nil; {
		_, err = w.Write(space)
	}
	if f.Half {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// fault is what is to happen to r.
func (es *Elasticsearch) fault(r *http.Request) Fault {
	if es.Gate != nil {
		if f := es.Gate(r); f != nil {
			return *f
		}
	}
	es.mu.Lock()
	defer es.mu.Unlock()
	if len(es.script) == 0 {
		return Fault{}
	}
	f := es.script[0]
	es.script = es.script[1:]
	return f
}

// refuse answers an error for the whole request.
func (es *Elasticsearch) refuse(w http.ResponseWriter, f Fault, status int, errorType, reason string) {
	es.head(w, f)
	body := f.Body
	if body == "" {
		if errorType == "" {
			errorType, reason = "scripted_exception", "as the script says"
		}
		b, _ := json.Marshal(map[string]any{
			"error":  map[string]any{"type": errorType, "reason": reason},
			"status": status,
		})
		body = string(b)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// reset breaks the connection off with a RST.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// read is the body, decompressed.
func read(r *http.Request) ([]byte, error) {
	var in io.Reader = r.Body
	switch enc := r.Header.Get("Content-Encoding"); enc {
	case "":
	case "gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		in = z
	default:
		return nil, fmt.Errorf("content encoding %q", enc)
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	return body, nil
}

// parse reads the lines of a body.
func parse(r *http.Request, body []byte) ([]Document, error) {
	if got := r.Header.Get("Content-Type"); got != "application/x-ndjson" {
		return nil, fmt.Errorf("content type %q", got)
	}
	index, _ := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/"), "_bulk")
	index = strings.TrimSuffix(index, "/")
	if len(body) == 0 {
		return nil, errors.New("request body is required")
	}
	if body[len(body)-1] != '\n' {
		return nil, errors.New("the bulk request must be terminated by a newline [\\n]")
	}
	if bytes.IndexByte(body, '\r') >= 0 {
		return nil, errors.New("a carriage return in the body")
	}
	var docs []Document
	var doc *Document
	for n := 1; len(body) > 0; n++ {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte("\n"))
		if doc != nil {
			// Depth beyond what encoding/json takes is for a real server to judge.
			if len(line) == 0 || line[0] != '{' || line[len(line)-1] != '}' {
				return nil, fmt.Errorf("line %d: not an object", n)
			}
			doc.Source = append([]byte(nil), line...)
			docs = append(docs, *doc)
			doc = nil
			continue
		}
		var action map[string]struct {
			Index string `json:"_index"`
			ID    string `json:"_id"`
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&action); err != nil || len(action) != 1 {
			return nil, fmt.Errorf("malformed action/metadata line [%d]", n)
		}
		for op, meta := range action {
			if op != "create" && op != "index" {
				return nil, fmt.Errorf("line %d: action %q", n, op)
			}
			doc = &Document{Index: meta.Index, ID: meta.ID, Op: op, Pipeline: r.URL.Query().Get("pipeline")}
		}
		if doc.Index == "" {
			doc.Index = index
		}
		if doc.Index == "" {
			return nil, fmt.Errorf("line %d: index is missing", n)
		}
	}
	if doc != nil {
		return nil, errors.New("an action without a document")
	}
	return docs, nil
}

// store keeps the documents and prepares the answer.
func (es *Elasticsearch) store(docs []Document) []byte {
	es.mu.Lock()
	defer es.mu.Unlock()
	out := []byte(`{"items":[`)
	for i, doc := range docs {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"`...)
		out = append(out, doc.Op...)
		out = append(out, `":`...)
		out = es.storeOne(out, doc)
		out = append(out, '}')
	}
	return append(out, `]}`...)
}

func (es *Elasticsearch) storeOne(out []byte, doc Document) []byte {
	var e ItemError
	if es.Verdict != nil {
		e = es.Verdict(doc)
	}
	if e.Status == 0 && !json.Valid(doc.Source) {
		e = ItemError{Status: http.StatusBadRequest, Type: es.ParsingException(), Reason: "failed to parse"}
	}
	if e.Status == 0 {
		e = es.keep(doc)
	}
	out = append(out, `{"status":`...)
	out = strconv.AppendInt(out, int64(e.Status), 10)
	if e.FailureStore != "" {
		out = append(out, `,"failure_store":`...)
		out = appendString(out, e.FailureStore)
	}
	if e.Type != "" {
		out = append(out, `,"error":{"type":`...)
		out = appendString(out, e.Type)
		out = append(out, `,"reason":`...)
		out = appendString(out, e.Reason)
		out = append(out, '}')
	}
	return append(out, '}')
}

// ParsingException is the type of the error about a document that cannot be read.
func (es *Elasticsearch) ParsingException() string {
	if es.OpenSearch {
		return "mapper_parsing_exception"
	}
	return "document_parsing_exception"
}

// keep stores doc, or says what is there already.
func (es *Elasticsearch) keep(doc Document) ItemError {
	if es.indices == nil {
		es.indices = make(map[string]*storedIndex)
	}
	in := es.indices[doc.Index]
	if in == nil {
		in = &storedIndex{byID: make(map[string][]byte)}
		es.indices[doc.Index] = in
	}
	if doc.ID == "" {
		in.nextID++
		doc.ID = "generated-" + strconv.Itoa(in.nextID)
	}
	source := doc.Source
	if es.Forget {
		source = nil
	}
	_, there := in.byID[doc.ID]
	switch {
	case there && doc.Op == "create":
		return ItemError{
			Status: http.StatusConflict, Type: "version_conflict_engine_exception",
			Reason: "[" + doc.ID + "]: version conflict, document already exists (current version [1])",
		}
	case there:
		in.byID[doc.ID] = source
		return ItemError{Status: http.StatusOK}
	}
	in.byID[doc.ID] = source
	if !es.Forget {
		in.order = append(in.order, doc.ID)
	}
	return ItemError{Status: http.StatusCreated}
}

func appendString(out []byte, s string) []byte {
	b, _ := json.Marshal(s)
	return append(out, b...)
}
