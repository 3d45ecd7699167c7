// Package ndjson is how a record stands on one line of a file: with its
// coordinates, and with every byte of its key, value and headers.
package ndjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"weir/buffer"
)

// Line has the members of a line. What is not valid UTF-8 is in the member with
// _base64 in its name.
type Line struct {
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id"`
	Cluster   string `json:"cluster"`
	Partition *int32 `json:"partition"`
	Offset    *int64 `json:"offset"`
	Timestamp *int64 `json:"timestamp,omitempty"` // ms since 1970
	// TimestampType is LogAppendTime for a record whose time the broker set, and
	// missing for others.
	TimestampType string  `json:"timestamp_type,omitempty"`
	Key           *string `json:"key,omitempty"`
	KeyB64        []byte  `json:"key_base64,omitempty"`
	Value         *string `json:"value,omitempty"`
	ValueB64      []byte  `json:"value_base64,omitempty"`
	Headers       Headers `json:"headers,omitempty"`
}

// LogAppendTime is the type of a timestamp that the broker set, in Kafka's words
// (message.timestamp.type).
const LogAppendTime = "LogAppendTime"

// Header is one header of a record.
type Header struct {
	Key      *string `json:"key,omitempty"`
	KeyB64   []byte  `json:"key_base64,omitempty"`
	Value    *string `json:"value,omitempty"`
	ValueB64 []byte  `json:"value_base64,omitempty"`
}

// Headers are those of a record.
type Headers []Header

// MaxHeaders is how many headers a line may have. A header takes much more memory
// than text, and a record with more is larger than a file may hold otherwise
// (32 bytes for each of them in 40 MiB).
const MaxHeaders = 40 << 20 / 32

// headerError is about the headers of a line, and quotes none.
type headerError string

func (e headerError) Error() string { return string(e) }

// UnmarshalJSON reads an array one by one, or null.
func (h *Headers) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	switch open, err := d.Token(); {
	case err != nil:
		return err
	case open == nil:
		*h = nil
		return nil
	case open != json.Delim('['):
		return &json.UnmarshalTypeError{Field: "headers"}
	}
	all := Headers{}
	for d.More() {
		if len(all) == MaxHeaders {
			return headerError(fmt.Sprintf("more than %d headers", MaxHeaders))
		}
		var one Header
		if err := d.Decode(&one); err != nil {
			return err
		}
		if one.Key == nil && one.KeyB64 == nil {
			return headerError(fmt.Sprintf("key of header %d: missing", len(all)))
		}
		all = append(all, one)
	}
	*h = all
	_, err := d.Token()
	return err
}

// New is the line of r.
func New(r *buffer.Record) Line {
	l := Line{Topic: r.Topic, TopicID: r.TopicID, Cluster: r.Cluster, Partition: &r.Partition, Offset: &r.Offset}
	if !r.Time.IsZero() {
		ms := r.Time.UnixMilli()
		l.Timestamp = &ms
	}
	if r.Appended {
		l.TimestampType = LogAppendTime
	}
	l.Key, l.KeyB64 = split(r.Key)
	l.Value, l.ValueB64 = split(r.Value)
	for _, h := range r.Headers {
		var to Header
		to.Key, to.KeyB64 = split([]byte(h.Key))
		to.Value, to.ValueB64 = split(h.Value)
		l.Headers = append(l.Headers, to)
	}
	return l
}

// Decode reads text, a line without its line break, into a Line or into what
// embeds one. file says in errors what it should be a line of ("an archive").
//
// It is stricter than JSON needs, since the record may be sent to Kafka again: a
// misspelt name in a line that was edited by hand must not become a tombstone.
// No error quotes the event.
func Decode(text []byte, into any, file string) error {
	if !utf8.Valid(text) {
		return errors.New("not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return describe(err, file)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value on the line")
	}
	return nil
}

// Record is the record that l holds.
//
// Errors: a member that is needed is missing, or given twice.
func (l *Line) Record() (*buffer.Record, error) {
	if l.Topic == "" || l.Partition == nil || l.Offset == nil {
		return nil, errors.New("topic, partition or offset is missing")
	}
	r := &buffer.Record{
		Origin: &buffer.Origin{Cluster: l.Cluster, Topic: l.Topic, TopicID: l.TopicID, Partition: *l.Partition},
		Offset: *l.Offset,
	}
	if l.Timestamp != nil {
		r.Time = time.UnixMilli(*l.Timestamp)
	}
	switch l.TimestampType {
	case "":
	case LogAppendTime:
		r.Appended = true
	default:
		return nil, fmt.Errorf("timestamp_type is not %s", LogAppendTime)
	}
	var err error
	if r.Key, err = join(l.Key, l.KeyB64); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if r.Value, err = join(l.Value, l.ValueB64); err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	for i, h := range l.Headers {
		key, err := join(h.Key, h.KeyB64)
		if err != nil {
			return nil, fmt.Errorf("key of header %d: %w", i, err)
		}
		value, err := join(h.Value, h.ValueB64)
		if err != nil {
			return nil, fmt.Errorf("value of header %d: %w", i, err)
		}
		r.Headers = append(r.Headers, buffer.Header{Key: string(key), Value: value})
	}
	return r, nil
}

// split is b as text if it can be, else as bytes; neither when it is nil.
func split(b []byte) (text *string, raw []byte) {
	switch {
	case b == nil:
		return nil, nil
	case utf8.Valid(b):
		s := string(b)
		return &s, nil
	default:
		return nil, b
	}
}

// join takes back what split did.
func join(text *string, raw []byte) ([]byte, error) {
	switch {
	case text != nil && raw != nil:
		return nil, errors.New("given twice, as text and in base64")
	case text != nil:
		return []byte(*text), nil
	default:
		return raw, nil
	}
}

// describe says where a line is wrong, without its content.
func describe(err error, file string) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var headers headerError
	switch {
	case errors.As(err, &headers):
		return headers
	case errors.As(err, &syntax):
		return fmt.Errorf("not valid JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%s is of the wrong type or out of range", kind.Field)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not a whole JSON object")
	default:
		return fmt.Errorf("not a line of %s (an unknown member, or base64 that is none)", file)
	}
}
