package elastic

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/buffer"
	"weir/sinks"
	"weir/sinks/httpclient"
)

// Digest is what a document holds, whatever it was written like: two documents
// with the same JSON values have the same. The order of members and white space
// mean nothing, the order of elements does; numbers are compared exactly, as
// decimals, so that 1.0 is 1 and 2^53+1 is not 2^53.
type Digest [sha256.Size]byte

// A Document finds out what the sink writes of records. Not safe for concurrent use.
type Document struct {
	sink *Sink
	enc  encoder
	out  [1]sinks.Outcome
	body bytes.Buffer
}

// NewDocument is a Document of the sink.
func (s *Sink) NewDocument() *Document { return &Document{sink: s} }

// Of is the digest of what the sink writes of r, which has to have a time.
//
// Errors: the sink writes nothing of it.
func (d *Document) Of(r *buffer.Record) (Digest, error) {
	d.out[0] = sinks.Outcome{}
	defer d.enc.release()
	if !d.enc.start(&d.sink.layout, []*buffer.Record{r}, d.out[:], time.Time{}) {
		return Digest{}, errors.New(d.out[0].Reason)
	}
	d.body.Reset()
	if _, err := d.body.ReadFrom(&d.enc); err != nil {
		return Digest{}, err
	}
	_, document, _ := bytes.Cut(d.body.Bytes(), lineEnd)
	return digest(document)
}

// DocumentID is the id that the sink gives the document of a record of o.
func DocumentID(o *buffer.Origin, offset int64) string {
	return fmt.Sprint(idPrefix(o), offset)
}

// Stored is what the sink's index, or what it writes to with many names, held at
// one moment. Not safe for concurrent use.
//
// It takes the index privilege read; with maintenance as well what was written
// just before is sure to be in it.
type Stored struct {
	// Unrefreshed says why what was written last may not be in it; empty: it is.
	Unrefreshed string

	// Absent: there is no index, and so no document.
	Absent bool

	sink  *Sink
	pit   string
	topic string // the field with the topic's name; empty: documents have no coordinates to search by
	size  int    // documents that are asked for at a time
	limit int    // of an answer, in bytes
	waits []time.Duration
}

// Found is a document in the index.
type Found struct {
	Index, ID string
	Offset    int64 // its kafka.offset
	Digest    Digest
	// Unread says why there is no Digest.
	Unread error
}

// How a Stored reads: up to so many documents at a time, and so many bytes of an
// answer. Of an answer that is larger less is asked for.
const (
	maxPage       = 2000
	maxPageAnswer = 16 << 20
	// keepView is how long the server keeps the point in time between two requests.
	keepView = "5m"
)

// Store looks at what is stored where the sink writes to.
//
// Errors: a *sinks.RequestError: a right is missing, no usable answer.
func (s *Sink) Store(ctx context.Context) (*Stored, error) {
	target := s.cfg.Index + s.cfg.DataStream
	pattern := IndexPattern(target)
	path := "/" + url.PathEscape(pattern)
	v := &Stored{sink: s, size: maxPage / 4, limit: maxPageAnswer, waits: viewWaits}
	if _, err := v.ask(ctx, http.MethodPost, path+"/_refresh", nil, "the index privilege maintenance"); err != nil {
		re, ok := errors.AsType[*sinks.RequestError](err)
		if errors.Is(err, errAbsent) {
			v.Absent = true
			return v, nil
		}
		if !ok || re.Status != http.StatusForbidden {
			return nil, err
		}
		v.Unrefreshed = "the index could not be refreshed, so what was written in its last refresh interval may count as missing: " + re.Err.Error()
	}
	var caps struct {
		Fields map[string]map[string]struct {
			Searchable bool `json:"searchable"`
		} `json:"fields"`
	}
	err := v.get(ctx, http.MethodGet, path+"/_field_caps?fields=kafka.topic,kafka.topic.keyword,kafka.partition,kafka.offset", nil, &caps)
	if errors.Is(err, errAbsent) {
		v.Absent = true
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	is := func(field string, kinds ...string) bool {
		types := caps.Fields[field]
		for kind := range types {
			if !slices.Contains(kinds, kind) {
				return false
			}
		}
		return len(types) > 0
	}
	if is("kafka.offset", "long") && is("kafka.partition", "integer", "long") {
		for _, field := range []string{"kafka.topic", "kafka.topic.keyword"} {
			if is(field, "keyword") {
				v.topic = field
				break
			}
		}
	}
	var opened struct {
		ID  string `json:"id"`     // Elasticsearch
		PIT string `json:"pit_id"` // OpenSearch
	}
	if err := v.get(ctx, http.MethodPost, path+s.flavor.openView+"?keep_alive="+keepView, nil, &opened); err != nil {
		return nil, err
	}
	if v.pit = opened.ID + opened.PIT; v.pit == "" {
		return nil, &sinks.RequestError{Err: errors.New("the answer names no point in time")}
	}
	return v, nil
}

// Close gives the point in time back.
func (v *Stored) Close() {
	if v.Absent {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	body, err := json.Marshal(v.sink.flavor.closeView(v.pit))
	if err == nil { // else it ends by itself
		_, _, _ = v.sink.do(ctx, http.MethodDelete, v.sink.flavor.viewPath, body)
	}
}

// Searchable reports whether documents can be found by their coordinates: they
// have them, in fields that weir's index template makes.
func (v *Stored) Searchable() bool { return v.topic != "" || v.Absent }

// Count is how many documents there are.
func (v *Stored) Count(ctx context.Context) (int64, error) {
	p, err := v.search(ctx, object{"size": 0, "track_total_hits": true, "query": object{"match_all": object{}}})
	return p.Hits.Total.Value, err
}

// anOffset is how many documents with one offset there may be, on average of a
// range. A topic that is made again, or one of another cluster, has its offsets, too.
const anOffset = 16

// Partition calls f with the documents of a partition in the order of their
// offsets: all of those from start on and below end, and of those before and behind
// the first page. Of more with one offset than fit into a page not all are shown.
//
// It is read in pages, each from the last offset of the one before: ids are no good
// to sort by, and an offset all documents have that are found here.
//
// Errors: f's; a *sinks.RequestError; an answer that cannot be; there are more
// documents than a range has room for.
func (v *Stored) Partition(ctx context.Context, topic string, partition int32, start, end int64, f func(Found) error) error {
	beside := func(from, end int64) error {
		if from >= end {
			return nil
		}
		hits, _, err := v.page(ctx, topic, partition, from, end)
		return errors.Join(err, show(hits, f))
	}
	if err := beside(0, start); err != nil {
		return err
	}
	seen := int64(0)
	for from := start; from < end; {
		hits, full, err := v.page(ctx, topic, partition, from, end)
		if err != nil {
			return err
		}
		// What comes twice, in this page and in the next, counts twice.
		if seen += int64(len(hits)); (seen-maxPage)/(2*anOffset) > end-start {
			return &sinks.RequestError{Err: fmt.Errorf("answers with more documents of topic %q partition %d than its offsets from %d to %d have room for", topic, partition, start, end-1)}
		}
		from = end
		if full {
			// The last offset may go on in the next page.
			if from = hits[len(hits)-1].Offset; hits[0].Offset == from {
				from++
			}
			if i := slices.IndexFunc(hits, func(h Found) bool { return h.Offset >= from }); i >= 0 {
				hits = hits[:i]
			}
		}
		if err := show(hits, f); err != nil {
			return err
		}
	}
	return beside(end, math.MaxInt64)
}

func show(hits []Found, f func(Found) error) error {
	for _, h := range hits {
		if err := f(h); err != nil {
			return err
		}
	}
	return nil
}

// page are the first documents of a partition from an offset on and below another
// one; full: there may be more.
func (v *Stored) page(ctx context.Context, topic string, partition int32, from, end int64) (hits []Found, full bool, err error) {
	for {
		size := v.size
		p, err := v.search(ctx, object{"size": size, "sort": []any{object{"kafka.offset": "asc"}}, "track_total_hits": false,
			"query": object{"bool": object{"filter": []any{
				object{"term": object{v.topic: topic}}, object{"term": object{"kafka.partition": partition}},
				object{"range": object{"kafka.offset": object{"gte": from, "lt": end}}}}}}})
		if errors.Is(err, httpclient.ErrTooLong) && size > 1 {
			v.size = max(size/4, 1)
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if v.size < maxPage && p.bytes < v.limit/4 {
			v.size *= 2
		}
		hits, err = p.found(size, &span{from, end})
		return hits, len(hits) == size, err
	}
}

// span are offsets from one on and below another one.
type span struct{ from, end int64 }

// maxIDs is how many documents ByID may be asked for.
const maxIDs = 500

// ByID finds documents by their ids, 500 at most, in any order.
//
// Errors: a *sinks.RequestError; an answer that cannot be.
func (v *Stored) ByID(ctx context.Context, ids []string) ([]Found, error) {
	if len(ids) > maxIDs {
		return nil, fmt.Errorf("%d ids at a time are too many", len(ids))
	}
	size := 2 * len(ids) // more than one index may have it
	page, err := v.search(ctx, object{"size": size, "query": object{"ids": object{"values": ids}}, "track_total_hits": false})
	if errors.Is(err, httpclient.ErrTooLong) && len(ids) > 1 {
		half := len(ids) / 2
		a, err := v.ByID(ctx, ids[:half])
		if err != nil {
			return nil, err
		}
		b, err := v.ByID(ctx, ids[half:])
		return append(a, b...), err
	}
	if err != nil {
		return nil, err
	}
	found, err := page.found(size, nil)
	for _, h := range found {
		if !slices.Contains(ids, h.ID) {
			return nil, &sinks.RequestError{Err: errors.New("an answer with a document that was not asked for")}
		}
	}
	return found, err
}

// Others are the first documents, up to 500, that have the coordinates of none of
// the partitions, by topic. They have no digest.
func (v *Stored) Others(ctx context.Context, partitions map[string][]int32) ([]Found, error) {
	not := []any{}
	if v.Searchable() {
		for topic, numbers := range partitions {
			not = append(not, object{"bool": object{"filter": []any{
				object{"term": object{v.topic: topic}}, object{"terms": object{"kafka.partition": numbers}}}}})
		}
	}
	page, err := v.search(ctx, object{"size": maxIDs, "query": object{"bool": object{"must_not": not}}, "track_total_hits": false, "_source": false})
	if err != nil {
		return nil, err
	}
	return page.found(maxIDs, nil)
}

// page is the answer to a search.
type page struct {
	TimedOut bool `json:"timed_out"`
	Shards   struct {
		Total, Failed, Successful int
	} `json:"_shards"`
	Hits struct {
		Total struct {
			Value    int64  `json:"value"`
			Relation string `json:"relation"`
		} `json:"total"`
		Hits hits `json:"hits"`
	} `json:"hits"`
	PIT string `json:"pit_id"`

	bytes int
}

// hit is a document in an answer.
type hit struct {
	Index  string             `json:"_index"`
	ID     string             `json:"_id"`
	Source json.RawMessage    `json:"_source"`
	Sort   [1]json.RawMessage `json:"sort"`
}

// hits are no more than were asked for at any time: each takes much more memory
// than text.
type hits []hit

// UnmarshalJSON reads an array one by one, or null.
func (h *hits) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	switch open, err := d.Token(); {
	case err != nil:
		return err
	case open == nil:
		return nil
	case open != json.Delim('['):
		return errors.New("its hits are no list")
	}
	for d.More() {
		if len(*h) == maxPage {
			return fmt.Errorf("more than %d documents", maxPage)
		}
		var one hit
		if err := d.Decode(&one); err != nil {
			return err
		}
		*h = append(*h, one)
	}
	_, err := d.Token()
	return err
}

// found are the hits of p, of which size were asked for; by offset, if of is not
// nil, and in it.
func (p *page) found(size int, of *span) ([]Found, error) {
	if len(p.Hits.Hits) > size {
		return nil, &sinks.RequestError{Err: fmt.Errorf("an answer with %d documents, and %d were asked for", len(p.Hits.Hits), size)}
	}
	var all []Found
	for i, h := range p.Hits.Hits {
		one := Found{Index: h.Index, ID: h.ID}
		if of != nil {
			if json.Unmarshal(h.Sort[0], &one.Offset) != nil || i > 0 && one.Offset < all[i-1].Offset {
				return nil, &sinks.RequestError{Err: errors.New("an answer whose documents are not sorted by their offsets as was asked for")}
			}
			if one.Offset < of.from || one.Offset >= of.end {
				return nil, &sinks.RequestError{Err: fmt.Errorf("an answer with offset %d, and those from %d to %d were asked for", one.Offset, of.from, of.end-1)}
			}
		}
		if h.Source == nil {
			one.Unread = errors.New("the index does not keep the _source of its documents")
		} else {
			one.Digest, one.Unread = digest(h.Source)
		}
		all = append(all, one)
	}
	return all, nil
}

// search performs one search in the point in time.
func (v *Stored) search(ctx context.Context, body object) (page, error) {
	if v.Absent {
		return page{}, nil
	}
	body["pit"] = object{"id": v.pit, "keep_alive": keepView}
	text, err := json.Marshal(body)
	if err != nil {
		return page{}, err
	}
	var p page
	// Half an answer counts as none: what is not in it would be called missing.
	answer, err := v.ask(ctx, http.MethodPost, "/_search?allow_partial_search_results=false", text, "the index privilege read")
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(answer, &p); err != nil {
		return p, &sinks.RequestError{Err: fmt.Errorf("an answer that cannot be read: %w", v.sink.quoted(err))}
	}
	switch {
	case p.TimedOut, p.Shards.Failed > 0, p.Shards.Total == 0, p.Shards.Successful < p.Shards.Total:
		return p, &sinks.RequestError{Err: fmt.Errorf("not all shards have answered: %d of %d", p.Shards.Successful, p.Shards.Total)}
	case body["track_total_hits"] == true && (p.Hits.Total.Relation != "eq" || p.Hits.Total.Value < 0):
		return p, &sinks.RequestError{Err: errors.New("the answer does not say how many documents there are")}
	}
	if p.PIT != "" {
		v.pit = p.PIT
	}
	p.bytes = len(answer)
	return p, nil
}

// get reads JSON into to.
func (v *Stored) get(ctx context.Context, method, path string, body []byte, to any) error {
	answer, err := v.ask(ctx, method, path, body, "the index privilege read")
	if err == nil {
		if err = json.Unmarshal(answer, to); err != nil {
			err = &sinks.RequestError{Err: fmt.Errorf("an answer that cannot be read: %w", v.sink.quoted(err))}
		}
	}
	return err
}

// Requests that fail for a while are sent again, so often and with such waits.
var viewWaits = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second}

// ask performs a request, again when that may help.
func (v *Stored) ask(ctx context.Context, method, path string, body []byte, privilege string) ([]byte, error) {
	for i := 0; ; i++ {
		r, err := v.sink.ask(ctx, v.sink.perform, method, path, body, v.limit)
		if err == nil && r.status == http.StatusNotFound && v.pit == "" && v.sink.flavor.wrote(r.header) {
			return nil, errAbsent
		}
		if err == nil && r.status/100 != 2 {
			err = v.sink.refusal(r.status, r.body, privilege)
		}
		if err == nil || i == len(v.waits) || !passing(err) {
			return r.body, err
		}
		select {
		case <-time.After(v.waits[i]):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// errAbsent says that there is no index of that name, and that the server itself
// said so.
var errAbsent = errors.New("there is no such index")

// passing reports whether a request may go well when it is sent again.
func passing(err error) bool {
	re, ok := errors.AsType[*sinks.RequestError](err)
	return ok && !re.Misconfigured && !errors.Is(err, httpclient.ErrTooLong) && (re.Status == 0 || re.Status == http.StatusTooManyRequests || re.Status >= 500)
}

// digest is the digest of a JSON value. An object's members are taken in the order
// of their names, those with the same name in the order in which they are there.
func digest(text []byte) (Digest, error) {
	c := canon{in: json.NewDecoder(bytes.NewReader(text))}
	c.in.UseNumber()
	err := c.value(0)
	if err == nil {
		if _, more := c.in.Token(); more != io.EOF {
			err = errors.New("there is something behind it")
		}
	}
	if err != nil {
		return Digest{}, fmt.Errorf("a document that is no JSON: %w", err)
	}
	return sha256.Sum256(c.form), nil
}

// canon makes the one form of a JSON value. In it an object is the hash of its
// members, so that what is nested deeply is not copied once for each level.
type canon struct {
	in   *json.Decoder
	form []byte
}

// maxNesting is that of encoding/json: each level takes some stack.
const maxNesting = 10_000

// member is where in the form a member of an object is.
type member struct {
	name     string
	from, to int
}

// value appends the form of the next value.
func (c *canon) value(depth int) error {
	token, err := c.in.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		switch {
		case depth == maxNesting:
			return fmt.Errorf("more than %d levels", maxNesting)
		case t == '[':
			return c.array(depth)
		}
		return c.object(depth)
	case json.Number:
		c.form = append(c.form, decimal(string(t))...)
	case string:
		c.form = appendString(c.form, t)
	case bool:
		c.form = strconv.AppendBool(c.form, t)
	default:
		c.form = append(c.form, "null"...)
	}
	return nil
}

func (c *canon) array(depth int) error {
	c.form = append(c.form, '[')
	for c.in.More() {
		if err := c.value(depth + 1); err != nil {
			return err
		}
		c.form = append(c.form, ',')
	}
	c.form = append(c.form, ']')
	_, err := c.in.Token()
	return err
}

func (c *canon) object(depth int) error {
	begin := len(c.form)
	var members []member
	for c.in.More() {
		name, err := c.in.Token()
		if err != nil {
			return err
		}
		m := member{name: name.(string), from: len(c.form)}
		c.form = append(appendString(c.form, m.name), ':')
		if err := c.value(depth + 1); err != nil {
			return err
		}
		c.form = append(c.form, ',')
		m.to = len(c.form)
		members = append(members, m)
	}
	slices.SortStableFunc(members, func(x, y member) int { return strings.Compare(x.name, y.name) })
	h := sha256.New()
	for _, m := range members {
		h.Write(c.form[m.from:m.to])
	}
	c.form = append(c.form[:begin], '{')
	c.form = h.Sum(c.form)
	_, err := c.in.Token()
	return err
}

func appendString(b []byte, s string) []byte {
	return fmt.Appendf(b, "%d\"%s", len(s), s)
}

// decimal is the one form of a JSON number: its digits without zeros at either
// end, and the power of ten that they are multiplied by.
func decimal(n string) string {
	sign := ""
	if rest, minus := strings.CutPrefix(n, "-"); minus {
		sign, n = "-", rest
	}
	exponent := 0
	if i := strings.IndexAny(n, "eE"); i >= 0 {
		if _, err := fmt.Sscanf(n[i+1:], "%d", &exponent); err != nil || exponent > 1<<40 || exponent < -1<<40 {
			return sign + n // beyond what anybody computes with: as it is written
		}
		n = n[:i]
	}
	if whole, fraction, dot := strings.Cut(n, "."); dot {
		n = whole + fraction
		exponent -= len(fraction)
	}
	n = strings.TrimLeft(n, "0")
	digits := strings.TrimRight(n, "0")
	if digits == "" {
		return "0"
	}
	return fmt.Sprintf("%s%se%d", sign, digits, exponent+len(n)-len(digits))
}
