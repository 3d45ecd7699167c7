package kafka

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// answer is a fetch answer, versions 0 to 13
// (https://kafka.apache.org/protocol#The_Messages_Fetch). It aliases the bytes it
// was made from.
type answer struct {
	throttle   time.Duration
	err        sarama.KError // of the request as a whole
	byID       bool          // the topics are ids
	partitions map[partitionKey]*partitionAnswer
}

type partitionKey struct {
	topic     string
	partition int32
}

// partitionAnswer is what an answer holds of one partition.
type partitionAnswer struct {
	err        sarama.KError
	end        int64 // high watermark
	stable     int64 // the end of what is decided: open transactions lie behind it
	aborted    []abortedTransaction
	replica    int32 // that is to be read instead, -1: none
	diverging  bool  // the log was cut off below what was read
	recordData []byte
}

// abortedTransaction is a transaction that was rolled back: its producer's
// records from first on are not to be delivered, up to the marker that says so.
type abortedTransaction struct{ producer, first int64 }

// answerError: an answer is not what the protocol says.
type answerError struct{ at int }

func (e *answerError) Error() string {
	return fmt.Sprintf("its answer does not follow the protocol: it makes no sense %d bytes from its end", e.at)
}

// parseAnswer reads the body of a fetch answer.
//
// Errors: *answerError.
func parseAnswer(body []byte, version int16) (answer, error) {
	d := fields{b: body, flexible: version >= 12}
	a := answer{byID: version >= fetchByID, partitions: make(map[partitionKey]*partitionAnswer)}
	if version >= 1 {
		a.throttle = time.Duration(d.int32()) * time.Millisecond
	}
	if version >= 7 {
		a.err = sarama.KError(d.int16())
		d.int32() // session
	}
	for range d.count() {
		var topic string
		if a.byID {
			topic = base64.RawURLEncoding.EncodeToString(d.take(16))
		} else {
			topic = string(d.text())
		}
		for range d.count() {
			partition := d.int32()
			p := d.partition(version)
			if d.bad {
				return answer{}, &answerError{at: len(d.b)}
			}
			key := partitionKey{topic, partition}
			if a.partitions[key] == nil { // one that comes twice counts once
				a.partitions[key] = &p
			}
		}
		d.tags(nil)
	}
	if d.bad {
		return answer{}, &answerError{at: len(d.b)}
	}
	return a, nil
}

func (d *fields) partition(version int16) partitionAnswer {
	p := partitionAnswer{replica: -1}
	p.err = sarama.KError(d.int16())
	p.end = d.int64()
	p.stable = p.end
	if version >= 4 {
		p.stable = d.int64()
		if version >= 5 {
			d.int64() // where the log begins
		}
		for range d.count() {
			p.aborted = append(p.aborted, abortedTransaction{producer: d.int64(), first: d.int64()})
			d.tags(nil)
		}
	}
	if version >= 11 {
		p.replica = d.int32()
	}
	p.recordData = d.bytes()
	d.tags(func(tag uint64) {
		if tag == 0 {
			p.diverging = true
		}
	})
	return p
}

// fields reads the fields of an answer one after the other. Once one is not as
// it should be, bad is set and all that follow are zero.
type fields struct {
	b        []byte
	flexible bool // lengths are varints, and tagged fields follow (KIP-482)
	bad      bool
}

// take is the next n bytes.
func (d *fields) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *fields) int16() int16 {
	if b := d.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (d *fields) int32() int32 {
	if b := d.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (d *fields) int64() int64 {
	if b := d.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (d *fields) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || d.bad {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// length is a length or a count, 0 for one that says null. Nothing that is
// counted takes less than a byte.
func (d *fields) length(short bool) int {
	var n int64
	switch {
	case d.flexible:
		n = int64(min(d.uvarint(), 1<<32)) - 1
	case short:
		n = int64(d.int16())
	default:
		n = int64(d.int32())
	}
	if n < -1 || n > int64(len(d.b)) {
		d.bad = true
	}
	if d.bad {
		return 0
	}
	return int(max(n, 0))
}

func (d *fields) count() int    { return d.length(false) }
func (d *fields) text() []byte  { return d.take(d.length(true)) }
func (d *fields) bytes() []byte { return d.take(d.length(false)) }

// tags passes the tagged fields; seen is told of each.
func (d *fields) tags(seen func(tag uint64)) {
	if !d.flexible {
		return
	}
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		tag := d.uvarint()
		d.take(int(min(d.uvarint(), 1<<32)))
		if seen != nil && !d.bad {
			seen(tag)
		}
	}
}
