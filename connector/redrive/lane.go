package redrive

import (
	"context"
	"io"
	"slices"
	"sync"

	"weir/connector"
)

// Source is a partition of a dead-letter log. Beside the offset below which
// everything is redriven it remembers a note of what is redriven above.
type Source interface {
	connector.Source
	// Note is what was committed with Start, "" when that was nothing of ours.
	Note(ctx context.Context) (string, error)
	// CommitNote is Commit with a note that belongs to next. It may come again
	// with the same next and another note.
	CommitNote(next int64, note string)
}

// lane is a Source up to an end, of which only the letters are handed out that
// are to be sent. It keeps the position at the lowest letter that stays.
type lane struct {
	job *Job
	src Source
	end int64
	at  int64

	mu   sync.Mutex
	next int64 // as the connector said last: everything below is redriven or kept
	// hold is the lowest offset that is kept, -1 while there is none; kept are
	// those at or above next.
	hold int64
	kept []int64
	done []Span // redriven above hold and below next, ascending
	// before is what was redriven by earlier runs, above where this one began.
	before []Span
	counts laneCounts
}

// laneCounts are of letters of the job's connector, but for the last two.
type laneCounts struct {
	before   int64 // redriven by an earlier run
	filtered int64 // not meant
	selected int64 // handed out
	refused  int64 // refused again
	others   int64 // of other connectors
	foreign  int64 // no letters
}

func (l *lane) Start() int64 { return l.src.Start() }

func (l *lane) End() int64 { return l.end }

// Next hands out what is to be sent. The letters that stay are noted before the
// connector can learn that it may go past them.
func (l *lane) Next(ctx context.Context) (connector.Run, error) {
	if l.at >= l.end {
		return connector.Run{}, io.EOF
	}
	run, err := l.src.Next(ctx)
	if err != nil {
		return run, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	send := run.Records[:0]
	for i := range run.Records {
		r := &run.Records[i]
		if r.Offset >= l.end {
			break
		}
		letter, err := Parse(r)
		switch {
		case err != nil:
			l.counts.foreign++
		case letter.Connector != l.job.cfg.Connector:
			l.counts.others++
		case In(l.before, r.Offset):
			l.counts.before++
		case !l.job.cfg.Filter.Match(&letter):
			l.counts.filtered++
			l.kept = append(l.kept, r.Offset)
		default:
			l.counts.selected++
			send = append(send, *r)
		}
	}
	l.at = min(run.Next, l.end)
	return connector.Run{Records: send, Next: l.at}, nil
}

// keep notes that the letter at offset was refused again. It is called before
// the connector takes the letter for settled.
func (l *lane) keep(offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset < l.next {
		return // a late answer to the lane that had the partition before
	}
	l.counts.refused++
	l.kept = append(l.kept, offset)
}

// Commit moves the position up to the lowest letter that stays, and notes what is
// redriven above it.
func (l *lane) Commit(p connector.Progress) {
	next := p.Next
	l.mu.Lock()
	slices.Sort(l.kept)
	passed := 0
	for _, k := range l.kept {
		if k >= next {
			break
		}
		l.redriven(Span{l.next, k})
		if l.hold < 0 {
			l.hold = k
		}
		l.next = k + 1
		passed++
	}
	l.kept = slices.Delete(l.kept, 0, passed)
	l.redriven(Span{l.next, next})
	l.next = next
	position, spans := l.position()
	l.mu.Unlock()
	l.src.CommitNote(position, FormatNote(position, spans))
}

// redriven notes that nothing of s stays. Below hold the position says so.
func (l *lane) redriven(s Span) {
	if l.hold >= 0 && s.From < s.To {
		l.done = join(l.done, s)
	}
}

// position is where the next redrive begins, and what it need not send.
func (l *lane) position() (int64, []Span) {
	spans := slices.Clone(l.done)
	for _, s := range l.before {
		if s.From = max(s.From, l.next); s.From < s.To {
			spans = join(spans, s)
		}
	}
	if l.hold >= 0 {
		return l.hold, spans
	}
	if len(spans) > 0 && spans[0].From == l.next {
		return spans[0].To, spans[1:]
	}
	return l.next, spans
}
