package redrive

import (
	"strings"
	"time"
)

// Filter says which letters are meant; the zero Filter: all of them. Topic,
// partition and offset are those of the refused record, not of the letter.
type Filter struct {
	Topic     string // "": any
	Partition *int32
	Offsets   *Span
	Status    *int
	Reason    string    // a part of the letter's reason; "": any
	Since     time.Time // when it was refused, at or after; zero: any
	Until     time.Time // and before; zero: any
}

// Match reports whether l is meant.
func (f *Filter) Match(l *Letter) bool {
	r := &l.Record
	return (f.Topic == "" || r.Topic == f.Topic) &&
		(f.Partition == nil || r.Partition == *f.Partition) &&
		(f.Offsets == nil || r.Offset >= f.Offsets.From && r.Offset < f.Offsets.To) &&
		(f.Status == nil || l.Status == *f.Status) &&
		strings.Contains(l.Reason, f.Reason) &&
		(f.Since.IsZero() || !l.FailedAt.Before(f.Since)) &&
		(f.Until.IsZero() || l.FailedAt.Before(f.Until))
}
