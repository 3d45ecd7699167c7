package folder

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// parseLine is the record that a line holds, its line break included.
func parseLine(line []byte) (*Record, error) {
	if !utf8.Valid(line) || !bytes.HasSuffix(line, []byte("}\n")) {
		return nil, errors.New("a line that does not end as it should, or is not UTF-8")
	}
	r := &Record{}
	d := json.NewDecoder(bytes.NewReader(line))
	members, err := object(d, func(member string) (err error) {
		switch member {
		case "topic":
			r.Topic, err = decode[string](d)
		case "topic_id":
			r.TopicID, err = decode[string](d)
		case "cluster":
			r.Cluster, err = decode[string](d)
		case "partition":
			r.Partition, err = decode[int32](d)
		case "offset":
			r.Offset, err = decode[int64](d)
		case "timestamp":
			var ms int64
			ms, err = decode[int64](d)
			r.Timestamp = &ms
		case "timestamp_type":
			var kind string
			if kind, err = decode[string](d); err == nil && kind != "LogAppendTime" {
				err = errors.New("not LogAppendTime")
			}
			r.Appended = true
		case "key", "key_base64":
			r.Key, err = text(d, member)
		case "value", "value_base64":
			r.Value, err = text(d, member)
		case "event":
			r.Value, err = decode[json.RawMessage](d)
			if err == nil && r.Value[0] != '{' {
				err = errors.New("not an object")
			}
		case "headers":
			r.Headers, err = headers(d)
		default:
			err = errors.New("there is no such member")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the object")
	}
	if first := []string{"topic", "topic_id", "cluster", "partition", "offset"}; !slices.Equal(members[:min(5, len(members))], first) {
		return nil, fmt.Errorf("a line that begins with %s", members)
	}
	return r, nil
}

func headers(d *json.Decoder) ([]Header, error) {
	if open, err := d.Token(); err != nil || open != json.Delim('[') {
		return nil, fmt.Errorf("not a list: %w", err)
	}
	var all []Header
	for d.More() {
		var h Header
		_, err := object(d, func(member string) (err error) {
			switch member {
			case "key", "key_base64":
				h.Key, err = text(d, member)
			case "value", "value_base64":
				h.Value, err = text(d, member)
			default:
				err = errors.New("there is no such member")
			}
			return err
		})
		if err == nil && h.Key == nil {
			err = errors.New("a header without a key")
		}
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	_, err := d.Token()
	return all, err
}

// object reads an object, whose members each reads the values of. None may come
// twice, nor as text and in base64.
func object(d *json.Decoder, each func(member string) error) (members []string, err error) {
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("not an object: %w", err)
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		member := token.(string)
		if err := each(member); err != nil {
			return nil, fmt.Errorf("%s: %w", member, err)
		}
		members = append(members, member)
	}
	kind := map[string]string{"key_base64": "key", "value_base64": "value", "event": "value"}
	seen := map[string]bool{}
	for _, m := range members {
		if kind[m] != "" {
			m = kind[m]
		}
		if seen[m] {
			return nil, fmt.Errorf("%s: twice", m)
		}
		seen[m] = true
	}
	_, err = d.Token()
	return members, err
}

// decode reads a value, which is not null.
func decode[T any](d *json.Decoder) (T, error) {
	var v *T
	err := d.Decode(&v)
	if err == nil && v == nil {
		err = errors.New("null")
	}
	if err != nil {
		var none T
		return none, err
	}
	return *v, nil
}

// text reads bytes that stand there as text, or in base64 where they are none.
func text(d *json.Decoder, member string) ([]byte, error) {
	s, err := decode[string](d)
	if err != nil || !strings.HasSuffix(member, "_base64") {
		return []byte(s), err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && utf8.Valid(b) {
		err = errors.New("text in base64")
	}
	return b, err
}
