package elastic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"weir/sinks"
)

// An item is what the answer says about one record.
type item struct {
	Status       int        `json:"status"`
	FailureStore string     `json:"failure_store"`
	Error        *itemError `json:"error"`
}

type itemError struct {
	Type   string `json:"type"`
	Reason string `json:"reason"`
}

// answerQuery makes Elasticsearch keep exactly one entry an item and in it what
// item reads. Without items.*.status the items that went well would be left out,
// and the others could not be told apart.
const answerQuery = "filter_path=items.*.status,items.*.failure_store,items.*.error.type,items.*.error.reason"

// answerLimit is how long the answer for n records may be, long texts in it cut
// short.
func answerLimit(n int) int { return 64<<10 + n*4<<10 }

// maxClipped leaves more of a string than is ever shown, so that one of our
// secrets is not cut in two just where it would show.
const maxClipped = 2 * maxReason

// A clipper reads JSON as its source does, with every string in it cut to its
// first maxClipped bytes: Elasticsearch's reason quotes a value that it could not
// parse as a whole, and that is as long as its producer likes.
type clipper struct {
	src    io.Reader
	inside bool // a string
	length int  // of the string, so far
	unit   int  // bytes that the escape at hand still has
	slash  bool // the last byte was a backslash that begins an escape
	drop   bool // the escape at hand
}

// Read fills p with what is left of the source's next bytes.
func (c *clipper) Read(p []byte) (int, error) {
	for {
		n, err := c.src.Read(p)
		kept := p[:0]
		for _, b := range p[:n] {
			if c.keep(b) {
				kept = append(kept, b)
			}
		}
		if len(kept) > 0 || err != nil || n == 0 {
			return len(kept), err
		}
	}
}

// keep reports whether b stays. An escape stays or goes as a whole.
func (c *clipper) keep(b byte) bool {
	if !c.inside {
		c.inside, c.length = b == '"', 0
		return true
	}
	c.length++
	switch {
	case c.slash:
		c.slash = false
		if b == 'u' {
			c.unit = 4
		}
		return !c.drop
	case c.unit > 0:
		c.unit--
		return !c.drop
	case b == '"':
		c.inside = false
		return true
	}
	c.drop = c.length > maxClipped
	c.slash = b == '\\'
	return !c.drop
}

// parseAnswer reads the items of an answer to n actions op, in their order.
// It appends to items.
//
// Errors: everything that is not exactly n items, each with a status, under the
// name of the action. Such an answer settles nothing.
func parseAnswer(b []byte, op string, n int, items []item) ([]item, error) {
	if got, ok := parseUsualAnswer(b, op, n, items); ok {
		return got, nil
	}
	return parseAnyAnswer(b, op, n, items)
}

// parseUsualAnswer reads the answer as Elasticsearch writes it:
// {"items":[{"create":{"status":201}},...]} without white space. An item in the
// usual form costs little; any other goes to encoding/json by itself. Where
// anything else is unusual it gives up, and the answer is parseAnyAnswer's.
func parseUsualAnswer(b []byte, op string, n int, items []item) ([]item, bool) {
	if n == 0 {
		return nil, false
	}
	open := `{"` + op + `":`
	c := cursor(b)
	if !c.skip(`{"items":[`) {
		return nil, false
	}
	for i := range n {
		if i > 0 && !c.skip(",") || !c.skip(open) {
			return nil, false
		}
		it, ok := c.result()
		if !ok || !c.skip("}") {
			return nil, false
		}
		items = append(items, it)
	}
	if !c.skip("]}") || len(bytes.Trim(c, " \t\r\n")) > 0 {
		return nil, false
	}
	return items, true
}

// A cursor is what is left to read of JSON without white space. What it cannot
// skip or read stays.
type cursor []byte

// skip skips s if it is next.
func (c *cursor) skip(s string) bool {
	if len(*c) < len(s) || string((*c)[:len(s)]) != s {
		return false
	}
	*c = (*c)[len(s):]
	return true
}

// result reads what stands behind an action's name.
func (c *cursor) result() (item, bool) {
	start := *c
	if it, ok := c.usualResult(); ok {
		return it, true
	}
	*c = start[objectSize(start):]
	var r result
	if json.Unmarshal(start[:len(start)-len(*c)], &r) != nil || r.Status == nil {
		return item{}, false
	}
	return r.take(), true
}

// usualResult reads a status, and then a failure_store or an error or both in
// the order in which Elasticsearch writes them.
func (c *cursor) usualResult() (it item, ok bool) {
	if !c.skip(`{"status":`) || len(*c) < 4 {
		return item{}, false
	}
	x, y, z := (*c)[0]-'0', (*c)[1]-'0', (*c)[2]-'0'
	if x < 1 || x > 9 || y > 9 || z > 9 {
		return item{}, false
	}
	it.Status = int(x)*100 + int(y)*10 + int(z)
	*c = (*c)[3:]
	if c.skip("}") {
		return it, true
	}
	if c.skip(`,"failure_store":"`) && !c.text(&it.FailureStore) {
		return item{}, false
	}
	if c.skip(`,"error":{"type":"`) {
		it.Error = new(itemError)
		if !c.text(&it.Error.Type) || !c.skip(`,"reason":"`) || !c.text(&it.Error.Reason) || !c.skip("}") {
			return item{}, false
		}
	}
	return it, c.skip("}")
}

// text reads the rest of a string of nothing but printable ASCII and no escape:
// its bytes are its characters.
func (c *cursor) text(s *string) bool {
	end := bytes.IndexByte(*c, '"')
	if end < 0 {
		return false
	}
	for _, b := range (*c)[:end] {
		if b < ' ' || b > '~' || b == '\\' {
			return false
		}
	}
	*s = string((*c)[:end])
	*c = (*c)[end+1:]
	return true
}

// maxNested bounds how deep a result may be nested. encoding/json gives up at ten
// thousand levels: far above, it is the same with and without those around it.
const maxNested = 32

// objectSize is how long the JSON object is that b begins with, 0 for none. The
// object need not be valid; one that is ends just there.
func objectSize(b []byte) int {
	depth, inside := 0, false // a string
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inside:
			inside = c != '"'
			if c == '\\' {
				i++
			}
		case c == '"':
			inside = true
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		}
		if depth < 1 || depth > maxNested {
			return 0
		}
	}
	return 0
}

// A result is an item that may have no status.
type result struct {
	item
	Status *int `json:"status"`
}

func (r *result) take() item {
	r.item.Status = *r.Status
	return r.item
}

// parseAnyAnswer reads any answer.
func parseAnyAnswer(b []byte, op string, n int, items []item) ([]item, error) {
	a := struct {
		Items itemList `json:"items"`
	}{itemList{op: op, most: n, items: items}}
	if err := json.Unmarshal(b, &a); err != nil {
		if errors.Is(err, errItem) {
			return nil, err
		}
		return nil, fmt.Errorf("unreadable answer: %w", describe(err))
	}
	if a.Items.n != n {
		return nil, fmt.Errorf("the answer has %d items for %d records", a.Items.n, n)
	}
	return a.Items.items, nil
}

// itemList reads items one by one and keeps no more than most of them: an item
// of a few bytes would take hundreds in memory, and their number is the server's
// choice.
type itemList struct {
	op      string
	most, n int
	items   []item
}

// errItem is under every error about one item.
var errItem = errors.New("of the answer")

// UnmarshalJSON reads a list that is valid JSON. Of two lists the last counts.
func (l *itemList) UnmarshalJSON(b []byte) error {
	l.n, l.items = 0, l.items[:0]
	d := json.NewDecoder(bytes.NewReader(b))
	if open, _ := d.Token(); open != json.Delim('[') {
		return fmt.Errorf("items %w: not a list", errItem)
	}
	for ; d.More(); l.n++ {
		if l.n >= l.most {
			var skip json.RawMessage
			if err := d.Decode(&skip); err != nil {
				return err
			}
			continue
		}
		it, err := l.item(d)
		if err != nil {
			return err
		}
		l.items = append(l.items, it)
	}
	return nil
}

// item reads one: {"create":{...}} and nothing else.
func (l *itemList) item(d *json.Decoder) (item, error) {
	open, _ := d.Token()
	var op json.Token
	if open == json.Delim('{') {
		op, _ = d.Token()
	}
	if op != l.op {
		return item{}, fmt.Errorf("item %d %w is not a single %q", l.n, errItem, l.op)
	}
	var r result
	if err := d.Decode(&r); err != nil {
		return item{}, err
	}
	if r.Status == nil {
		return item{}, fmt.Errorf("item %d %w has no status", l.n, errItem)
	}
	if shut, _ := d.Token(); shut != json.Delim('}') {
		return item{}, fmt.Errorf("item %d %w is not a single %q", l.n, errItem, l.op)
	}
	return r.take(), nil
}

// describe is err without what it may quote of the answer.
func describe(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("not what _bulk answers at byte %d", kind.Offset)
	}
	return errors.New("not JSON")
}

// verdict says what it means for its record.
func (s *Sink) verdict(it *item) sinks.Outcome {
	o := sinks.Outcome{Status: it.Status}
	if it.Error != nil {
		text := it.Error.text(s.cfg.IncludeReasons)
		if it.is("security_exception") {
			text = it.Error.Type + ": " + it.Error.missingRight()
		}
		o.Reason = s.said(text, maxReason)
	}
	switch status := it.Status; {
	case (status == 200 || status == 201) && it.Error == nil:
		o.Verdict = sinks.Ack
		if it.FailureStore == "used" {
			o.Note = sinks.Quarantined
		}
	case status == 409 && s.cfg.Op == opCreate && s.layout.id != idNone && it.is("version_conflict_engine_exception"):
		o.Verdict, o.Note, o.Reason = sinks.Ack, sinks.Duplicate, ""
	case status == 429:
		o.Note = sinks.Overloaded
	case status == 401, status == 403, status == 404:
		o.Note = sinks.Misconfigured
	case status == 400 && it.ofSettings():
		o.Note = sinks.Misconfigured
	case status == 400 && it.Error != nil:
		o.Verdict = sinks.Reject
	case status == 500 && it.ofPipeline():
		o.Verdict = sinks.Reject
	}
	return o
}

// missingRight is what a security_exception says of the action and of the
// privileges that would do. What stands in between names the index, which can be
// made of an event: "action [indices:admin/auto_create] is unauthorized for API
// key id [...] of user [...] on indices [...], this action is granted by the index
// privileges [auto_configure,create_index,manage,all]". OpenSearch names the
// actions only: "no permissions for [indices:data/write/bulk[s]] and User
// [name=..., backend_roles=[...], requestedTenant=null]".
func (e *itemError) missingRight() string {
	if actions, _, ok := strings.Cut(e.Reason, " and User ["); ok && strings.HasPrefix(actions, "no permissions for [") {
		return actions
	}
	action, rest, _ := strings.Cut(e.Reason, " is unauthorized for ")
	_, granted, ok := strings.Cut(rest, ", this action is granted by ")
	if !ok || !strings.HasPrefix(action, "action [") {
		return "a right is missing"
	}
	return action + " takes one of " + granted
}

func (it *item) is(errorType string) bool { return it.Error != nil && it.Error.Type == errorType }

// ofSettings reports whether a 400 is about the cluster's settings and not about
// the event: every other event would be refused just so. The reasons are those
// of Elasticsearch 8.19 and OpenSearch 3.6; they are compared from their
// beginning, where no content of an event stands.
func (it *item) ofSettings() bool {
	if it.Error == nil {
		return false
	}
	reason := it.Error.Reason
	switch it.Error.Type {
	case "index_closed_exception":
		return true
	case "validation_exception":
		// An index cannot be made: "Validation Failed: 1: this action would add [2]
		// shards, but this cluster currently has [1000]/[1000] maximum normal shards
		// open;".
		// Or the index is append-only, and takes ids of ours with op create only
		// (OpenSearch).
		return strings.HasPrefix(reason, "Validation Failed: 1: this action would add [") ||
			strings.HasPrefix(reason, "Validation Failed: 1: Operation [INDEX] is not allowed with a custom document id ")
	case "illegal_argument_exception":
		return strings.HasPrefix(reason, "pipeline with id [") && strings.HasSuffix(reason, "] does not exist") ||
			strings.HasPrefix(reason, "no write index is defined for alias [") ||
			strings.HasPrefix(reason, "only write ops with an op_type of create are allowed in data streams")
	}
	return false
}

// ofPipeline reports whether a 500 says that a processor of an ingest pipeline
// could not take this event. Elasticsearch answers 400 only for the exceptions
// that it knows for the client's fault; these two are others, and are thrown by
// nothing but the processors fail and dissect. Retried, they would block the
// lane for ever.
func (it *item) ofPipeline() bool { return it.is("fail_processor_exception") || it.is("find_match") }

// blamedTogether reports whether several records were answered that an ingest
// pipeline cannot read them. OpenSearch (3.6) gives a pipeline many documents at a
// time, and says it of them all when it is true of one: no verdict on the others.
// Of a record that is sent alone it is one.
func blamedTogether(items []item) bool {
	n := 0
	for i := range items {
		if items[i].Status == 400 && items[i].is("parse_exception") {
			n++
		}
	}
	return n > 1
}

// maxReason bounds the reason of an Outcome, in bytes.
const maxReason = 1 << 10

// text is the error as it was said.
func (e *itemError) text(quote bool) string {
	s := e.Type
	if s == "" {
		s = "error without a type"
	}
	if quote && e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}
