package transform

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"weir/buffer"
)

// maxDepth is how deep objects and arrays may be nested, the outermost one
// counted. Elasticsearch reads no deeper than 1000, and a sink may wrap the
// event in objects of its own. It is a multiple of 64 for the bit set of Shape.
const maxDepth = 512

// Shape finds out in one pass what value is: 0 when it is anything but one JSON
// object (RFC 8259, strictly) in valid UTF-8, nested at most 512 deep, with only
// white space around it; else the bits of buffer.Shape that hold.
//
// ShapeLineBreak is also set for a line break in the white space around the
// object: without this bit no line break is in value at all, so that it may be
// copied into a line-framed body as it is.
//
// Two things that some readers refuse are left to the destination. A name that
// occurs twice in an object: Elasticsearch refuses that record with a 400. An
// escape of half a surrogate pair ("\ud800"): Elasticsearch 8.19 takes it, in
// values and in names, and keeps the source as it was sent.
//
// It does not recurse, allocates nothing, and its time is linear in len(value).
func Shape(value []byte) buffer.Shape {
	var (
		// Bit n says whether the container at depth n is an object; the one that
		// is open now is in object.
		objects [maxDepth / 64]uint64
		object  bool
		depth   int
		shape   = buffer.ShapeObject
		all     uint64 // every byte of every string, or-ed: any above 0x7f?
	)
	i, blank := space(value, 0, 0)
	if i >= len(value) || value[i] != '{' {
		return 0
	}
	for {
		// Here a value begins; in an object, its name.
		if object {
			if i >= len(value) || value[i] != '"' {
				return 0
			}
			end, seen, escaped := str(value, i+1)
			if end == 0 {
				return 0
			}
			all |= seen
			if depth == 1 {
				shape |= member(value[i+1:end-1], escaped)
			}
			i, blank = space(value, end, blank)
			if i >= len(value) || value[i] != ':' {
				return 0
			}
			i, blank = space(value, i+1, blank)
		}
		if i >= len(value) {
			return 0
		}
		switch c := value[i]; c {
		case '"':
			end, seen, _ := str(value, i+1)
			if end == 0 {
				return 0
			}
			all |= seen
			i = end
		case '{', '[':
			if depth == maxDepth {
				return 0
			}
			if object = c == '{'; object {
				objects[depth/64] |= 1 << (depth % 64)
			} else {
				objects[depth/64] &^= 1 << (depth % 64)
			}
			depth++
			i, blank = space(value, i+1, blank)
			if i >= len(value) {
				return 0
			}
			if value[i] != c+2 { // '{'+2 is '}', '['+2 is ']'
				continue
			}
			if depth == 1 {
				shape |= buffer.ShapeEmpty
			}
		case 't':
			if len(value)-i < 4 || string(value[i:i+4]) != "true" {
				return 0
			}
			i += 4
		case 'f':
			if len(value)-i < 5 || string(value[i:i+5]) != "false" {
				return 0
			}
			i += 5
		case 'n':
			if len(value)-i < 4 || string(value[i:i+4]) != "null" {
				return 0
			}
			i += 4
		default:
			if i = number(value, i); i == 0 {
				return 0
			}
		}
		// Behind a value: close what ends here, up to the comma before the next.
		for {
			i, blank = space(value, i, blank)
			if i >= len(value) {
				return 0
			}
			c := value[i]
			i++
			if c == ',' {
				break
			}
			if object && c != '}' || !object && c != ']' {
				return 0
			}
			depth--
			if depth == 0 {
				i, blank = space(value, i, blank)
				if i != len(value) || all&high != 0 && !utf8.Valid(value) {
					return 0
				}
				if blank&lineBreak != 0 {
					shape |= buffer.ShapeLineBreak
				}
				return shape
			}
			object = objects[(depth-1)/64]>>((depth-1)%64)&1 != 0
		}
		i, blank = space(value, i, blank)
	}
}

// class says what a byte can be part of.
type class uint8

const (
	blankByte class = 1 << iota
	lineBreak
	digit
	hex
	escape // may follow a backslash, alone
)

var classes = [256]class{
	' ': blankByte, '\t': blankByte, '\n': blankByte | lineBreak, '\r': blankByte | lineBreak,
	'0': digit | hex, '1': digit | hex, '2': digit | hex, '3': digit | hex, '4': digit | hex,
	'5': digit | hex, '6': digit | hex, '7': digit | hex, '8': digit | hex, '9': digit | hex,
	'a': hex, 'b': hex | escape, 'c': hex, 'd': hex, 'e': hex, 'f': hex | escape,
	'A': hex, 'B': hex, 'C': hex, 'D': hex, 'E': hex, 'F': hex,
	'"': escape, '\\': escape, '/': escape, 'n': escape, 'r': escape, 't': escape,
}

// space is the index behind the white space that begins at i, and seen with what
// was in it.
func space(v []byte, i int, seen class) (int, class) {
	for i < len(v) && classes[v[i]]&blankByte != 0 {
		seen |= classes[v[i]]
		i++
	}
	return i, seen
}

// Eight times the byte 1, and eight times the top bit.
const (
	ones = 0x0101010101010101
	high = 0x8080808080808080
)

// str reads the string whose first byte (behind the quote) is at i. It returns
// the index behind the closing quote, 0 when the string is not valid; an OR of
// its bytes and some that follow them; and whether it holds a backslash.
//
// It looks at eight bytes at a time. Among the bytes below 0x80, x-ones*n has the
// top bit of a byte set when that byte of x is less than n; it may be set falsely
// in bytes above such a one, so the lowest is always right, and only the lowest is
// used. One comparison finds quotes and control characters: x^2 makes 32 of the
// quote (34), leaves what is below 32 there, and makes 34 and 35 of 32 and 33.
func str(v []byte, i int) (end int, all uint64, escaped bool) {
	for {
		var c byte
		for {
			if len(v)-i < 8 {
				if i >= len(v) {
					return 0, 0, false
				}
				c = v[i]
				all |= uint64(c)
				if c == '"' || c == '\\' || c < ' ' {
					break
				}
				i++
				continue
			}
			w := binary.LittleEndian.Uint64(v[i : i+8])
			stop := (((w ^ ones*2) - ones*33) | ((w ^ ones*'\\') - ones)) &^ w & high
			all |= w
			if stop == 0 {
				i += 8
				continue
			}
			n := bits.TrailingZeros64(stop) &^ 7
			c = byte(w >> n)
			i += n / 8
			break
		}
		switch {
		case c == '"':
			return i + 1, all, escaped
		case c != '\\' || i+1 >= len(v):
			return 0, 0, false
		case classes[v[i+1]]&escape != 0:
			i += 2
		case v[i+1] == 'u' && len(v)-i >= 6 &&
			classes[v[i+2]]&classes[v[i+3]]&classes[v[i+4]]&classes[v[i+5]]&hex != 0:
			i += 6
		default:
			return 0, 0, false
		}
		escaped = true
	}
}

// number is the index behind the number that begins at i, 0 when there is none.
func number(v []byte, i int) int {
	if v[i] == '-' {
		i++
	}
	first := i
	if i = digits(v, i); i == first || v[first] == '0' && i > first+1 {
		return 0
	}
	if i < len(v) && v[i] == '.' {
		i++
		fraction := i
		if i = digits(v, i); i == fraction {
			return 0
		}
	}
	if i < len(v) && v[i]|0x20 == 'e' {
		if i++; i < len(v) && (v[i] == '+' || v[i] == '-') {
			i++
		}
		exponent := i
		if i = digits(v, i); i == exponent {
			return 0
		}
	}
	return i
}

// digits is the index behind the digits that begin at i.
func digits(v []byte, i int) int {
	for i < len(v) && classes[v[i]]&digit != 0 {
		i++
	}
	return i
}

// The names that a sink may want to add, and has to know whether they are there.
const (
	timestamp = "@timestamp"
	kafka     = "kafka"
)

// member is the bit of a name at the top level, as it is between its quotes; 0
// for most.
func member(name []byte, escaped bool) buffer.Shape {
	switch {
	case string(name) == timestamp, escaped && unquotes(name, timestamp):
		return buffer.ShapeTimestamp
	case string(name) == kafka, escaped && unquotes(name, kafka):
		return buffer.ShapeKafka
	}
	return 0
}

// unquotes reports whether name, a valid string with escapes, means want. No
// byte of want has a short escape, so \u is the only one that can matter.
func unquotes(name []byte, want string) bool {
	for i := range len(want) {
		if len(name) == 0 {
			return false
		}
		c, n := rune(name[0]), 1
		if c == '\\' {
			if name[1] != 'u' {
				return false
			}
			c, n = 0, 6
			for _, h := range name[2:6] {
				c <<= 4
				if h <= '9' {
					c |= rune(h - '0')
				} else {
					c |= rune(h|0x20-'a') + 10
				}
			}
		}
		if c != rune(want[i]) {
			return false
		}
		name = name[n:]
	}
	return len(name) == 0
}
