package demo

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"sync"
)

// maxEvents is the largest number of events a demo makes: the number sets stay
// below 128 MiB, and at the demo's pace it is four days away.
const maxEvents = 1 << 30

// mark stands before an event's number, in whatever shape the event has: it
// survives being wrapped, spliced and dead-lettered.
const mark = "demo-"

// markDigits is the width of the number behind mark.
const markDigits = 10

// appendMark appends the mark of event n.
func appendMark(b []byte, n int64) []byte {
	return fmt.Appendf(b, "%s%0*d", mark, markDigits, n)
}

// markOf finds an event's number.
func markOf(event []byte) (int64, bool) {
	for {
		i := bytes.Index(event, []byte(mark))
		if i < 0 || len(event) < i+len(mark)+markDigits {
			return 0, false
		}
		event = event[i+len(mark):]
		if n, err := strconv.ParseUint(string(event[:markDigits]), 10, 63); err == nil && n < maxEvents {
			return int64(n), true
		}
	}
}

// numbers is a set of event numbers, one bit each. Safe for concurrent use.
type numbers struct {
	mu    sync.Mutex
	words []uint64
	n     int64
}

// add reports whether n, which is below maxEvents, was not in the set before.
func (s *numbers) add(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	word, bit := int(n/64), uint64(1)<<(n%64)
	for word >= len(s.words) {
		s.words = append(s.words, 0)
	}
	if s.words[word]&bit != 0 {
		return false
	}
	s.words[word] |= bit
	s.n++
	return true
}

// len is the number of numbers in the set.
func (s *numbers) len() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// snapshot is a copy of the set's words.
func (s *numbers) snapshot() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint64(nil), s.words...)
}

// Account is what became of every event of a demo.
type Account struct {
	Produced     int64 // acknowledged by the broker
	Delivered    int64 // of Produced: in the SIEM
	DeadLettered int64 // of Produced: in the dead-letter topic
	Both         int64 // of Produced: in both, counted in Delivered and in DeadLettered
	Waiting      int64 // of Produced: in neither, and still to be read: weir has not committed it
	Lost         int64 // of Produced: nowhere
	Refused      int64 // documents that came to the SIEM again and were refused by their id
	StoredTwice  int64 // documents that the SIEM holds a second time under another id
}

// settle compares the numbers of the produced events with those that were found
// in the SIEM, in the dead-letter topic, and behind the committed offsets.
func settle(produced, delivered, dead, open []uint64) Account {
	var a Account
	at := func(words []uint64, i int) uint64 {
		if i < len(words) {
			return words[i]
		}
		return 0
	}
	for i, p := range produced {
		in, out := p&at(delivered, i), p&at(dead, i)
		a.Produced += int64(bits.OnesCount64(p))
		a.Delivered += int64(bits.OnesCount64(in))
		a.DeadLettered += int64(bits.OnesCount64(out))
		a.Both += int64(bits.OnesCount64(in & out))
		missing := p &^ (in | out)
		a.Waiting += int64(bits.OnesCount64(missing & at(open, i)))
		a.Lost += int64(bits.OnesCount64(missing &^ at(open, i)))
	}
	return a
}

// check is nil when every produced event is in exactly one place.
func (a Account) check() error {
	switch {
	case a.Lost != 0:
		return fmt.Errorf("demo: lost %d of %d events: they are neither in the SIEM nor in the dead-letter topic", a.Lost, a.Produced)
	case a.Waiting != 0:
		return fmt.Errorf("demo: %d of %d events were not delivered in time: they are still in Kafka, not committed", a.Waiting, a.Produced)
	case a.Both != 0:
		return fmt.Errorf("demo: %d of %d events are in the SIEM and in the dead-letter topic", a.Both, a.Produced)
	case a.StoredTwice != 0:
		return fmt.Errorf("demo: the SIEM holds %d of %d events twice", a.StoredTwice, a.Produced)
	}
	return nil
}

// print writes the account as a table.
func (a Account) print(w io.Writer, dlq string) error {
	var b bytes.Buffer
	row := func(name string, n int64, says string) {
		fmt.Fprintf(&b, "  %-18s %11s   %s\n", name, thousands(n), says)
	}
	b.WriteString("\nEvery event carries a number. Each one was looked for at both ends:\n\n")
	row("produced", a.Produced, "acknowledged by Kafka")
	row("delivered", a.Delivered, "distinct events in the SIEM")
	row("dead-lettered", a.DeadLettered, "refused by the SIEM, kept in "+dlq)
	row("duplicates", a.Refused, "sent twice, refused by id, stored once")
	if a.StoredTwice != 0 {
		row("stored twice", a.StoredTwice, "under another id")
	}
	if a.Both != 0 {
		row("in both places", a.Both, "delivered and dead-lettered")
	}
	if a.Waiting != 0 {
		row("not delivered yet", a.Waiting, "still in Kafka, not committed")
	}
	row("lost", a.Lost, "in none of these places")
	equal := "="
	if a.Delivered+a.DeadLettered != a.Produced {
		equal = "is not"
	}
	fmt.Fprintf(&b, "\n%s delivered + %s dead-lettered %s %s produced: lost %s\n",
		thousands(a.Delivered), thousands(a.DeadLettered), equal, thousands(a.Produced), thousands(a.Lost))
	_, err := w.Write(b.Bytes())
	return err
}

// thousands writes n with a comma between groups of three digits.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
