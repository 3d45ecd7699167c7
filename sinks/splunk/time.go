package splunk

import (
	"bytes"
	"strconv"
	"time"
)

// appendTime appends t as decimal seconds since the epoch, with as many
// fractions as it has.
func appendTime(dst []byte, t time.Time) []byte {
	dst = strconv.AppendInt(dst, t.Unix(), 10)
	return appendFraction(dst, t.Nanosecond())
}

func appendFraction(dst []byte, nanos int) []byte {
	if nanos == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := 100_000_000; nanos > 0; unit /= 10 {
		dst = append(dst, byte('0'+nanos/unit))
		nanos %= unit
	}
	return dst
}

// maxTimeText bounds the text of a time, in bytes.
const maxTimeText = 64

// appendFieldTime appends the time that text stands for, in the form of
// appendTime: RFC 3339, or a decimal number of seconds since the epoch. A number
// that would be after the year 5138 as seconds is one of milliseconds,
// microseconds or nanoseconds. The digits are copied, never computed with: a
// float64 would lose those behind the microsecond.
//
// It reports false, and appends nothing, for anything else, and for times before
// 1970 or after 9999.
func appendFieldTime(dst, text []byte) ([]byte, bool) {
	if len(text) > maxTimeText {
		return dst, false
	}
	if out, ok := appendNumberTime(dst, text); ok {
		return out, true
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil || t.Unix() < 0 || t.Unix() > maxSecond {
		return dst, false
	}
	return appendTime(dst, t), true
}

const maxSecond = 253402300799 // 9999-12-31T23:59:59Z

// appendNumberTime is appendFieldTime for a JSON number.
func appendNumberTime(dst, text []byte) ([]byte, bool) {
	mantissa, exponent, hasExponent := cutExponent(text)
	whole, fraction, hasPoint := bytes.Cut(mantissa, []byte("."))
	if len(whole) == 0 || hasPoint && len(fraction) == 0 || !digits(whole) || !digits(fraction) {
		return dst, false
	}
	point := len(whole)
	if hasExponent {
		n, err := strconv.ParseInt(string(exponent), 10, 8)
		if err != nil {
			return dst, false
		}
		point += int(n)
	}
	// The digits, and behind which of them the point is.
	var buf [2 * maxTimeText]byte
	all := append(append(buf[:0], whole...), fraction...)
	for len(all) > 0 && all[0] == '0' {
		all, point = all[1:], point-1
	}
	if len(all) == 0 || point > 20 {
		return dst, false
	}
	for len(all) < point {
		all = append(all, '0')
	}
	switch {
	case point >= 18: // 1e17 and more
		point -= 9
	case point >= 15: // 1e14
		point -= 6
	case point >= 12: // 1e11
		point -= 3
	}
	if point <= 0 { // less than a second after the epoch: nobody's event
		return dst, false
	}
	dst = append(dst, all[:point]...)
	fraction = all[point:min(len(all), point+9)]
	if fraction = bytes.TrimRight(fraction, "0"); len(fraction) > 0 {
		dst = append(append(dst, '.'), fraction...)
	}
	return dst, true
}

// cutExponent cuts a JSON number at its exponent.
func cutExponent(text []byte) (mantissa, exponent []byte, found bool) {
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, nil, false
}

func digits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
