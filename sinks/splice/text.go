package splice

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendEscaped appends s as the inside of a JSON string. What is not valid
// UTF-8 becomes U+FFFD.
func AppendEscaped(dst, s []byte) []byte {
	for {
		n := plainLen(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			return dst
		}
		size := 1
		switch c := s[0]; {
		case c >= utf8.RuneSelf:
			var r rune
			r, size = utf8.DecodeRune(s)
			dst = utf8.AppendRune(dst, r)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		s = s[size:]
	}
}

// EscapedLen is how many bytes AppendEscaped makes of s.
func EscapedLen(s []byte) int {
	n := len(s)
	for {
		s = s[plainLen(s):]
		if len(s) == 0 {
			return n
		}
		size := 1
		switch c := s[0]; {
		case c >= utf8.RuneSelf:
			var r rune
			if r, size = utf8.DecodeRune(s); r == utf8.RuneError && size == 1 {
				n += len("\uFFFD") - 1
			}
		case c == '"', c == '\\', c == '\n', c == '\r', c == '\t':
			n++
		default:
			n += len(`\u0000`) - 1
		}
		s = s[size:]
	}
}

// Eight times the byte 1, and eight times the top bit.
const (
	ones = 0x0101010101010101
	high = 0x8080808080808080
)

// plainLen is how many bytes at the start of s are ASCII that stands for itself in
// a JSON string.
//
// It looks at eight bytes at a time. x-ones&^x has the top bit of a byte set when
// that byte of x is zero; it may be set falsely in bytes above a zero one, so the
// lowest is always right, and only the lowest is used.
func plainLen(s []byte) int {
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quote, slash := w^ones*'"', w^ones*'\\'
		stop := ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*' ')&^w | w) & high
		if stop != 0 {
			return i + bits.TrailingZeros64(stop)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// CutRune cuts b after at most n bytes, but not inside a rune.
func CutRune(b []byte, n int) (chunk, rest []byte) {
	if len(b) <= n {
		return b, nil
	}
	for i := n; i > n-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			return b[:i], b[i:]
		}
	}
	return b[:n], b[n:] // not UTF-8 anyhow
}
