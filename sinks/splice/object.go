package splice

import (
	"bytes"
	"encoding/json"

	"weir/buffer"
)

// Object is r's value as one line of JSON, without white space around it; false
// when it is no object, and has to be wrapped as text. A value with line breaks
// is compacted into spare, which is reused by the next one.
func Object(r *buffer.Record, spare *bytes.Buffer) ([]byte, bool) {
	if !r.Shape.Has(buffer.ShapeObject) {
		return nil, false
	}
	v := r.Value
	if !braced(v) { // few have anything around them
		if v = bytes.Trim(v, " \t\r\n"); !braced(v) {
			return nil, false
		}
	}
	// ShapeLineBreak says the same, but a wrong Shape must not let an event write
	// lines of its own.
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return v, true
	}
	spare.Reset()
	if err := json.Compact(spare, v); err != nil {
		return nil, false
	}
	return spare.Bytes(), true
}

func braced(v []byte) bool { return len(v) >= 2 && v[0] == '{' && v[len(v)-1] == '}' }
