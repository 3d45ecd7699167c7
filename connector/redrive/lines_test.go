package redrive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// fileLog is a dead-letter file's lines, and a sink.
type fileLog struct {
	*world
	path  string
	lines []buffer.Record
}

// fileOf has a letter of each of the numbers.
func fileOf(t *testing.T, numbers ...int) *fileLog {
	f := &fileLog{world: newWorld(t), path: filepath.Join(t.TempDir(), "position")}
	f.write(numbers...)
	f.latency = func() time.Duration { return 0 }
	return f
}

func (f *fileLog) write(numbers ...int) {
	for _, n := range numbers {
		r := refused(n)
		d := r
		d.Headers = letterOf(ours, r, 400, "why").Headers
		f.lines = append(f.lines, d)
	}
}

func (f *fileLog) records() iter.Seq2[*buffer.Record, error] {
	return func(yield func(*buffer.Record, error) bool) {
		for i := range f.lines {
			r := f.lines[i]
			if !yield(&r, nil) {
				return
			}
		}
	}
}

func (f *fileLog) open() (*Lines, *Position, error) {
	p, err := OpenPosition(f.path)
	if err != nil {
		return nil, nil, err
	}
	l, err := OpenLines(f.t.Context(), f.records, p)
	if err != nil {
		p.Close()
	}
	return l, p, err
}

// redrive runs once over what is there.
func (f *fileLog) redrive() Report {
	f.t.Helper()
	l, p, err := f.open()
	if err != nil {
		f.t.Fatal(err)
	}
	defer p.Close()
	j := f.job(Filter{})
	defer j.Close()
	if err := j.Lane(f.t.Context(), &buffer.Origin{Topic: "/var/lib/weir/dead letters.jsonl"}, l, l.End()); err != nil {
		f.t.Error(err)
	}
	if err := l.Close(); err != nil {
		f.t.Error(err)
	}
	return j.Report()
}

func (f *fileLog) wantStored(numbers ...int) {
	f.t.Helper()
	for _, n := range numbers {
		if r := refused(n); !f.stored[Address(&r)] {
			f.t.Errorf("record %s is not stored", Address(&r))
		}
	}
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

func TestFileIsRedrivenOnceAndGoesOnWithWhatCameSince(t *testing.T) {
	f := fileOf(t, upTo(1000)...)
	f.verdict = func(n int64) sinks.Outcome {
		if n%100 >= 50 && n < 500 {
			return reject(n)
		}
		return sinks.Outcome{Verdict: sinks.Ack}
	}
	if r := f.redrive(); r.Delivered != 750 || r.Refused != 250 || r.Ahead != 0 {
		t.Errorf("first: %+v", r)
	}
	f.write(1000, 1001)
	f.verdict = func(int64) sinks.Outcome { return sinks.Outcome{Verdict: sinks.Ack} }
	if r := f.redrive(); r.Delivered != 252 || r.Duplicates != 0 || r.Before != 700 {
		t.Errorf("second: %+v", r)
	}
	if r := f.redrive(); r.Selected != 0 || r.Before != 0 {
		t.Errorf("third: %+v", r)
	}
	f.wantStored(upTo(1002)...)
	for address, n := range f.sent {
		if n > 2 {
			t.Errorf("%s was sent %d times", address, n)
		}
	}
	next, spans, err := Redriven(t.Context(), f.path, f.records)
	if err != nil || next != 1002 || len(spans) != 0 {
		t.Errorf("redriven up to %d and %v, %v", next, spans, err)
	}
}

// A file that was moved away, edited or cut: a position of other lines must not
// make any of these count as redriven.
func TestPositionOfOtherLinesIsVoid(t *testing.T) {
	for name, change := range map[string]func(f *fileLog){
		"another file":         func(f *fileLog) { f.lines = nil; f.write(500, 501, 502) },
		"another longer file":  func(f *fileLog) { f.lines = nil; f.write(upTo(300)[100:]...) },
		"a line deleted":       func(f *fileLog) { f.lines = slices.Delete(f.lines, 3, 4); f.write(500, 501) },
		"a line put in":        func(f *fileLog) { f.write(500); f.lines = append(f.lines[100:], f.lines[:100]...) },
		"a line edited":        func(f *fileLog) { f.lines[20].Value = []byte("mended"); f.write(500) },
		"a header edited":      func(f *fileLog) { f.lines[20].Headers[7].Value = []byte("x"); f.write(500) },
		"a line made no line":  func(f *fileLog) { f.lines[20] = buffer.Record{}; f.write(500) },
		"cut":                  func(f *fileLog) { f.lines = f.lines[:50] },
		"the lines in reverse": func(f *fileLog) { slices.Reverse(f.lines) },
	} {
		t.Run(name, func(t *testing.T) {
			f := fileOf(t, upTo(100)...)
			f.redrive()
			clear(f.stored)
			clear(f.sent)
			change(f)
			if next, spans, err := Redriven(t.Context(), f.path, f.records); next != 0 || spans != nil || err != nil {
				t.Errorf("redriven up to %d and %v, %v", next, spans, err)
			}
			l, p, err := f.open()
			if err != nil || !l.Void() {
				t.Errorf("void is not told: %v", err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			p.Close()
			f.redrive()
			for _, r := range f.lines {
				if letter, err := Parse(&r); err == nil && !f.stored[Address(&letter.Record)] {
					t.Errorf("record %s is not stored", Address(&letter.Record))
				}
			}
		})
	}
}

// The members of a line and its headers are two ways to say the same. A line that
// contradicts itself would be stored under the id of another record.
func TestLineThatContradictsItselfIsNoLetter(t *testing.T) {
	for name, change := range map[string]func(*buffer.Record){
		"offset": func(r *buffer.Record) { r.Offset++ },
		"partition": func(r *buffer.Record) {
			r.Origin = &buffer.Origin{Cluster: "c", Topic: "edr", TopicID: topicID, Partition: 2}
		},
		"topic": func(r *buffer.Record) {
			r.Origin = &buffer.Origin{Cluster: "c", Topic: "edr2", TopicID: topicID, Partition: 1}
		},
		"cluster mark": func(r *buffer.Record) {
			r.Headers = append(r.Headers, buffer.Header{Key: clusterMark, Value: []byte("another")})
		},
	} {
		f := fileOf(t, 1)
		change(&f.lines[0])
		if r := f.redrive(); r.Foreign != 1 || len(f.sent) != 0 {
			t.Errorf("%s: %+v, sent %v", name, r, f.sent)
		}
	}
}

// Killed at any moment the position is the old or the new one, and a temporary
// file that is left does no harm.
func TestKilledRedriveIsOneThatSendsAgain(t *testing.T) {
	f := fileOf(t, upTo(10)...)
	l, p, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	j := f.job(Filter{})
	if err := j.Lane(t.Context(), &buffer.Origin{}, l, l.End()); err != nil {
		t.Fatal(err)
	}
	j.Close()
	// No Close of the lines: what the process has not written is gone with it.
	close(l.done)
	l.saver.Wait()
	p.Close()
	if err := os.WriteFile(f.path+".new", []byte(`{"next":`), 0o600); err != nil {
		t.Fatal(err)
	}
	f.redrive()
	f.wantStored(upTo(10)...)
	if next, _, err := Redriven(t.Context(), f.path, f.records); next != 10 || err != nil {
		t.Errorf("redriven up to %d, %v", next, err)
	}
}

func TestOneRedriveOfAFileAtATime(t *testing.T) {
	f := fileOf(t, upTo(10)...)
	first, err := OpenPosition(f.path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // also after the file was replaced
		if p, err := OpenPosition(f.path); err == nil || !strings.Contains(err.Error(), "another redrive") {
			t.Fatalf("a second one got %v, %v", p, err)
		}
		if err := first.write(newNoted(0, "", covered{})); err != nil {
			t.Fatal(err)
		}
	}
	first.Close()
	second, err := OpenPosition(f.path)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestWhatIsNoPositionIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	sum := strings.Repeat("0", 64)
	for i, text := range []string{
		"secret", "[]", `{"next":1}`, `{"next":5,"lines":4,"sha256":"` + sum + `"}`, `{"next":-1,"lines":4,"sha256":"` + sum + `"}`,
		`{"next":1,"lines":4,"sha256":"` + strings.Repeat("z", 64) + `"}`, `{"next":1,"note":"done:3+5","lines":4,"sha256":"` + sum + `"}`,
		strings.Repeat(" ", 1<<20),
	} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := OpenPosition(path)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.40q: %v, %v", text, p, err)
		}
		if left, _ := os.ReadFile(path); string(left) != text {
			t.Errorf("%.40q was altered", text)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "0"), link); err != nil {
		t.Fatal(err)
	}
	if p, err := OpenPosition(link); err == nil {
		t.Errorf("a symbolic link was followed: %v", p)
	}
}

// A disk that fails in the middle of the file must not look like its end.
func TestReadingThatFailsEndsTheRedrive(t *testing.T) {
	broken := errors.New("input/output error")
	f := fileOf(t, upTo(10)...)
	fail := false
	records := func() iter.Seq2[*buffer.Record, error] {
		return func(yield func(*buffer.Record, error) bool) {
			for i := range f.lines {
				if fail && i == 5 {
					yield(nil, broken)
					return
				}
				if !yield(&f.lines[i], nil) {
					return
				}
			}
		}
	}
	p, err := OpenPosition(f.path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	l, err := OpenLines(t.Context(), records, p)
	if err != nil {
		t.Fatal(err)
	}
	fail = true
	j := f.job(Filter{})
	defer j.Close()
	if err := j.Lane(t.Context(), &buffer.Origin{}, l, l.End()); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if next, _, err := Redriven(t.Context(), f.path, f.records); next != 0 || err != nil {
		t.Errorf("redriven up to %d, %v", next, err)
	}
	if _, err := OpenLines(t.Context(), records, p); !errors.Is(err, broken) {
		t.Errorf("opening: %v", err)
	}
}

// A file that is cut while it is read has not come to its end.
func TestFileCutWhileItIsReadIsTold(t *testing.T) {
	f := fileOf(t, upTo(1000)...)
	l, p, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f.lines = f.lines[:500]
	for err == nil {
		_, err = l.Next(t.Context())
	}
	if errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "500 lines") {
		t.Errorf("error %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// The position was of the file that was there when it was opened.
func TestFileReplacedWhileItIsReadIsTold(t *testing.T) {
	f := fileOf(t, upTo(1000)...)
	f.redrive()
	f.write(1000)
	l, p, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f.lines[10].Value = []byte("another")
	for err == nil {
		_, err = l.Next(t.Context())
	}
	if !strings.Contains(err.Error(), "another one") {
		t.Errorf("error %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A redrive that comes not as far as the one before it forgets nothing of it.
func TestShortRedriveKeepsWhatIsDoneFurtherOn(t *testing.T) {
	f := fileOf(t, upTo(1000)...)
	f.verdict = func(n int64) sinks.Outcome {
		if n == 0 {
			return reject(n)
		}
		return sinks.Outcome{Verdict: sinks.Ack}
	}
	f.redrive()
	l, p, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.CommitNote(0, l.note)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if next, spans, err := Redriven(t.Context(), f.path, f.records); next != 0 || !slices.Equal(spans, []Span{{1, 1000}}) || err != nil {
		t.Errorf("redriven up to %d and %v, %v", next, spans, err)
	}
}

func FuzzPosition(f *testing.F) {
	f.Add([]byte(`{"next":1,"note":"done:1+2","lines":4,"sha256":"` + strings.Repeat("ab", 32) + `"}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parsePosition(text)
		if err != nil {
			return
		}
		if n.Next < 0 || n.Next > n.Lines {
			t.Errorf("%+v", n)
		}
		one := func() iter.Seq2[*buffer.Record, error] {
			return func(yield func(*buffer.Record, error) bool) { yield(&buffer.Record{}, nil) }
		}
		if same, lines, err := n.verify(context.Background(), one); err != nil || lines != 1 || same.Next > 1 {
			t.Errorf("%+v taken for %+v of %d lines, %v", n, same, lines, err)
		}
	})
}
