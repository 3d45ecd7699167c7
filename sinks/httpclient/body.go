package httpclient

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// A Body is what the HTTP transport reads a request from. The transport may go
// on reading in a goroutine of its own after the request is over
// (golang/go#51907), when the records are no longer ours. So Stop cuts it off:
// once Stop has returned, no Read touches a record or anything else of ours.
type Body struct {
	mu  sync.Mutex
	src io.Reader // nil: stopped
}

// NewBody reads from src. src need not be safe for concurrent use.
func NewBody(src io.Reader) *Body { return &Body{src: src} }

// ErrStopped says that a Body is read after its Stop.
var ErrStopped = errors.New("the request is over")

// Read reads from the source while there is one.
func (b *Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.src == nil {
		return 0, ErrStopped
	}
	return b.src.Read(p)
}

// Close does what Stop does.
func (b *Body) Close() error {
	b.Stop()
	return nil
}

// Stop waits for a Read that is running, which takes no longer than copying
// memory does, and makes all later ones fail.
func (b *Body) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.src = nil
}

// A Compressor reads as the gzip form of its source, at level 1, as it is asked
// for: it holds a piece of the source and of the result, and no goroutine.
type Compressor struct {
	src   io.Reader
	gz    *gzip.Writer
	out   bytes.Buffer
	piece []byte
	ended bool
}

func NewCompressor() *Compressor {
	c := &Compressor{piece: make([]byte, 32<<10)}
	// The only error is a level that does not exist.
	c.gz, _ = gzip.NewWriterLevel(&c.out, gzip.BestSpeed)
	return c
}

// Start makes c ready to read src.
func (c *Compressor) Start(src io.Reader) {
	c.src, c.ended = src, false
	c.out.Reset()
	c.gz.Reset(&c.out)
}

// Read fills p as far as the next piece goes.
func (c *Compressor) Read(p []byte) (int, error) {
	for c.out.Len() == 0 {
		if c.ended {
			return 0, io.EOF
		}
		n, err := c.src.Read(c.piece)
		if n > 0 {
			if _, werr := c.gz.Write(c.piece[:n]); werr != nil {
				return 0, werr
			}
		}
		switch {
		case err == io.EOF:
			c.ended = true
			if cerr := c.gz.Close(); cerr != nil {
				return 0, cerr
			}
		case err != nil:
			return 0, err
		}
	}
	return c.out.Read(p)
}
