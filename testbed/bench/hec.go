package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// serveHEC takes the events of a HEC request: envelopes one behind the other.
// With Acks it gives an id for them, which serveAcks says are safe.
func (b *bulk) serveHEC(w http.ResponseWriter, r *http.Request) {
	b.begin()
	q := requests.Get().(*request)
	defer requests.Put(q)
	if err := q.read(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q.documents = parseEvents(q.body.Bytes(), q.documents[:0])
	id := b.taken(q.documents, q.body.Len(), 0)
	if b.Acks {
		_, _ = fmt.Fprintf(w, `{"text":"Success","code":0,"ackId":%d}`, id)
		return
	}
	_, _ = io.WriteString(w, `{"text":"Success","code":0}`)
}

// serveAcks says that everything asked for is safe.
func (b *bulk) serveAcks(w http.ResponseWriter, r *http.Request) {
	if !b.Acks {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"text":"ACK is disabled","code":14}`)
		return
	}
	var asked struct {
		Acks []int64 `json:"acks"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 16<<20)).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	said := make(map[string]bool, len(asked.Acks))
	for _, id := range asked.Acks {
		said[strconv.FormatInt(id, 10)] = true
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"acks": said})
}

// begin notes when the first request came.
func (b *bulk) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.account.First == 0 {
		b.account.First = time.Now().UnixNano()
	}
}

// taken counts a served request with size bytes of body and returns its number.
func (b *bulk) taken(documents []document, size int, busy time.Duration) int64 {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.account
	a.Requests++
	a.Bytes += int64(size)
	a.Busy += busy
	a.take(documents, now)
	a.Last = now.UnixNano()
	return a.Requests - 1
}

// parseEvents appends the events in body: whatever is around them, each has its
// number.
func parseEvents(body []byte, documents []document) []document {
	for {
		at := bytes.Index(body, []byte(numberKey))
		if at < 0 {
			return documents
		}
		n, rest, ok := number(body[at:], numberKey)
		if ok {
			documents = append(documents, document{number: n})
		}
		body = rest
		if !ok {
			body = body[at+len(numberKey):]
		}
	}
}
