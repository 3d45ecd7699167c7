package httpsink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"weir/sinks/httpclient"
)

// verdict is what an answer means for the whole of its request. The zero verdict
// is again.
type verdict uint8

const (
	// again: it could not be taken now.
	again verdict = iota
	// ack: all of it was taken.
	ack
	// split: it was refused for what it holds; in halves, down to the one record
	// which is then rejected.
	split
	// misconfigured: it was refused for how it was sent, and will go on to be.
	misconfigured
)

// rule is the verdict on a range of statuses, both ends included.
type rule struct {
	from, to int
	verdict  verdict
}

// newRules reads the list; alone says that a request holds one record.
//
// Errors: every item that is not a status or a range with a verdict.
func newRules(list []StatusVerdict, alone bool) ([]rule, []error) {
	var rules []rule
	var faults []error
	for _, v := range list {
		first, last, isRange := strings.Cut(v.Status, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from < 200 || to > 599 || to < from {
			faults = append(faults, fmt.Errorf("verdicts: status %q: want a status or a range such as 200-299, from 200 to 599", v.Status))
			continue
		}
		r := rule{from: from, to: to}
		switch v.Verdict {
		case "ack":
			r.verdict = ack
		case "retry":
		case "split":
			r.verdict = split
		case "reject":
			// Of several records it is not known which one is refused.
			if !alone {
				faults = append(faults, fmt.Errorf("verdicts: %s: reject needs requests of one record; split finds out which one it is", v.Status))
			}
			r.verdict = split
		case "misconfigured":
			r.verdict = misconfigured
		default:
			faults = append(faults, fmt.Errorf("verdicts: %s: verdict %q: want ack, retry, split, reject or misconfigured", v.Status, v.Verdict))
		}
		rules = append(rules, r)
	}
	return rules, faults
}

// judge is what status means.
func judge(rules []rule, status int) verdict {
	for _, r := range rules {
		if r.from <= status && status <= r.to {
			return r.verdict
		}
	}
	switch {
	case status == http.StatusMultiStatus:
		return misconfigured // each part has a status of its own, which nobody reads
	case status >= 200 && status < 300:
		return ack
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return split
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return again
	default:
		return misconfigured
	}
}

// believe is what an answer whose status acknowledges says when it is read. The
// error says why it does not acknowledge.
func (s *Sink) believe(a *httpclient.Answer) (verdict, error) {
	if a.Incomplete != nil {
		return again, a.Incomplete
	}
	typ, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	switch {
	case s.cfg.AnswerType != "" && !strings.EqualFold(typ, s.cfg.AnswerType):
		return misconfigured, fmt.Errorf("the answer is of type %q, not %s: it is not the intake's", a.Sent.Words(typ, maxType), s.cfg.AnswerType)
	case s.cfg.AnswerType == "" && isHTML(typ, a.Body):
		return misconfigured, errors.New("the answer is HTML: that of a proxy or a login page, not of an intake")
	}
	// An empty body reports nothing: that of a message without any field is empty,
	// too.
	if s.cfg.AnswerRefused == "" || len(a.Body) == 0 {
		return ack, nil
	}
	refused, err := find(a.Body, steps(s.cfg.AnswerRefused))
	switch {
	case err != nil:
		return misconfigured, fmt.Errorf("the answer cannot be searched for %s: %w", s.cfg.AnswerRefused, err)
	case refused:
		return split, fmt.Errorf("part of the request was refused (%s)", s.cfg.AnswerRefused)
	}
	return ack, nil
}

// maxType bounds what is shown of a media type, in bytes.
const maxType = 100

// isHTML reports whether an answer is a page for people.
func isHTML(mediaType string, body []byte) bool {
	if len(body) == 0 {
		return false
	}
	return mediaType == "text/html" || mediaType == "application/xhtml+xml" ||
		strings.HasPrefix(http.DetectContentType(body), "text/html")
}

var (
	errNotJSON   = errors.New("it is not JSON") // the error of encoding/json would quote it
	errNotObject = errors.New("there is something else than an object on the way")
)

// find reports whether there is anything but emptiness at path in the JSON object
// body. Of two members of one name the last counts. body is read token by token: as
// values it could take forty times its length in memory, at the server's choice.
//
// Errors: body is not a JSON object, or what path goes through is none.
func find(body []byte, path []string) (bool, error) {
	if !json.Valid(body) { // which bounds how deep it is, too
		return false, errNotJSON
	}
	if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
		return false, errNotObject
	}
	found, wrong, err := look(json.NewDecoder(bytes.NewReader(body)), path)
	switch {
	case err != nil:
		return false, errNotJSON
	case wrong:
		return false, errNotObject
	}
	return found, nil
}

// look reads the next value of d, and says whether there is anything but emptiness
// at path in it, or something wrong on the way there: anything but an object or
// null.
//
// Errors: a number that is none of this machine's.
func look(d *json.Decoder, path []string) (found, wrong bool, err error) {
	first, err := d.Token()
	if err != nil || first == nil {
		return false, false, err
	}
	if len(path) == 0 {
		switch v := first.(type) {
		case bool:
			return v, false, nil
		case float64:
			return v != 0, false, nil
		case string:
			return v != "" && v != "0", false, nil // a 64-bit number is a string in the JSON of protobuf
		}
		found = d.More()
		return found, false, skip(d, 1)
	}
	switch first {
	case json.Delim('{'):
	case json.Delim('['):
		return false, true, skip(d, 1)
	default:
		return false, true, nil
	}
	for d.More() {
		name, err := d.Token()
		switch {
		case err != nil:
		case name == path[0]:
			found, wrong, err = look(d, path[1:])
		default:
			err = skip(d, 0)
		}
		if err != nil {
			return false, false, err
		}
	}
	_, err = d.Token() // the end of the object
	return found, wrong, err
}

// skip reads the rest of a value of which open objects and arrays are begun; 0: the
// next value.
func skip(d *json.Decoder, open int) error {
	for {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			open++
		case json.Delim('}'), json.Delim(']'):
			open--
		}
		if open == 0 {
			return nil
		}
	}
}

// meaning puts a status in words, where the server's own are not to be shown.
func meaning(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "the credentials were refused"
	case status == http.StatusForbidden:
		return "the credentials were refused, or lack a right"
	case status == http.StatusNotFound:
		return "there is nothing at this URL"
	case status == http.StatusRequestEntityTooLarge:
		return "the request is too long"
	case status >= 300 && status < 400:
		return "a redirect, which is not followed: the URL is another one"
	case http.StatusText(status) != "":
		return strings.ToLower(http.StatusText(status))
	default:
		return "no explanation"
	}
}
