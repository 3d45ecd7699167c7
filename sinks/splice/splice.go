// Package splice puts request bodies together from what records hold, without
// a copy of any of it: a value is copied from its record straight to where the
// client writes from, escaped on the way where it has to be.
package splice

import (
	"encoding/base64"
	"io"
)

// Segment is a part of a body.
type Segment struct {
	Kind Kind
	Data []byte
}

// Kind is how a Segment's data goes into the body.
type Kind uint8

const (
	// Plain: as it is.
	Plain Kind = iota
	// Quoted: as the inside of a JSON string. What is not valid UTF-8 becomes
	// U+FFFD.
	Quoted
	// Coded: in base64.
	Coded
)

// Reader reads segments as one text. The zero value has none.
type Reader struct {
	segments []Segment // what is left
	piece    []byte    // what is left of a piece of segments[0] that had to be coded
	spare    []byte    // reused memory
}

// Set makes r go on with segments, whose memory is its own until they are read.
func (r *Reader) Set(segments []Segment) { r.segments = segments }

// Add appends a segment, unless it is empty.
func (r *Reader) Add(kind Kind, data []byte) {
	if len(data) > 0 {
		r.segments = append(r.segments, Segment{kind, data})
	}
}

// Reset drops what is left.
func (r *Reader) Reset() { r.segments, r.piece = nil, nil }

// Empty reports whether nothing is left.
func (r *Reader) Empty() bool { return len(r.segments) == 0 && len(r.piece) == 0 }

// Fill copies to p until it is full or next has no more: when nothing is left,
// next is to Set further segments, and reports whether it did. It returns what
// an io.Reader would.
func (r *Reader) Fill(p []byte, next func() (bool, error)) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.piece) > 0 {
			c := copy(p[n:], r.piece)
			r.piece = r.piece[c:]
			n += c
			continue
		}
		if len(r.segments) == 0 {
			more, err := next()
			if err != nil {
				return n, err
			}
			if !more {
				break
			}
			continue
		}
		s := &r.segments[0]
		switch s.Kind {
		case Plain:
			c := copy(p[n:], s.Data)
			s.Data = s.Data[c:]
			n += c
		case Quoted:
			var chunk []byte
			chunk, s.Data = CutRune(s.Data, 4096)
			r.spare = AppendEscaped(r.spare[:0], chunk)
			r.piece = r.spare
		case Coded:
			chunk := s.Data[:min(len(s.Data), 3*1024)] // a multiple of 3: no padding but at the end
			s.Data = s.Data[len(chunk):]
			r.spare = base64.StdEncoding.AppendEncode(r.spare[:0], chunk)
			r.piece = r.spare
		}
		if len(s.Data) == 0 {
			r.segments = r.segments[1:]
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
