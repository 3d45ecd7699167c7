package file

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"weir/buffer"
)

// maxLine is the longest line that is written or read, its line break included.
// A record grows at most sixfold on its way to a line (a control character
// becomes \u0000), so any of up to 40 MiB fits.
const maxLine = 256 << 20

// ErrTorn is the last error of Read when the file ends in an incomplete line: one
// that is being written just now, or that a killed process left. Its record was
// not acknowledged.
var ErrTorn = errors.New("the last line is incomplete; its record was not acknowledged")

// LineError is what is wrong with one line: it holds no record that can be read.
type LineError struct {
	Line int // from 1 on
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Read yields the records of the dead-letter file at path in the order they were
// written. The file is read as it is, without a lock: a process may be appending.
//
// A *LineError, which names the line and not its content, stands in that record's
// place, and the next line follows if the caller goes on: what comes n-th is line
// n. The other errors, of opening and reading the file and ErrTorn, come last.
func Read(path string) iter.Seq2[*buffer.Record, error] {
	return func(yield func(*buffer.Record, error) bool) {
		f, err := openRegular(path, os.O_RDONLY)
		if err != nil {
			yield(nil, fmt.Errorf("dead-letter file %q: %w", path, err))
			return
		}
		defer f.Close()
		for r, err := range read(f, maxLine) {
			if err != nil {
				err = fmt.Errorf("dead-letter file %q: %w", path, err)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func read(from io.Reader, maxLine int) iter.Seq2[*buffer.Record, error] {
	return func(yield func(*buffer.Record, error) bool) {
		in := bufio.NewReaderSize(from, 64<<10)
		var text []byte
		for number := 1; ; number++ {
			var long bool
			var err error
			text, long, err = readLine(in, text[:0], maxLine)
			switch {
			case errors.Is(err, io.EOF) && (len(text) > 0 || long):
				yield(nil, ErrTorn)
				return
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(nil, fmt.Errorf("line %d: %w", number, err))
				return
			}
			var r *buffer.Record
			if long {
				err = &LineError{number, fmt.Errorf("longer than %d bytes", maxLine)}
			} else if r, err = parseLine(text); err != nil {
				err = &LineError{number, err}
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// readLine appends the next line to text, without its line break. Of a line that
// is too long it keeps nothing beyond the limit, and reads on to its end.
func readLine(in *bufio.Reader, text []byte, maxLine int) (_ []byte, long bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if long = long || len(text)+len(part) > maxLine; !long {
			text = append(text, part...)
		}
		switch {
		case err == nil && long:
			return text, true, nil
		case err == nil:
			return text[:len(text)-1], false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return text, long, err
		}
	}
}
