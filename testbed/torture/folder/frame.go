package folder

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
)

var errTorn = errors.New("not whole")

// frame is the lines of the frame that data begins with, and its length.
//
// Errors: there is none, or not all of it.
func (r *reader) frame(extension string, data []byte) (lines []byte, size int, err error) {
	switch extension {
	case ".ndjson.zst":
		if size, err = zstdSize(data); err != nil {
			return nil, 0, err
		}
		lines, err = r.zstd.DecodeAll(data[:size], nil)
		return lines, size, err
	case ".ndjson.gz":
		in := bytes.NewReader(data) // of which gzip reads no byte too many
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, 0, err
		}
		z.Multistream(false)
		lines, err = io.ReadAll(z)
		return lines, len(data) - in.Len(), err
	}
	size = bytes.IndexByte(data, '\n') + 1
	if size == 0 || !json.Valid(data[:size]) {
		return nil, 0, errTorn
	}
	return data[:size], size, nil
}

// zstdSize is the length of a frame of zstd, of which only its blocks tell (RFC
// 8878, 3.1.1).
func zstdSize(data []byte) (int, error) {
	if len(data) < 5 || binary.LittleEndian.Uint32(data) != 0xfd2fb528 {
		return 0, errTorn
	}
	const single, checksum = 1 << 5, 1 << 2
	flags := data[4]
	at := 5 + []int{0, 1, 2, 4}[flags&3] // behind the id of a dictionary
	if flags&single == 0 {
		at += 1 + []int{0, 2, 4, 8}[flags>>6] // the window's size and the content's
	} else {
		at += []int{1, 2, 4, 8}[flags>>6]
	}
	for last := false; !last; {
		if at+3 > len(data) {
			return 0, errTorn
		}
		block := int(data[at]) | int(data[at+1])<<8 | int(data[at+2])<<16
		last = block&1 != 0
		size := block >> 3
		if block>>1&3 == 1 {
			size = 1 // one byte, that many times
		}
		at += 3 + size
	}
	if flags&checksum == 0 {
		return 0, errors.New("a frame without a checksum")
	}
	if at += 4; at > len(data) {
		return 0, errTorn
	}
	return at, nil
}
