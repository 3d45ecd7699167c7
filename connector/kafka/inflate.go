package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The codecs, as a batch's attributes number them.
const (
	codecNone = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
)

// errNoRoom: something takes more memory than it may.
var errNoRoom = errors.New("it takes more memory than there is")

// inflater decompresses batches. It keeps decoders and memory for the next one,
// so it is one goroutine's.
type inflater struct {
	gzip *gzip.Reader
	lz4  *lz4.Reader
	zstd *zstd.Decoder
	out  []byte
}

const (
	// minOut is what is taken for a batch before anything is known of it, maxKept
	// the most that is kept from one batch to the next.
	minOut, maxKept = 64 << 10, 4 << 20
	// maxWindow is how far back a zstd frame may refer: what its highest level needs.
	maxWindow = 128 << 20
)

// inflate decompresses src to at most limit bytes, which are valid until the next
// call. What src says of its own size is not trusted: memory is taken as the
// bytes come.
//
// Errors: errNoRoom; an unknown codec; the codec's own.
func (f *inflater) inflate(codec int8, src []byte, limit int64) ([]byte, error) {
	if cap(f.out) > maxKept {
		f.out = nil
	}
	limit = min(limit, math.MaxInt32)
	switch codec {
	case codecGzip:
		if f.gzip == nil {
			f.gzip = new(gzip.Reader)
		}
		if err := f.gzip.Reset(bytes.NewReader(src)); err != nil {
			return nil, err
		}
		return f.stream(f.gzip, limit)
	case codecLZ4:
		if f.lz4 == nil {
			f.lz4 = lz4.NewReader(nil)
		}
		f.lz4.Reset(bytes.NewReader(src))
		return f.stream(f.lz4, limit)
	case codecSnappy:
		return f.whole(src, limit, func(dst []byte) ([]byte, error) {
			out, err := xerial.DecodeCapped(dst, src)
			if errors.Is(err, xerial.ErrDstTooSmall) {
				err = errNoRoom
			}
			return out, err
		})
	case codecZstd:
		if f.zstd == nil {
			decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			f.zstd = decoder
		}
		return f.whole(src, limit, func(dst []byte) ([]byte, error) {
			out, err := f.zstd.DecodeAll(src, dst)
			if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
				err = errNoRoom
			}
			return out, err
		})
	}
	return nil, fmt.Errorf("compression %d is not known", codec)
}

// grow gives out twice the room, but at most limit; it reports whether it did.
func (f *inflater) grow(limit int64) bool {
	size := min(max(2*int64(cap(f.out)), minOut), limit)
	if size <= int64(cap(f.out)) {
		return false
	}
	f.out = append(make([]byte, 0, size), f.out...)
	return true
}

// stream reads all of r.
func (f *inflater) stream(r io.Reader, limit int64) ([]byte, error) {
	f.out = f.out[:0]
	for {
		room := int(min(int64(cap(f.out)), limit)) - len(f.out)
		if room <= 0 {
			if f.grow(limit) {
				continue
			}
			// It may end exactly here.
			var one [1]byte
			switch n, err := io.ReadFull(r, one[:]); {
			case n > 0:
				return nil, errNoRoom
			case errors.Is(err, io.EOF):
				return f.out, nil
			default:
				return nil, err
			}
		}
		n, err := r.Read(f.out[len(f.out) : len(f.out)+room])
		f.out = f.out[:len(f.out)+n]
		if errors.Is(err, io.EOF) {
			return f.out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// whole has decode fill all of what it is given, anew with twice as much each
// time that was not enough.
func (f *inflater) whole(src []byte, limit int64, decode func(dst []byte) ([]byte, error)) ([]byte, error) {
	f.out = f.out[:0]
	if want := min(4*int64(len(src)), limit); int64(cap(f.out)) < want {
		f.out = make([]byte, 0, want)
	}
	for {
		size := min(int64(cap(f.out)), limit)
		out, err := decode(f.out[:0:size])
		if err == nil {
			return out, nil
		}
		if !errors.Is(err, errNoRoom) {
			return nil, err
		}
		if !f.grow(limit) {
			return nil, errNoRoom
		}
	}
}
