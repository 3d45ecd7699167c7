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

// List is a list in a text that weir writes. It takes no more memory than its text
// allows for: what is shorter than any element that weir writes is refused when it
// is met, and not when all of them are there.
type List[T any] []T

// UnmarshalJSON reads an array, or null.
func (l *List[T]) UnmarshalJSON(text []byte) error {
	// Nothing is shorter than the zero value, but where it has nulls for lists.
	var zero T
	shortest, err := json.Marshal(zero)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	switch open, err := d.Token(); {
	case err != nil:
		return err
	case open == nil:
		*l = nil
		return nil
	case open != json.Delim('['):
		return errors.New("not a list")
	}
	all := List[T]{}
	for d.More() {
		var one T
		at := d.InputOffset()
		if err := d.Decode(&one); err != nil {
			return err
		}
		if n := d.InputOffset() - at; n < int64(len(shortest)/2) {
			return fmt.Errorf("an element of %d bytes, which cannot be whole", n)
		}
		all = append(all, one)
	}
	*l = all
	_, err = d.Token()
	return err
}

// describeJSON says where a text is wrong.
func describeJSON(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not valid JSON at byte %d: %w", syntax.Offset, err)
	}
	return err
}
