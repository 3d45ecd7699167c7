package elastic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

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

// A clipper reads JSON as its source does, with every string in it cut to its
// first maxReason bytes: Elasticsearch's reason quotes a value that it could not
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
	c.drop = c.length > maxReason
	c.slash = b == '\\'
	return !c.drop
}

// parseAnswer reads the items of an answer to n actions op, in their order.
// It appends to items.
//
// Errors: everything that is not exactly n items, each with a status, under the
// name of the action. Such an answer settles nothing.
func parseAnswer(b []byte, op string, n int, items []item) ([]item, error) {
	if got, ok := parsePlainAnswer(b, op, n, items); ok {
		return got, nil
	}
	return parseAnyAnswer(b, op, n, items)
}

// parsePlainAnswer reads the answer to a batch that went well, which is nearly
// every one: {"items":[{"create":{"status":201}},...]} without white space. It
// gives up on anything else.
func parsePlainAnswer(b []byte, op string, n int, items []item) ([]item, bool) {
	const (
		open  = `{"items":[`
		after = `":{"status":`
	)
	if n == 0 || !bytes.HasPrefix(b, []byte(open)) {
		return nil, false
	}
	// What stands before each status is the same everywhere.
	before := make([]byte, 0, 32)
	before = append(before, `{"`...)
	before = append(before, op...)
	before = append(before, after...)
	b = b[len(open):]
	for i := range n {
		if i > 0 {
			if len(b) == 0 || b[0] != ',' {
				return nil, false
			}
			b = b[1:]
		}
		// Three digits and two braces.
		if len(b) < len(before)+5 || string(b[:len(before)]) != string(before) {
			return nil, false
		}
		b = b[len(before):]
		x, y, z := b[0]-'0', b[1]-'0', b[2]-'0'
		if x < 1 || x > 9 || y > 9 || z > 9 || b[3] != '}' || b[4] != '}' {
			return nil, false
		}
		items = append(items, item{Status: int(x)*100 + int(y)*10 + int(z)})
		b = b[5:]
	}
	if !bytes.HasPrefix(b, []byte("]}")) || len(trim(b[2:])) > 0 {
		return nil, false
	}
	return items, true
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
	var it struct {
		item
		Status *int `json:"status"`
	}
	if err := d.Decode(&it); err != nil {
		return item{}, err
	}
	if it.Status == nil {
		return item{}, fmt.Errorf("item %d %w has no status", l.n, errItem)
	}
	if shut, _ := d.Token(); shut != json.Delim('}') {
		return item{}, fmt.Errorf("item %d %w is not a single %q", l.n, errItem, l.op)
	}
	it.item.Status = *it.Status
	return it.item, nil
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

// verdict says what it means for the record. op is the action, id whether we
// gave the document an id.
func (it *item) verdict(op string, id, quote bool) sinks.Outcome {
	o := sinks.Outcome{Status: it.Status}
	if it.Error != nil {
		o.Reason = it.Error.text(quote)
		if it.is("security_exception") {
			o.Reason = oneLine(it.Error.Type+": "+it.Error.missingRight(), maxReason)
		}
	}
	switch s := it.Status; {
	case (s == 200 || s == 201) && it.Error == nil:
		o.Verdict = sinks.Ack
		if it.FailureStore == "used" {
			o.Note = sinks.Quarantined
		}
	case s == 409 && op == "create" && id && it.is("version_conflict_engine_exception"):
		o.Verdict, o.Note, o.Reason = sinks.Ack, sinks.Duplicate, ""
	case s == 429:
		o.Note = sinks.Overloaded
	case s == 401, s == 403, s == 404:
		o.Note = sinks.Misconfigured
	case s == 400 && it.ofSettings():
		o.Note = sinks.Misconfigured
	case s == 400 && it.Error != nil:
		o.Verdict = sinks.Reject
	case s == 500 && it.ofPipeline():
		o.Verdict = sinks.Reject
	}
	return o
}

// missingRight is what a security_exception says of the action and of the
// privileges that would do. What stands in between names the index, which can be
// made of an event: "action [indices:admin/auto_create] is unauthorized for API
// key id [...] of user [...] on indices [...], this action is granted by the index
// privileges [auto_configure,create_index,manage,all]".
func (e *itemError) missingRight() string {
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
// of Elasticsearch 8.19; they are compared from their beginning, where no
// content of an event stands.
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
		return strings.HasPrefix(reason, "Validation Failed: 1: this action would add [")
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

// maxReason bounds the reason of an Outcome, in bytes.
const maxReason = 1 << 10

// text is the error as one line.
func (e *itemError) text(quote bool) string {
	s := e.Type
	if s == "" {
		s = "error without a type"
	}
	if quote && e.Reason != "" {
		s += ": " + e.Reason
	}
	return oneLine(s, maxReason)
}

// oneLine is s without control characters, cut after at most n bytes.
func oneLine(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
