package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Class says why offsets hold no record.
type Class uint8

const (
	// Unexplained: nobody knows. The zero Class.
	Unexplained Class = iota
	// Control: the marker at the end of a transaction.
	Control
	// Aborted: records of a transaction that was aborted.
	Aborted
	// Compacted: the topic is compacted, and a later record has the key.
	Compacted
	// Retention: the log began behind them when they were to be read.
	Retention

	// Classes is how many there are.
	Classes = iota
)

var classNames = [Classes]string{"unexplained", "control", "aborted", "compacted", "retention"}

// classLetters stand for the names where room is short.
const classLetters = "ucakr"

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// MarshalText is the class's name.
func (c Class) MarshalText() ([]byte, error) {
	if c >= Classes {
		return nil, fmt.Errorf("no gap has %s", c)
	}
	return []byte(c.String()), nil
}

// UnmarshalText reads a class's name.
func (c *Class) UnmarshalText(text []byte) error {
	for i, name := range classNames {
		if name == string(text) {
			*c = Class(i)
			return nil
		}
	}
	return errors.New("not the class of a gap")
}

// Lost reports whether a gap of this class may hide records that were once there:
// these are listed one by one, not only counted.
func (c Class) Lost() bool { return c == Unexplained || c == Retention }

// Gap is a run of offsets without a record, all for the same reason.
type Gap struct {
	From  int64 `json:"from"`
	To    int64 `json:"to"` // exclusive
	Class Class `json:"class"`
}

// LastOffset is the last one of the gap.
func (g Gap) LastOffset() int64 { return g.To - 1 }

// ClassCounts has the number of offsets of each class.
type ClassCounts [Classes]uint64

// MarshalJSON is an object with a member a class.
func (c ClassCounts) MarshalJSON() ([]byte, error) {
	m := make(map[string]uint64, len(c))
	for i, n := range c {
		m[classNames[i]] = n
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads an object that has all classes and nothing else.
func (c *ClassCounts) UnmarshalJSON(text []byte) error {
	var m map[string]uint64
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	if len(m) != len(c) {
		return errors.New("not a count of every class of gaps")
	}
	for i, name := range classNames {
		n, ok := m[name]
		if !ok {
			return fmt.Errorf("the count of %s gaps is missing", name)
		}
		c[i] = n
	}
	return nil
}

// maxListed is how many of the gaps that may hide records are listed.
const maxListed = 8

// Gaps are the gaps of one partition, in offset order.
//
// Gaps of one class that touch are one, however they came in: the tree of a replay
// that was interrupted is that of one that was not. So the last gap stays open
// until one comes that it does not touch.
type Gaps struct {
	// Offsets without a record, by class.
	Offsets ClassCounts
	// Listed are the first gaps that may hide records (Class.Lost), at most
	// eight of them; Unlisted is how many more there were.
	Listed   []Gap
	Unlisted uint64

	tree Tree // without the open one
	open Gap  // empty: there is none
}

// Add adds a gap. Gaps come in the order of their offsets; adding one that begins
// before the last one's end is a bug of the caller.
func (g *Gaps) Add(e *Encoder, gap Gap) error {
	switch {
	case gap.To <= gap.From || gap.From < 0 || gap.Class >= Classes:
		return fmt.Errorf("evidence: from %d to %d (%s) is no gap", gap.From, gap.To, gap.Class)
	case gap.From < g.open.To:
		return fmt.Errorf("evidence: a gap from %d comes after one up to %d", gap.From, g.open.To)
	}
	g.Offsets[gap.Class] += uint64(gap.To - gap.From)
	if g.open.To == gap.From && g.open.Class == gap.Class && g.open.To > g.open.From {
		g.open.To = gap.To
		return nil
	}
	g.close(e)
	g.open = gap
	return nil
}

// close puts the open gap where it belongs.
func (g *Gaps) close(e *Encoder) {
	if g.open.To == g.open.From {
		return
	}
	g.tree.Append(e.Gap(g.open))
	if g.open.Class.Lost() {
		if len(g.Listed) < maxListed {
			g.Listed = append(g.Listed, g.open)
		} else {
			g.Unlisted++
		}
	}
	// Its end stays: nothing may come before it.
	g.open.From = g.open.To
}

// Clone is a copy that what is added to g does not reach.
func (g *Gaps) Clone() Gaps {
	c := *g
	c.tree = g.tree.Clone()
	c.Listed = append([]Gap(nil), g.Listed...)
	return c
}

// Closed is g as it is when nothing comes any more: with the open gap among the
// others.
func (g *Gaps) Closed(e *Encoder) Gaps {
	c := g.Clone()
	c.close(e)
	return c
}

// Size is the number of gaps in the tree, once g is Closed.
func (g *Gaps) Size() uint64 { return g.tree.Size() }

// Root is the hash of the tree, once g is Closed.
func (g *Gaps) Root() Hash { return g.tree.Root() }
