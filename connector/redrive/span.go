package redrive

import (
	"fmt"
	"strconv"
	"strings"
)

// Span is a range of offsets: From and what follows, up to To, which is not in it.
type Span struct{ From, To int64 }

// What is redriven above the lowest letter that stays is noted with the position,
// so that it is not sent once more by the next redrive. There is room for little:
// Kafka takes 4096 bytes of metadata by default, and some of it is not ours.
const (
	maxNote  = 1500 // bytes
	maxSpans = 512
	noteMark = "done:"
)

// FormatNote is spans, ascending and above from, as text of at most maxNote bytes.
// The last ones are left out when they do not fit, "" when there are none.
func FormatNote(from int64, spans []Span) string {
	var b strings.Builder
	for _, s := range spans {
		next := fmt.Sprintf("%d+%d", s.From-from, s.To-s.From)
		if b.Len()+len(noteMark)+len(next)+1 > maxNote {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		} else {
			b.WriteString(noteMark)
		}
		b.WriteString(next)
		from = s.To
	}
	return b.String()
}

// ParseNote reads what FormatNote wrote. Anything else, as somebody else may have
// committed, says that nothing above from is done: then it is sent again.
func ParseNote(from int64, note string) []Span {
	rest, ok := strings.CutPrefix(note, noteMark)
	if !ok || len(note) > maxNote {
		return nil
	}
	var spans []Span
	for part := range strings.SplitSeq(rest, ",") {
		gap, length, ok := strings.Cut(part, "+")
		skip, err1 := strconv.ParseInt(gap, 10, 64)
		n, err2 := strconv.ParseInt(length, 10, 64)
		// Spans that touch would be one; the sums must not overflow.
		const most = 1 << 60
		if !ok || err1 != nil || err2 != nil || skip <= 0 || n <= 0 || skip > most || n > most || from > most {
			return nil
		}
		s := Span{From: from + skip, To: from + skip + n}
		spans = append(spans, s)
		from = s.To
	}
	return spans
}

// In reports whether offset is in one of spans.
func In(spans []Span, offset int64) bool {
	for _, s := range spans {
		if offset < s.From {
			return false
		}
		if offset < s.To {
			return true
		}
	}
	return false
}

// join appends s to spans, which end at or below its start.
func join(spans []Span, s Span) []Span {
	if n := len(spans); n > 0 && spans[n-1].To >= s.From {
		spans[n-1].To = max(spans[n-1].To, s.To)
		return spans
	}
	if s.From < s.To && len(spans) < maxSpans {
		spans = append(spans, s)
	}
	return spans
}
