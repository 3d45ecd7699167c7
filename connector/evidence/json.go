package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// EncodeJSON is v in the one form that evidence has: members in their written
// order, two spaces for each level, no escapes that JSON does not ask for, a line
// break at the end.
func EncodeJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}

// DecodeJSON reads text, which must be the form that EncodeJSON gives: what was
// changed in any way, be it a space or the case of a name, is refused.
func DecodeJSON(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return describeJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind it")
	}
	again, err := EncodeJSON(into)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, text) {
		at := 0
		for at < len(again) && at < len(text) && again[at] == text[at] {
			at++
		}
		return fmt.Errorf("byte %d is not what weir would have written there", at)
	}
	return nil
}

// describeJSON says where a text is wrong.
func describeJSON(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not valid JSON at byte %d: %w", syntax.Offset, err)
	}
	return err
}
