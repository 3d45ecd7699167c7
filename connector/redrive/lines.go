package redrive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"weir/buffer"
	"weir/connector"
)

// Records are the lines of a dead-letter file from the first one on, one record a
// line; for a line that holds none, a record without headers. An error ends them.
type Records func() iter.Seq2[*buffer.Record, error]

// Lines is a dead-letter file as a Source. Its offsets are the numbers of its
// lines, from 0 on, up to those that were there when it was opened.
//
// How far it was redriven is kept in a Position, with a checksum of the lines:
// of a file that was moved away, edited or cut nothing is taken for redriven.
type Lines struct {
	position *Position
	next     func() (*buffer.Record, error, bool)
	stop     func()
	origin   buffer.Origin
	start    int64
	end      int64
	note     string
	void     bool
	run      []buffer.Record

	saver sync.WaitGroup
	dirty chan struct{} // has room for one signal: there is something to save
	done  chan struct{} // closed by Close

	mu     sync.Mutex
	read   covered // what Next has read
	before covered // what the position covered when it was opened
	saving noted
	fault  error // of the last attempt to save
}

// covered are the first lines of a file with their checksum.
type covered struct {
	lines int64
	sum   lineSum
}

// lineSum is the checksum of all lines up to one.
type lineSum [sha256.Size]byte

// add goes on with the next line.
func (c *covered) add(r *buffer.Record) {
	h := sha256.New()
	h.Write(c.sum[:])
	var number [8]byte
	field := func(b []byte) {
		binary.BigEndian.PutUint64(number[:], uint64(len(b)))
		h.Write(number[:])
		h.Write(b)
	}
	if r.Origin != nil {
		field([]byte(r.Cluster))
		field([]byte(r.Topic))
		field([]byte(r.TopicID))
		field(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(r.Partition)), uint64(r.Offset)))
		field(r.Key)
		field(r.Value)
		for _, header := range r.Headers {
			field([]byte(header.Key))
			field(header.Value)
		}
	}
	h.Sum(c.sum[:0])
	c.lines++
}

// OfLine is r, which a line holds, as Parse wants it: with the cluster of its
// record in a header, as a lane's records have one origin, the file's. A line
// the members of which say something else than its headers is no letter.
func OfLine(r *buffer.Record) buffer.Record {
	letter, err := Parse(r)
	o := letter.Record.Origin
	if err != nil || r.Origin == nil || *o != *r.Origin || letter.Record.Offset != r.Offset {
		return buffer.Record{Value: r.Value}
	}
	d := *r
	d.Headers = append(d.Headers[:len(d.Headers):len(d.Headers)], buffer.Header{Key: clusterMark, Value: []byte(r.Cluster)})
	return d
}

// OpenLines reads records once, to find out how many there are and whether they
// are those that the position is about.
//
// Errors: those of reading.
func OpenLines(ctx context.Context, records Records, p *Position) (*Lines, error) {
	l := &Lines{position: p, dirty: make(chan struct{}, 1), done: make(chan struct{})}
	state, lines, err := p.noted.verify(ctx, records)
	if err != nil {
		return nil, err
	}
	l.end = lines
	l.void = p.noted.Lines > 0 && state.Lines == 0
	l.start, l.note = state.Next, state.Note
	l.before = covered{state.Lines, state.sum()}
	l.next, l.stop = iter.Pull2(records())
	l.saver.Go(l.saveLoop)
	return l, nil
}

// Void reports whether there was a position that is about other lines: the file
// is read from its start.
func (l *Lines) Void() bool { return l.void }

// Start implements connector.Source.
func (l *Lines) Start() int64 { return l.start }

// End is the number of lines that the file had when it was opened.
func (l *Lines) End() int64 { return l.end }

// Note implements Source.
func (l *Lines) Note(context.Context) (string, error) { return l.note, nil }

const (
	runLines = 256
	runBytes = 1 << 20
)

// Next implements connector.Source.
//
// Errors: ctx's, those of reading, that the file is not any more what it was when
// it was opened, and io.EOF.
func (l *Lines) Next(ctx context.Context) (connector.Run, error) {
	l.run = l.run[:0]
	l.mu.Lock()
	read := l.read
	l.mu.Unlock()
	for size := 0; len(l.run) < runLines && size < runBytes && read.lines < l.end; {
		if err := ctx.Err(); err != nil {
			return connector.Run{}, err
		}
		r, err, ok := l.next()
		if err != nil {
			return connector.Run{}, err
		}
		if !ok {
			return connector.Run{}, fmt.Errorf("the dead-letter file has %d lines now and had %d a moment ago", read.lines, l.end)
		}
		read.add(r)
		if read.lines == l.before.lines && read.sum != l.before.sum {
			return connector.Run{}, errors.New("the dead-letter file became another one while it was read: try again")
		}
		if at := read.lines - 1; at >= l.start {
			d := OfLine(r)
			d.Origin, d.Offset = &l.origin, at
			size += len(d.Key) + len(d.Value)
			l.run = append(l.run, d)
		}
	}
	l.mu.Lock()
	l.read = read
	l.mu.Unlock()
	if len(l.run) == 0 {
		return connector.Run{}, io.EOF
	}
	return connector.Run{Records: l.run, Next: read.lines}, nil
}

// Commit implements connector.Source.
func (l *Lines) Commit(p connector.Progress) { l.CommitNote(p.Next, "") }

// CommitNote implements Source. What it says is written down soon after, and by
// Close at the latest.
func (l *Lines) CommitNote(next int64, note string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// All that is redriven lies within what was read, now or by those before.
	over := l.read
	if over.lines < l.before.lines {
		over = l.before
	}
	l.saving = newNoted(next, note, over)
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// saveEvery is the least time between two writings of the position.
const saveEvery = 200 * time.Millisecond

func (l *Lines) saveLoop() {
	for {
		select {
		case <-l.dirty:
			l.save()
		case <-l.done:
			return
		}
		select {
		case <-time.After(saveEvery):
		case <-l.done:
			return
		}
	}
}

func (l *Lines) save() {
	l.mu.Lock()
	n := l.saving
	l.mu.Unlock()
	err := l.position.write(n)
	l.mu.Lock()
	l.fault = err
	l.mu.Unlock()
}

// Close writes the position down and ends the reading. The lane must have
// returned.
//
// Errors: the position could not be written: what was redriven since it was
// written last is sent again by the next redrive.
func (l *Lines) Close() error {
	close(l.done)
	l.saver.Wait()
	l.stop()
	select {
	case <-l.dirty:
		l.save()
	default:
	}
	return l.fault
}
