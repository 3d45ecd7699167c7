package evidence

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"weir/buffer/regular"
)

// Action is what was done with a case.
type Action string

// The actions that a custody log tells of.
const (
	ActionPlan   Action = "plan"
	ActionStart  Action = "run start"
	ActionStop   Action = "run stop"
	ActionCancel Action = "cancel"
	ActionSeal   Action = "seal"
	ActionVerify Action = "verify"
	ActionReport Action = "report"
	ActionProof  Action = "proof"
	// ActionTorn: a process was killed, or a disk was full, while an entry was
	// written. It had not been written to its end.
	ActionTorn Action = "torn entry removed"
)

// Entry is one line of a custody log.
type Entry struct {
	Number   uint64    `json:"n"`    // from 1
	Previous Hash      `json:"prev"` // SHA-256 of the line before, without its line break; of the first: zeros
	Time     time.Time `json:"time"` // UTC, of this machine's clock
	Case     string    `json:"case"`
	Action   Action    `json:"action"`
	Who      string    `json:"who"`
	Host     string    `json:"host"`
	Tool     string    `json:"tool"`
	// Details depend on the action. No secret and no content of events is among
	// them.
	Details map[string]any `json:"details,omitempty"`
}

// CustodyHead is how a custody log ends: whoever knows it notices every change of
// what was before.
type CustodyHead struct {
	Entries uint64 `json:"entries"`
	Head    Hash   `json:"head"` // SHA-256 of the last line
}

// Custody is a custody log: a file of one entry a line, each with the hash of the
// one before. Entries are added at its end, and nothing is ever changed.
type Custody struct {
	path string
	base Entry
	now  func() time.Time
}

// OpenCustody names the log at path; it need not be there yet. who, host and tool
// stand in every entry.
func OpenCustody(path, caseID, who, host, tool string) *Custody {
	return &Custody{path, Entry{Case: caseID, Who: who, Host: host, Tool: tool}, time.Now}
}

// maxEntry bounds a line of a custody log.
const maxEntry = 1 << 20

// MaxCustody bounds the custody logs of a sealed case, all of them together: tens
// of thousands of entries.
const MaxCustody = 16 << 20

// Add appends an entry, which is durable when it returns. Several processes may
// add to one log: each locks it for as long as it takes.
//
// Errors: of the disk; the log is damaged, or of another case: nothing is added to
// one that does not hold.
func (c *Custody) Add(action Action, details map[string]any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("custody log %q: %w", c.path, err)
		}
	}()
	f, err := os.OpenFile(c.path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // and with it goes the lock
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking it: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	read, err := readCustody(f, c.base.Case, nil)
	if err != nil {
		return err
	}
	head, at := read.CustodyHead, read.size
	var lines []byte
	add := func(action Action, details map[string]any) error {
		e := c.base
		e.Number, e.Previous, e.Action, e.Details = head.Entries+1, head.Head, action, details
		e.Time = c.now().UTC()
		line, err := encodeEntry(&e)
		if err != nil {
			return err
		}
		if len(line) > maxEntry {
			return fmt.Errorf("an entry of %d bytes: no more than %d are taken", len(line), maxEntry)
		}
		head = CustodyHead{e.Number, sha256.Sum256(line)}
		lines = append(append(lines, line...), '\n')
		return nil
	}
	if len(read.torn) > 0 {
		sum := sha256.Sum256(read.torn)
		if err := add(ActionTorn, map[string]any{"bytes": len(read.torn), "sha256": Hash(sum).String()}); err != nil {
			return err
		}
		if err := f.Truncate(at); err != nil {
			return err
		}
	}
	if err := add(action, details); err != nil {
		return err
	}
	if _, err := f.WriteAt(lines, at); err != nil {
		return errors.Join(err, f.Truncate(at))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if info.Size() == 0 {
		return syncFolder(filepath.Dir(c.path))
	}
	return nil
}

// encodeEntry is e on one line.
func encodeEntry(e *Entry) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// decodeEntry reads a line that encodeEntry wrote.
func decodeEntry(line []byte) (*Entry, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	d.UseNumber() // a number is written again as it was
	e := new(Entry)
	if err := d.Decode(e); err != nil {
		return nil, describeJSON(err)
	}
	again, err := encodeEntry(e)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, line) {
		return nil, errors.New("not as weir writes it")
	}
	return e, nil
}

// CustodyError is about one line of a custody log.
type CustodyError struct {
	Line uint64 // from 1
	Err  error
}

func (e *CustodyError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *CustodyError) Unwrap() error { return e.Err }

type custodyRead struct {
	CustodyHead
	size int64  // of the whole lines
	torn []byte // what is behind them
}

// readCustody reads a log and checks its chain; visit, if there is one, is told of
// every entry. caseID may be empty: then any case will do, but one only.
func readCustody(f io.Reader, caseID string, visit func(e *Entry, head CustodyHead) error) (custodyRead, error) {
	var r custodyRead
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := readEntry(in)
		if errors.Is(err, io.EOF) {
			r.torn = line
			return r, nil
		}
		n := r.Entries + 1
		if err != nil {
			return r, &CustodyError{n, err}
		}
		line = line[:len(line)-1]
		e, err := decodeEntry(line)
		switch {
		case err != nil:
		case e.Number != n:
			err = fmt.Errorf("it says that it is entry %d", e.Number)
		case e.Previous != r.Head:
			err = errors.New("it does not follow the line before: one of the two was changed, or a line taken out or put in")
		case caseID != "" && e.Case != caseID:
			err = fmt.Errorf("it is of case %q and not of %q", e.Case, caseID)
		}
		if err != nil {
			return r, &CustodyError{n, err}
		}
		caseID = e.Case
		r.size += int64(len(line)) + 1
		r.CustodyHead = CustodyHead{n, sha256.Sum256(line)}
		if visit != nil {
			if err := visit(e, r.CustodyHead); err != nil {
				return r, err
			}
		}
	}
}

// readEntry reads a line, with its line break. With io.EOF comes what is left.
func readEntry(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxEntry+1 {
			return nil, fmt.Errorf("longer than the %d bytes that an entry may have", maxEntry)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// ReadCustody reads the log at path and checks its chain. visit, if there is one, is
// told of every entry.
//
// Errors: *CustodyError; it ends in the middle of an entry; of the disk.
func ReadCustody(path, caseID string, visit func(e *Entry) error) (CustodyHead, error) {
	f, err := regular.Open(path)
	if err != nil {
		return CustodyHead{}, err
	}
	defer f.Close()
	return DecodeCustody(f, caseID, visit)
}

// DecodeCustody is ReadCustody of what is read from in.
func DecodeCustody(in io.Reader, caseID string, visit func(e *Entry) error) (CustodyHead, error) {
	r, err := readCustody(in, caseID, func(e *Entry, _ CustodyHead) error {
		if visit == nil {
			return nil
		}
		return visit(e)
	})
	if err == nil && len(r.torn) > 0 {
		err = &CustodyError{r.Entries + 1, errors.New("it ends in the middle of an entry")}
	}
	return r.CustodyHead, err
}

// CheckCustody says whether a log is one of those that heads speak of, or goes on
// from one: whether what was there when the case was sealed is there unchanged.
func CheckCustody(in io.Reader, caseID string, heads []CustodyHead) error {
	found := false
	r, err := readCustody(in, caseID, func(_ *Entry, at CustodyHead) error {
		for _, h := range heads {
			found = found || h == at
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(r.torn) > 0:
		return &CustodyError{r.Entries + 1, errors.New("it ends in the middle of an entry")}
	case !found:
		return fmt.Errorf("its %d entries are not those that the manifest speaks of", r.Entries)
	}
	return nil
}
