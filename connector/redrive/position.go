package redrive

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Position is the file that says how far a dead-letter file was redriven for one
// connector. It is replaced as a whole, so that it is always either the old or
// the new one, and locked (flock) while it is open: one redrive at a time.
type Position struct {
	path  string
	file  *os.File
	noted noted
}

// noted is what a Position holds.
type noted struct {
	// Next: the lines before it, counted from 0, are redriven. Note says which ones
	// behind it are.
	Next int64  `json:"next"`
	Note string `json:"note,omitempty"`
	// Lines and Sum say of which lines this is true.
	Lines int64  `json:"lines"`
	Sum   string `json:"sha256"`
}

func newNoted(next int64, note string, over covered) noted {
	return noted{Next: next, Note: note, Lines: over.lines, Sum: hex.EncodeToString(over.sum[:])}
}

func (n noted) sum() (s lineSum) {
	_, _ = hex.Decode(s[:], []byte(n.Sum)) // checked by parse
	return s
}

// maxPosition is what a position file holds at most, in bytes.
const maxPosition = 8 << 10

var errNoPosition = errors.New("it is not the position of a redrive, and is left alone; move it away to begin at the start")

func parsePosition(text []byte) (n noted, err error) {
	if len(text) == 0 {
		return noted{}, nil // made and not written yet
	}
	if json.Unmarshal(text, &n) != nil || len(n.Sum) != 2*len(lineSum{}) || n.Next < 0 || n.Lines < n.Next {
		return noted{}, errNoPosition
	}
	if _, err := hex.DecodeString(n.Sum); err != nil {
		return noted{}, errNoPosition
	}
	if spans := ParseNote(n.Next, n.Note); len(spans) > 0 && spans[len(spans)-1].To > n.Lines {
		return noted{}, errNoPosition
	}
	return n, nil
}

// OpenPosition locks the position at path, and makes it where there is none.
//
// Errors: those of the file system; another redrive has it; what is there is no
// position.
func OpenPosition(path string) (*Position, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		p, again, err := lockPosition(path, f)
		if err == nil && !again {
			return p, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// lockPosition locks f; again: another process put a new file into its place in
// the meantime.
func lockPosition(path string, f *os.File) (p *Position, again bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, errors.New("another redrive of these dead letters is running")
	} else if err != nil {
		return nil, false, err
	}
	here, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(here, there) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	n, err := readPosition(f)
	return &Position{path: path, file: f, noted: n}, false, err
}

func readPosition(f io.Reader) (noted, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxPosition+1))
	if err != nil {
		return noted{}, err
	}
	if len(text) > maxPosition {
		return noted{}, errNoPosition
	}
	return parsePosition(text)
}

// Close unlocks the position.
func (p *Position) Close() { _ = p.file.Close() }

// write replaces the position, durably. The new file is locked before it is in
// place: there is no moment in which another redrive could begin.
func (p *Position) write(n noted) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	temp := p.path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was killed
		return err
	}
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		_, err = f.Write(append(text, '\n'))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temp, p.path)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	_ = p.file.Close()
	p.file = f
	folder, err := os.Open(filepath.Dir(p.path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Redriven is what the position at path says about records: those below next and
// in spans are redriven. Without a position, or with one that is about other
// lines, nothing is.
//
// Errors: those of reading.
func Redriven(ctx context.Context, path string, records Records) (next int64, spans []Span, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil, nil
	} else if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	n, err := readPosition(f)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", path, err)
	}
	n, _, err = n.verify(ctx, records)
	return n.Next, ParseNote(n.Next, n.Note), err
}

// verify is n if it is about records, and the zero noted if it is about others;
// and how many lines there are.
func (n noted) verify(ctx context.Context, records Records) (_ noted, lines int64, err error) {
	var read covered
	same := n.Lines == 0
	for r, err := range records() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return noted{}, 0, err
		}
		lines++
		if read.lines < n.Lines {
			read.add(r)
			same = read.lines == n.Lines && read.sum == n.sum()
		}
	}
	if !same {
		return noted{}, lines, nil
	}
	return n, lines, nil
}
