package evidence

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"weir/buffer"
)

// Counts are numbers of records, and of bytes where a name says so.
type Counts struct {
	Read         uint64 `json:"read"`          // matched + outside + filtered
	Matched      uint64 `json:"matched"`       // the leaves of the tree
	Outside      uint64 `json:"outside"`       // of the time range
	Filtered     uint64 `json:"filtered"`      // --filter said no
	FilterErrors uint64 `json:"filter_errors"` // --filter failed on them: they are among the matched
	Bytes        uint64 `json:"bytes"`         // of key, value and headers of the matched

	// What became of the matched.
	Delivered    uint64 `json:"delivered"`
	Duplicates   uint64 `json:"duplicates"`    // the destination had them already
	Quarantined  uint64 `json:"quarantined"`   // stored aside by the destination
	DeadLettered uint64 `json:"dead_lettered"` //
	Dropped      uint64 `json:"dropped"`       // by a transform of the connector
}

// fields are all counts, in the order of their text.
func (c *Counts) fields() []*uint64 {
	return []*uint64{&c.Read, &c.Matched, &c.Outside, &c.Filtered, &c.FilterErrors, &c.Bytes,
		&c.Delivered, &c.Duplicates, &c.Quarantined, &c.DeadLettered, &c.Dropped}
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	from := o.fields()
	for i, n := range c.fields() {
		*n += *from[i]
	}
}

// Settled is the number of records that something became of.
func (c *Counts) Settled() uint64 {
	return c.Delivered + c.Duplicates + c.Quarantined + c.DeadLettered + c.Dropped
}

// Progress is how far a partition's replay has come, with its evidence: all that
// is needed to go on, and, at the end, to seal.
type Progress struct {
	// Plan is the short hash of the plan (PlanMark).
	Plan string
	// Next is the offset behind the last one that the rest speaks of.
	Next   int64
	Counts Counts
	// First and Last are the earliest and the latest timestamp of a matched record,
	// in ms since 1970; -1 and -1 while none has one.
	First, Last int64

	records Tree
	gaps    Gaps
}

// Partition is the evidence of one partition while it is read. Not safe for
// concurrent use.
type Partition struct {
	Progress
	// OnGap is told of every gap as it is added, for whoever keeps a list of them; it
	// may come again after an interruption, cut otherwise. Nil: nobody does.
	OnGap func(Gap)

	enc *Encoder
}

// Start is the evidence of a partition of which nothing was read yet; reading
// begins at the offset start.
func Start(o *buffer.Origin, plan string, start int64) *Partition {
	return Resume(o, Progress{Plan: plan, Next: start, First: -1, Last: -1})
}

// Resume goes on from p.
func Resume(o *buffer.Origin, p Progress) *Partition {
	return &Partition{Progress: p.Clone(), enc: NewEncoder(o)}
}

// Match adds a record that is in the time range and passes the filter, if there is
// one. It counts it as read and matched.
//
// Errors: its offset lies before Next, a bug of the caller.
func (p *Partition) Match(r *buffer.Record) error {
	if err := p.pass(r); err != nil {
		return err
	}
	p.records.Append(p.enc.Record(r))
	p.count(r)
	return nil
}

// count counts a matched record.
func (p *Progress) count(r *buffer.Record) {
	p.Counts.Matched++
	p.Counts.Bytes += uint64(ContentBytes(r))
	if at := millis(r); at >= 0 {
		if p.First < 0 || at < p.First {
			p.First = at
		}
		p.Last = max(p.Last, at)
	}
}

// Outside counts a record that was read and is not in the time range.
func (p *Partition) Outside(r *buffer.Record) error {
	if err := p.pass(r); err != nil {
		return err
	}
	p.Counts.Outside++
	return nil
}

// Filter counts a record that was read and that the filter said no to.
func (p *Partition) Filter(r *buffer.Record) error {
	if err := p.pass(r); err != nil {
		return err
	}
	p.Counts.Filtered++
	return nil
}

// Gap adds offsets that hold no record, and counts them by class.
func (p *Partition) Gap(g Gap) error {
	if g.From < p.Next {
		return fmt.Errorf("evidence: a gap from %d, which is before %d", g.From, p.Next)
	}
	if err := p.gaps.Add(p.enc, g); err != nil {
		return err
	}
	p.Next = g.To
	if p.OnGap != nil {
		p.OnGap(g)
	}
	return nil
}

func (p *Partition) pass(r *buffer.Record) error {
	if r.Offset < p.Next {
		return fmt.Errorf("evidence: offset %d comes after %d", r.Offset, p.Next-1)
	}
	p.Next = r.Offset + 1
	p.Counts.Read++
	return nil
}

// Snapshot is the progress as it is now.
func (p *Partition) Snapshot() Progress { return p.Progress.Clone() }

// ContentBytes is the length of r's key, value and headers.
func ContentBytes(r *buffer.Record) int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// Clone is a copy that what is added to p does not reach.
func (p Progress) Clone() Progress {
	p.records, p.gaps = p.records.Clone(), p.gaps.Clone()
	return p
}

// Records is the tree of the matched records.
func (p *Progress) Records() Tree { return p.records }

// Gaps are the gaps so far.
func (p *Progress) Gaps() *Gaps { return &p.gaps }

// PlanMark is the part of a plan's hash that stands in the commits.
func PlanMark(plan Hash) string { return plan.String()[:16] }

// The text of a progress: the mark that it was given, then
//
//	e1 p=PLAN n=NEXT c=COUNTS t=FIRST,LAST r=TREE g=TREE k=COUNTS x=GAPS u=N o=GAP s=CRC
//
// c are the Counts in their order; r and g the trees of the records and of the
// gaps; k the offsets by class; x the listed gaps, each FROM-TO and a
// letter for its class (u unexplained, c control, a aborted, k compacted,
// r retention), with commas between them, u how many were not listed; o the
// open gap; s the CRC-32C of everything before it, in hexadecimal.
const (
	progressStart = " e1 "
	progressKeys  = "pnctrgkxuo"
	progressEnd   = " s="
)

// MaxText bounds the text of a progress that is read.
const MaxText = 16 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode is p as the metadata of a commit, behind mark, the text that such
// metadata begins with. It is long by the size of the trees: see LongestText.
func (p *Progress) Encode(mark string) string {
	var b strings.Builder
	b.WriteString(mark)
	b.WriteString(strings.TrimSuffix(progressStart, " "))
	gap := func(g Gap) string {
		return strconv.FormatInt(g.From, 10) + "-" + strconv.FormatInt(g.To, 10) + classLetters[g.Class:g.Class+1]
	}
	var listed []string
	for _, g := range p.gaps.Listed {
		listed = append(listed, gap(g))
	}
	counts := func(numbers []*uint64) string {
		var s []string
		for _, n := range numbers {
			s = append(s, strconv.FormatUint(*n, 10))
		}
		return strings.Join(s, ",")
	}
	var classes []*uint64
	for i := range p.gaps.Offsets {
		classes = append(classes, &p.gaps.Offsets[i])
	}
	for i, value := range []string{
		p.Plan, strconv.FormatInt(p.Next, 10), counts(p.Counts.fields()),
		strconv.FormatInt(p.First, 10) + "," + strconv.FormatInt(p.Last, 10),
		p.records.String(), p.gaps.tree.String(), counts(classes),
		strings.Join(listed, ","), strconv.FormatUint(p.gaps.Unlisted, 10), gap(p.gaps.open),
	} {
		b.WriteByte(' ')
		b.WriteByte(progressKeys[i])
		b.WriteByte('=')
		b.WriteString(value)
	}
	fmt.Fprintf(&b, "%s%08x", progressEnd, crc32.Checksum([]byte(b.String()), castagnoli))
	return b.String()
}

// LongestText is how long Encode's text can get, with a mark of that many bytes,
// for a partition of which n offsets are read. A broker takes metadata of
// offset.metadata.max.bytes only, 4096 if nothing else was said.
func LongestText(mark int, n int64) int {
	// A record and a gap take an offset each at least: the trees share n, and a
	// tree has as many hashes as its size has ones.
	hashes := 2 * bits.Len64(uint64(max(n, 1))/2+1)
	const number = 20
	return mark + len(" e1") + len(progressKeys)*len(" p=") + len(progressEnd) + 8 +
		16 + number + // plan, next
		11*(number+1) + 2*(number+1) + // counts, times
		2*(number+1) + encoding.EncodedLen(hashes*len(Hash{})) + 2 + // trees
		Classes*(number+1) + maxListed*(2*number+2) + number + 2*number + 2
}

// ErrNoProgress says that the metadata of a commit holds no progress of a replay.
var ErrNoProgress = errors.New("the commit holds no progress of a replay")

// DecodeProgress reads the metadata of a commit: the mark in front, and the
// progress.
//
// Errors: ErrNoProgress; what is there is damaged.
func DecodeProgress(metadata string) (mark string, p Progress, err error) {
	mark, rest, ok := strings.Cut(metadata, progressStart)
	if !ok {
		return metadata, Progress{}, ErrNoProgress
	}
	if len(metadata) > MaxText {
		return mark, Progress{}, fmt.Errorf("the progress in the commit is longer than %d bytes", MaxText)
	}
	whole, sum, ok := cutLast(metadata, progressEnd)
	if !ok || sum != fmt.Sprintf("%08x", crc32.Checksum([]byte(whole), castagnoli)) {
		return mark, Progress{}, errors.New("the progress in the commit is damaged: its checksum is wrong")
	}
	fields := strings.Split(strings.TrimSuffix(rest, progressEnd+sum), " ")
	if len(fields) != len(progressKeys) {
		return mark, Progress{}, fmt.Errorf("the progress in the commit has %d fields and not %d", len(fields), len(progressKeys))
	}
	for i, f := range fields {
		value, ok := strings.CutPrefix(f, progressKeys[i:i+1]+"=")
		if !ok {
			return mark, Progress{}, fmt.Errorf("field %d of the progress in the commit is not %c", i+1, progressKeys[i])
		}
		if err := p.decode(progressKeys[i], value); err != nil {
			return mark, Progress{}, fmt.Errorf("field %c of the progress in the commit: %w", progressKeys[i], err)
		}
	}
	return mark, p, nil
}

func (p *Progress) decode(key byte, value string) (err error) {
	switch key {
	case 'p':
		if len(value) != 16 || strings.Trim(value, "0123456789abcdef") != "" {
			return errors.New("not 16 hexadecimal digits")
		}
		p.Plan = value
	case 'n':
		if p.Next, err = parseOffset(value); err == nil && p.Next < 0 {
			err = errors.New("below zero")
		}
	case 'c':
		err = decodeCounts(value, p.Counts.fields())
	case 't':
		first, last, ok := strings.Cut(value, ",")
		if !ok {
			return errors.New("not two times")
		}
		if p.First, err = parseOffset(first); err == nil {
			p.Last, err = parseOffset(last)
		}
	case 'r':
		p.records, err = ParseTree(value)
	case 'g':
		p.gaps.tree, err = ParseTree(value)
	case 'k':
		var classes []*uint64
		for i := range p.gaps.Offsets {
			classes = append(classes, &p.gaps.Offsets[i])
		}
		err = decodeCounts(value, classes)
	case 'x':
		if value == "" {
			return nil
		}
		for s := range strings.SplitSeq(value, ",") {
			g, err := decodeGap(s)
			if err != nil {
				return err
			}
			if len(p.gaps.Listed) == maxListed {
				return fmt.Errorf("more than %d gaps", maxListed)
			}
			p.gaps.Listed = append(p.gaps.Listed, g)
		}
	case 'u':
		p.gaps.Unlisted, err = parseCount(value)
	case 'o':
		p.gaps.open, err = decodeGap(value)
	}
	return err
}

func decodeCounts(value string, into []*uint64) error {
	numbers := strings.Split(value, ",")
	if len(numbers) != len(into) {
		return fmt.Errorf("%d numbers and not %d", len(numbers), len(into))
	}
	for i, s := range numbers {
		n, err := parseCount(s)
		if err != nil {
			return fmt.Errorf("number %d is none", i+1)
		}
		*into[i] = n
	}
	return nil
}

func decodeGap(s string) (Gap, error) {
	var g Gap
	wrong := errors.New("not a gap")
	if s == "" {
		return g, wrong
	}
	class := strings.IndexByte(classLetters, s[len(s)-1])
	from, to, ok := strings.Cut(s[:len(s)-1], "-")
	if class < 0 || !ok {
		return g, wrong
	}
	g.Class = Class(class)
	var err error
	if g.From, err = parseOffset(from); err != nil || g.From < 0 {
		return g, wrong
	}
	if g.To, err = parseOffset(to); err != nil || g.To < g.From {
		return g, wrong
	}
	return g, nil
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Times are the earliest and the latest timestamp of a matched record; false: none
// has one.
func (p *Progress) Times() (first, last time.Time, ok bool) {
	return time.UnixMilli(p.First).UTC(), time.UnixMilli(p.Last).UTC(), p.First >= 0
}
