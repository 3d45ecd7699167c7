package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"weir/buffer"
)

// codec is how a file is compressed. A file consists of frames, one for each
// time something was appended: zstd frames or gzip members, which the ordinary
// tools read one behind the other. An uncompressed file's frames are its lines.
type codec uint8

const (
	plain codec = iota
	gz
	zst
)

// extensions are what the names of files end in.
var extensions = [...]string{plain: ".ndjson", gz: ".ndjson.gz", zst: ".ndjson.zst"}

// The window of zstd: how far back it looks for what repeats. Events of one
// partition look alike, so that more brings little, and costs memory in each
// encoder.
const zstdWindow = 512 << 10

// An encoder makes frames.
type encoder struct {
	codec codec
	lines lineWriter
	zstd  *zstd.Encoder
	gzip  *gzip.Writer
}

func newEncoder(c codec) (*encoder, error) {
	e := &encoder{codec: c}
	var err error
	switch c {
	case zst:
		e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true))
	case gz:
		e.gzip, err = gzip.NewWriterLevel(nil, gzip.BestSpeed)
	}
	return e, err
}

// start begins a frame that is written to out.
func (e *encoder) start(out *bytes.Buffer) {
	e.lines.buf, e.lines.out = e.lines.buf[:0], out
	switch e.codec {
	case zst:
		e.zstd.Reset(out)
		e.lines.out = e.zstd
	case gz:
		e.gzip.Reset(out)
		e.lines.out = e.gzip
	}
}

// finish ends the frame.
func (e *encoder) finish() error {
	e.lines.flush()
	e.lines.out = nil
	if cap(e.lines.buf) > 8*pieceSize {
		e.lines.buf = nil // a record with very long headers
	}
	switch e.codec {
	case zst:
		return e.zstd.Close()
	case gz:
		return e.gzip.Close()
	}
	return nil
}

// maxLine bounds a line that is read. maxRecord bounds a record that is written:
// its bytes grow at most sixfold on their way to a line (a control character
// becomes \u0000).
const (
	maxLine   = 256 << 20
	maxRecord = 40 << 20
)

// content is the length of the parts of r that its producer chose.
func content(r *buffer.Record) int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value) + 32
	}
	return n
}

// extent says up to where a file consists of whole frames.
type extent struct {
	good int64 // where the last whole frame ends
	last int64 // where it begins; 0 for an uncompressed file
	why  error // what is wrong behind good; nil when nothing is
}

// walk reads the frames of in, which is size bytes long, from its start. Of each
// whole frame it hands over the lines, without their line breaks and of each at
// most keep bytes; then it calls done. What visit was given of a frame counts
// only when done was called: until then it may turn out to be torn.
//
// Errors: of reading in, and what visit returned. That a frame is torn is no
// error: the extent says it.
func walk(in io.ReaderAt, size int64, c codec, keep int, visit func(line []byte) error, done func()) (extent, error) {
	src := &source{in: in}
	var e extent
	var err error
	switch c {
	case plain:
		e, err = walkPlain(src, size, keep, visit, done)
	case gz:
		e, err = walkGzip(src, size, keep, visit, done)
	default:
		e, err = walkZstd(src, size, keep, visit, done)
	}
	if src.err != nil {
		err = src.err
	}
	return e, err
}

// source tells errors of the disk from those of what is on it.
type source struct {
	in  io.ReaderAt
	err error
}

func (s *source) ReadAt(p []byte, at int64) (int, error) {
	n, err := s.in.ReadAt(p, at)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// visitError is an error of who is visiting, and not of the file.
type visitError struct{ error }

func (e visitError) Unwrap() error { return e.error }

// torn sorts err: one of visit is returned, all others are about the frame.
func (e extent) torn(err error) (extent, error) {
	var visited visitError
	if errors.As(err, &visited) {
		return e, visited.error
	}
	e.why = err
	return e, nil
}

func walkPlain(src *source, size int64, keep int, visit func([]byte) error, done func()) (extent, error) {
	var e extent
	in := bufio.NewReaderSize(io.NewSectionReader(src, 0, size), 64<<10)
	for e.good < size {
		line, n, err := readLine(in, keep)
		if err != nil {
			return e.torn(err)
		}
		// There is no checksum. What a power loss leaves of a line that was not synced
		// is zeros, or ends early.
		if n <= int64(keep) && !json.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
			return e.torn(errors.New("not a line of JSON"))
		}
		if err := visit(line); err != nil {
			return e.torn(visitError{err})
		}
		done()
		e.good += n
	}
	return e, nil
}

func walkGzip(src *source, size int64, keep int, visit func([]byte) error, done func()) (extent, error) {
	var e extent
	in := &counter{in: bufio.NewReaderSize(io.NewSectionReader(src, 0, size), 64<<10)}
	z := new(gzip.Reader)
	for e.good < size {
		if err := z.Reset(in); err != nil {
			return e.torn(err)
		}
		z.Multistream(false)
		if err := lines(z, keep, visit); err != nil {
			return e.torn(err)
		}
		done()
		e.last, e.good = e.good, in.n
	}
	return e, nil
}

// counter counts what is read. It is an io.ByteReader, so that gzip reads no
// byte behind a member's end.
type counter struct {
	in *bufio.Reader
	n  int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.in.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func walkZstd(src *source, size int64, keep int, visit func([]byte) error, done func()) (extent, error) {
	var e extent
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return e, err
	}
	defer z.Close()
	for e.good < size {
		end, err := zstdFrameEnd(src, e.good, size)
		if err != nil {
			return e.torn(err)
		}
		if err := z.Reset(bufio.NewReader(io.NewSectionReader(src, e.good, end-e.good))); err != nil {
			return e.torn(err)
		}
		if err := lines(z, keep, visit); err != nil {
			return e.torn(err)
		}
		done()
		e.last, e.good = e.good, end
	}
	return e, nil
}

// zstdFrameEnd finds the end of the frame that begins at at, from the sizes of its
// blocks (RFC 8878, 3.1.1): the decoder does not tell.
func zstdFrameEnd(in io.ReaderAt, at, size int64) (int64, error) {
	var buf [zstd.HeaderMaxSize]byte
	n, err := in.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	var h zstd.Header
	if err := h.Decode(buf[:n]); err != nil {
		return 0, err
	}
	at += int64(h.HeaderSize)
	if h.Skippable {
		at += int64(h.SkippableSize)
	}
	for last := h.Skippable; !last; {
		var b [3]byte
		if at+3 > size {
			return 0, io.ErrUnexpectedEOF
		}
		if _, err := in.ReadAt(b[:], at); err != nil {
			return 0, err
		}
		block := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = block&1 != 0
		length := int64(block >> 3)
		switch block >> 1 & 3 {
		case 1: // one byte, repeated
			length = 1
		case 3:
			return 0, errors.New("a block of a reserved type")
		}
		at += 3 + length
	}
	if h.HasCheckSum {
		at += 4
	}
	if at > size {
		return 0, io.ErrUnexpectedEOF
	}
	return at, nil
}

// lines visits the lines of one frame, all of it.
func lines(frame io.Reader, keep int, visit func([]byte) error) error {
	in := bufio.NewReaderSize(frame, 64<<10)
	for {
		line, n, err := readLine(in, keep)
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return nil
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		if err := visit(line); err != nil {
			return visitError{err}
		}
	}
}

// readLine reads a line and returns at most keep bytes of it, without its line
// break, and its whole length, with it. The bytes are valid until the next call.
func readLine(in *bufio.Reader, keep int) (line []byte, n int64, err error) {
	line, err = in.ReadSlice('\n')
	n = int64(len(line))
	if err == nil {
		return line[:min(len(line)-1, keep)], n, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, n, err
	}
	line = bytes.Clone(line[:min(len(line), keep)])
	for {
		part, err := in.ReadSlice('\n')
		n += int64(len(part))
		if n > maxLine {
			return nil, n, fmt.Errorf("a line of more than %d bytes", maxLine)
		}
		line = append(line, part[:min(len(part), keep-len(line))]...)
		if err == nil {
			if n <= int64(keep) {
				line = line[:n-1]
			}
			return line, n, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, n, err
		}
	}
}
