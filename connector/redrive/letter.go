// Package redrive sends dead letters again: it reads a dead-letter log like any
// other one, takes each letter for the record it was made of, and hands that to
// the sink that refused it. A letter counts as redriven when the sink has taken
// it, and stays a dead letter otherwise.
package redrive

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"weir/buffer"
)

// Letter is a record that a sink refused, with what was noted then.
type Letter struct {
	Connector string // whose sink refused it
	// Record is the refused record: coordinates, time, key, value and headers are
	// those it was read with. It shares its memory with the letter.
	Record   buffer.Record
	Status   int // the sink's code, 0 when there was none
	Reason   string
	FailedAt time.Time
}

// marks are the headers behind the original ones, in the order in which the
// connector writes them.
var marks = [...]string{
	"weir.connector", "weir.topic", "weir.topic_id", "weir.partition", "weir.offset",
	"weir.timestamp", "weir.status", "weir.reason", "weir.failed_at",
}

// clusterMark is behind the marks of a letter that is kept outside of the cluster
// its record comes from.
const clusterMark = "weir.cluster"

// maxReason bounds the reason of a letter that is taken for one, in bytes. Those
// of our sinks are shorter.
const maxReason = 64 << 10

// ErrForeign is under each error of Parse.
var ErrForeign = errors.New("no dead letter of weir")

// Parse takes r, a record of a dead-letter log, for a letter. Only the headers at
// the end count: a producer may have called its own as ours are.
//
// It is strict, since the letter's words become the coordinates of a record, and
// those its id: what weir would not have written is not taken for weir's.
//
// Errors: ErrForeign, saying what is wrong with it and quoting nothing.
func Parse(r *buffer.Record) (Letter, error) {
	headers := r.Headers
	cluster := ""
	if r.Origin != nil {
		cluster = r.Cluster
	}
	if n := len(headers); n > 0 && headers[n-1].Key == clusterMark {
		cluster = string(headers[n-1].Value)
		headers = headers[:n-1]
	}
	own := len(headers) - len(marks)
	if own < 0 {
		return Letter{}, fmt.Errorf("%w: it ends in fewer headers than weir writes", ErrForeign)
	}
	var text [len(marks)]string
	for i, name := range marks {
		h := headers[own+i]
		if h.Key != name {
			return Letter{}, fmt.Errorf("%w: its header %s is missing or in another place", ErrForeign, name)
		}
		text[i] = string(h.Value)
	}
	var wrong string
	must := func(i int, ok bool) {
		if !ok && wrong == "" {
			wrong = marks[i]
		}
	}
	must(0, isName(text[0], 100))
	must(1, isName(text[1], 249))
	must(2, text[2] == "" || len(text[2]) == 22 && isID(text[2]))
	partition, ok := number(text[3], 32)
	must(3, ok && partition >= 0)
	offset, ok := number(text[4], 64)
	must(4, ok && offset >= 0)
	at, ok := parseTime(text[5])
	must(5, ok)
	status, ok := number(text[6], 32)
	must(6, ok)
	must(7, len(text[7]) <= maxReason && utf8.ValidString(text[7]))
	failed, ok := parseTime(text[8])
	must(8, ok && !failed.IsZero())
	if len(cluster) > 256 || !utf8.ValidString(cluster) {
		wrong = clusterMark
	}
	if wrong != "" {
		return Letter{}, fmt.Errorf("%w: its header %s holds what weir would not write", ErrForeign, wrong)
	}
	return Letter{
		Connector: text[0],
		Record: buffer.Record{
			Origin:  &buffer.Origin{Cluster: cluster, Topic: text[1], TopicID: text[2], Partition: int32(partition)},
			Offset:  offset,
			Time:    at,
			Key:     r.Key,
			Value:   r.Value,
			Headers: headers[:own:own],
			Shape:   r.Shape,
		},
		Status:   int(status),
		Reason:   text[7],
		FailedAt: failed,
	}, nil
}

// Address is how a record is named to people: TOPIC/PARTITION/OFFSET.
func Address(r *buffer.Record) string {
	return fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset)
}

// isName reports whether s could be the name of a topic or a connector.
func isName(s string, max int) bool {
	if s == "" || len(s) > max {
		return false
	}
	return strings.IndexFunc(s, func(c rune) bool { return !isWord(c) && c != '.' }) < 0
}

// isID reports whether s is of the characters of a topic id.
func isID(s string) bool { return strings.IndexFunc(s, func(c rune) bool { return !isWord(c) }) < 0 }

func isWord(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// number reads what strconv writes and nothing else: no sign, no leading zero.
func number(s string, bits int) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, bits)
	return n, err == nil && strconv.FormatInt(n, 10) == s
}

// timeLayout is that of the connector's headers.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// parseTime reads a time as the connector writes it, "" for the zero Time. A
// record can carry any timestamp, and Go's own parser knows no year of more than
// four digits or below 0.
func parseTime(s string) (time.Time, bool) {
	if s == "" {
		return time.Time{}, true
	}
	if len(s) < 5 || len(s) > 40 {
		return time.Time{}, false
	}
	digits := strings.IndexByte(s[1:], '-') + 1 // a first one would be a sign
	year, err := strconv.Atoi(s[:digits])
	if err != nil {
		return time.Time{}, false
	}
	// Every 400 years the calendar is the same.
	within := 2000 + (year%400+400)%400
	t, err := time.Parse(timeLayout, strconv.Itoa(within)+s[digits:])
	if err != nil {
		return time.Time{}, false
	}
	t = time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	return t, t.Format(timeLayout) == s
}
