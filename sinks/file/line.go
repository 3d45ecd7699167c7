package file

import (
	"bytes"
	"encoding/json"

	"weir/buffer"
	"weir/sinks/ndjson"
)

// appendLine appends r as one line, its line break included. The line's first
// member is lineStart.
func appendLine(lines []byte, r *buffer.Record) ([]byte, error) {
	out := bytes.NewBuffer(lines)
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false) // events are full of < and &
	err := e.Encode(ndjson.New(r))
	return out.Bytes(), err
}

// parseLine is the record that text, a line without its line break, holds. No
// error quotes the event.
func parseLine(text []byte) (*buffer.Record, error) {
	var l ndjson.Line
	if err := ndjson.Decode(text, &l, "a dead-letter file"); err != nil {
		return nil, err
	}
	return l.Record()
}
