package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"weir/buffer"
)

// A list of gaps is text with a line for each, "FROM TO CLASS", in the order in
// which they were told. What a worker told that died before its commit comes
// again, perhaps cut otherwise, or, where the log has changed meanwhile, as
// something else: a later line counts where it contradicts an earlier one.

// AppendGap appends g's line.
func AppendGap(list []byte, g Gap) []byte {
	return fmt.Appendf(list, "%d %d %s\n", g.From, g.To, g.Class)
}

// GapTree is the tree that a list makes: the one that an undisturbed reading would
// have made. What is behind the last line break was not written to its end, and
// does not count.
func GapTree(o *buffer.Origin, list []byte) (TreeHead, error) {
	gaps, err := parseGaps(list)
	if err != nil {
		return TreeHead{}, err
	}
	var g Gaps
	enc := NewEncoder(o)
	for _, gap := range gaps {
		if err := g.Add(enc, gap); err != nil {
			return TreeHead{}, err
		}
	}
	closed := g.Closed(enc)
	return closed.tree.Head(), nil
}

// parseGaps reads a list, and returns its gaps in the order of their offsets, none
// over another.
func parseGaps(list []byte) ([]Gap, error) {
	list = list[:bytes.LastIndexByte(list, '\n')+1]
	var told []Gap
	for line := range strings.Lines(string(list)) {
		var g Gap
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		wrong := fmt.Errorf("line %d is not FROM TO CLASS", len(told)+1)
		if len(f) != 3 {
			return nil, wrong
		}
		var err [3]error
		g.From, err[0] = parseOffset(f[0])
		g.To, err[1] = parseOffset(f[1])
		err[2] = g.Class.UnmarshalText([]byte(f[2]))
		if errors.Join(err[:]...) != nil || g.From < 0 || g.To <= g.From {
			return nil, wrong
		}
		told = append(told, g)
	}
	for i := 1; i < len(told); i++ {
		if told[i].From < told[i-1].To {
			return override(told), nil
		}
	}
	return told, nil // as nearly always
}

// override cuts gaps where later ones lie over them. Each end of a gap is a place
// where another one may begin to count: at each of these the last one told is
// found.
func override(told []Gap) []Gap {
	ends := make([]int64, 0, 2*len(told))
	for _, g := range told {
		ends = append(ends, g.From, g.To)
	}
	slices.Sort(ends)
	ends = slices.Compact(ends)
	last := make([]int, len(ends)) // the gap that counts from there on, from 1
	// From the last told to the first: each place is taken once, and next leads past
	// those that are taken.
	next := make([]int, len(ends)+1)
	for i := range next {
		next[i] = i
	}
	free := func(i int) int {
		for next[i] != i {
			next[i] = next[next[i]]
			i = next[i]
		}
		return i
	}
	for i := len(told) - 1; i >= 0; i-- {
		from, _ := slices.BinarySearch(ends, told[i].From)
		to, _ := slices.BinarySearch(ends, told[i].To)
		for at := free(from); at < to; at = free(at) {
			last[at] = i + 1
			next[at] = at + 1
		}
	}
	var gaps []Gap
	for at, i := range last {
		if i > 0 {
			gaps = append(gaps, Gap{ends[at], ends[at+1], told[i-1].Class})
		}
	}
	return gaps
}

// GapFile is where the list of a partition's gaps is, if there is one.
func GapFile(topic string, partition int32) string {
	return fmt.Sprintf("%s%s/%d.txt", gapsIn, escape(topic), partition)
}
