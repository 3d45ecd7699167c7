// Package transform holds the steps a record passes between its lane and the
// open batch.
package transform

import (
	"fmt"

	"weir/buffer"
	"weir/connector"
)

// Decode is the transform that finds out what a record's value is. With format
// "json" it sets the record's Shape; with "raw" it leaves it at zero, so that
// every sink takes the value as text. It never alters, drops or refuses a
// record: what is not JSON is not an error, it is delivered as text.
//
// Errors: a format that is neither.
func Decode(format string) (connector.Transform, error) {
	switch format {
	case "json":
		return func(r *buffer.Record) (bool, error) {
			r.Shape = Shape(r.Value)
			return true, nil
		}, nil
	case "raw":
		return func(*buffer.Record) (bool, error) { return true, nil }, nil
	default:
		return nil, fmt.Errorf("decode format %q is not known: use json or raw", format)
	}
}
