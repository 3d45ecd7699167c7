// Package evidence proves what a replay has read: one RFC 6962 tree a partition
// over its records and one over its gaps, both carried in the commits of the
// replay's group; the signed manifest that they end in; proofs that one record was
// among them; the log of who did what with a case; and the checks of all that.
//
// It knows no Kafka, no HTTP and no command line. docs/evidence.md has the formats
// byte by byte.
package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"

	"weir/buffer"
)

// Hash is a SHA-256. Its text is hexadecimal, as sha256sum prints it.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is the hexadecimal form.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads the hexadecimal form, in lower case only: a text has one
// form, so that no bit of it can change unnoticed.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return errors.New("not the 64 hexadecimal digits of a SHA-256")
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return errors.New("not the 64 hexadecimal digits of a SHA-256, in lower case")
		}
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// What a leaf is of, and the version of its encoding: its first two bytes.
const (
	leafRecord  = 'R'
	leafGap     = 'G'
	leafVersion = 1
)

// The bytes that RFC 6962 puts before what it hashes, so that a leaf is never
// taken for an inner node.
const (
	prefixLeaf = 0
	prefixNode = 1
)

// null stands for the length of what is null, as in Kafka's own encoding.
const null = math.MaxUint32

// Encoder encodes the leaves of one partition. Not safe for concurrent use.
//
// A leaf is, all numbers big-endian, a text or bytes being a uint32 length and
// then the bytes, with length 0xffffffff for null:
//
//	byte 'R', byte 1
//	cluster id, topic id, topic     text
//	partition                       int32
//	offset                          int64
//	timestamp type                  byte: 0 set by the producer, 1 by the broker
//	timestamp                       int64 ms since 1970, -1: none
//	key                             bytes or null
//	headers                         uint32 count, each: key text, value bytes or null
//	value                           bytes or null
//
// and of a gap: byte 'G', byte 1, the same up to the partition, then from and to
// (int64, to exclusive) and the class (byte).
//
// Everything has its length before it, so that no two records have one encoding.
type Encoder struct {
	record []byte // up to the offset, with RFC 6962's byte in front
	gap    []byte
	buf    []byte
}

// NewEncoder is the encoder of the partition o.
func NewEncoder(o *buffer.Origin) *Encoder {
	start := func(kind byte) []byte {
		b := []byte{prefixLeaf, kind, leafVersion}
		for _, s := range []string{o.Cluster, o.TopicID, o.Topic} {
			b = appendText(b, s)
		}
		return binary.BigEndian.AppendUint32(b, uint32(o.Partition))
	}
	return &Encoder{record: start(leafRecord), gap: start(leafGap)}
}

// Record is the leaf hash of r, which is of the encoder's partition.
func (e *Encoder) Record(r *buffer.Record) Hash {
	e.buf = appendRecord(append(e.buf[:0], e.record...), r)
	h := Hash(sha256.Sum256(e.buf))
	if cap(e.buf) > keepBuffer {
		e.buf = nil
	}
	return h
}

// keepBuffer is how large a buffer is kept for the next record.
const keepBuffer = 1 << 20

func appendRecord(b []byte, r *buffer.Record) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(r.Offset))
	var kind byte
	if r.Appended {
		kind = 1
	}
	b = append(b, kind)
	b = binary.BigEndian.AppendUint64(b, uint64(millis(r)))
	b = appendBytes(b, r.Key)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	for i := range r.Headers {
		b = appendText(b, r.Headers[i].Key)
		b = appendBytes(b, r.Headers[i].Value)
	}
	return appendBytes(b, r.Value)
}

// millis is r's timestamp as Kafka holds it: -1 when there is none.
func millis(r *buffer.Record) int64 {
	if r.Time.IsZero() {
		return -1
	}
	return r.Time.UnixMilli()
}

// Gap is the leaf hash of g.
func (e *Encoder) Gap(g Gap) Hash {
	b := append(e.buf[:0], e.gap...)
	b = binary.BigEndian.AppendUint64(b, uint64(g.From))
	b = binary.BigEndian.AppendUint64(b, uint64(g.To))
	e.buf = append(b, byte(g.Class))
	return sha256.Sum256(e.buf)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendBytes(b, v []byte) []byte {
	if v == nil {
		return binary.BigEndian.AppendUint32(b, null)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}
