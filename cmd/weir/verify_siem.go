package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"
	"strings"

	"weir/buffer"
	"weir/config"
	"weir/connector"
	"weir/connector/evidence"
	"weir/connector/redrive"
	"weir/connector/replay"
	"weir/connector/transform"
	"weir/sinks/elastic"
)

// siemCheck compares what an Elasticsearch or OpenSearch holds with the records of
// a case, one partition after the other. Both come in the order of their offsets,
// so that nothing is held but the documents of a page, and digests of records that
// are to be looked for by id.
type siemCheck struct {
	ctx              context.Context
	file             string // of cfg
	cfg              *config.Config
	log              *slog.Logger
	connector, index string

	sink   *elastic.Sink
	stored *elastic.Stored
	doc    *elastic.Document
	decode connector.Transform
	found  *siemVerdict

	letters   map[string]map[int64]bool // offsets by partition; nil: not known
	ids       map[string]bool           // what the ids of the case's documents begin with
	accounted int64                     // documents that are those of a record
	unchecked bool                      // a partition was left out
}

// siemVerdict is what was found in the destination; its JSON form is documented.
type siemVerdict struct {
	Index     string `json:"index"`
	Documents int64  `json:"documents"`
	// Match are the records whose documents are there and hold what they should.
	Match     int64     `json:"match"`
	Missing   siemClass `json:"missing"`
	Altered   siemClass `json:"altered"`
	Duplicate siemClass `json:"duplicate"` // records with more than one document
	Foreign   siemClass `json:"foreign"`   // documents of no record of the case
	// DeadLettered are those that are not there, and of which a dead letter is.
	DeadLettered int64 `json:"dead_lettered"`
	// NotStored is how many more the manifest says the destination did not take:
	// stored aside, and dead-lettered where the letters could not be read. Missing
	// ones may be these.
	NotStored int64    `json:"not_stored"`
	Notes     []string `json:"notes"`
}

// siemClass is a number of records, or documents, and the first of them.
type siemClass struct {
	Count int64    `json:"count"`
	Named []string `json:"named"`
}

// maxSIEMNamed is how many of a class are named.
const maxSIEMNamed = 20

func (c *siemClass) add(format string, args ...any) {
	c.Count++
	if len(c.Named) < maxSIEMNamed {
		c.Named = append(c.Named, fmt.Sprintf(format, args...))
	}
}

func (c *siemClass) String() string {
	if len(c.Named) == 0 {
		return fmt.Sprint(c.Count)
	}
	more := ""
	if n := c.Count - int64(len(c.Named)); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%d: %s%s", c.Count, strings.Join(c.Named, ", "), more)
}

// open looks at the destination of m's case.
func (c *siemCheck) open(m *evidence.Manifest) error {
	var err error
	cfg := c.cfg
	name := c.connector
	if name == "" {
		name = m.Request.Connector
	}
	if name == "" {
		return usageError{errors.New("the manifest does not say that the case went to a connector's sink: give --connector")}
	}
	i := slices.IndexFunc(cfg.Connectors, func(one config.Connector) bool { return one.Name == name })
	if i < 0 {
		return usageError{fmt.Errorf("%s has no connector %q, whose sink the case went to: give --connector", c.file, name)}
	}
	one := cfg.Connectors[i]
	if one.Sink.Elasticsearch == nil {
		return usageError{fmt.Errorf("connector %q writes to no Elasticsearch or OpenSearch: only these can be asked", name)}
	}
	index := c.index
	if index == "" {
		if index, err = caseIndexOf(m.Request.Destination); err != nil {
			return usageError{err}
		}
	}
	if err := caseIndex(&one, m.Case, index); err != nil {
		return err
	}
	if c.decode, err = transform.Decode(one.Decode.Format); err != nil {
		return err
	}
	if c.sink, err = newElastic(one, nil); err != nil {
		return err
	}
	c.found = &siemVerdict{Index: index, Notes: []string{}}
	for _, class := range []*siemClass{&c.found.Missing, &c.found.Altered, &c.found.Duplicate, &c.found.Foreign} {
		class.Named = []string{}
	}
	c.doc, c.ids = c.sink.NewDocument(), map[string]bool{}
	for i := range m.Topics {
		for _, p := range m.Topics[i].Partitions {
			c.ids[idStart(elastic.DocumentID(m.Origin(&m.Topics[i], p.Partition), 0))] = true
		}
	}
	if c.stored, err = c.sink.Store(c.ctx); err != nil {
		return fmt.Errorf("index %q of connector %q: %w", index, name, err)
	}
	note := func(format string, args ...any) { c.found.Notes = append(c.found.Notes, fmt.Sprintf(format, args...)) }
	if c.stored.Unrefreshed != "" {
		note("%s", c.stored.Unrefreshed)
	}
	if c.stored.Absent {
		note("there is no such index")
	}
	if !c.stored.Searchable() {
		note("the index has no fields to find documents by their coordinates (coordinates: false, or no index template of weir's): each record was looked for by its id, and one that is there twice counts as a document of no record")
	}
	if p := one.Sink.Elasticsearch.Pipeline; p != "" {
		note("the connector names the ingest pipeline %q: what it changes counts as altered", p)
	}
	if err := c.readLetters(cfg, m, name); err != nil {
		if c.ctx.Err() != nil {
			return err
		}
		note("the dead letters could not be read, so it is not known which records they are: %v", err)
	}
	return nil
}

// maxLetters is how many dead letters of a case are told apart.
const maxLetters = 1 << 20

// readLetters finds out which records of the case are dead letters.
func (c *siemCheck) readLetters(cfg *config.Config, m *evidence.Manifest, name string) error {
	var n uint64
	for i := range m.Topics {
		for _, p := range m.Topics[i].Partitions {
			n += p.Counts.DeadLettered
		}
	}
	switch {
	case n == 0:
		return nil
	case n > maxLetters:
		return fmt.Errorf("there are %d, and no more than %d are looked at", n, maxLetters)
	}
	all, err := openLetters(c.ctx, cfg, c.log, func(one config.Connector) bool { return one.Name == name })
	if err != nil {
		return err
	}
	defer closeLetters(all)
	known := map[string]map[int64]bool{}
	found := 0
	for _, l := range all {
		err := l.each(c.ctx, func(rec *buffer.Record) error {
			letter, err := redrive.Parse(rec)
			if err != nil || letter.Connector != replay.Group(m.Case) {
				return nil
			}
			at := partitionName(letter.Record.Topic, letter.Record.Partition)
			if known[at] == nil {
				known[at] = map[int64]bool{}
			}
			if found++; found > 2*maxLetters {
				return errors.New("there are more than the case had")
			}
			known[at][letter.Record.Offset] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	c.letters = known
	return nil
}

func partitionName(topic string, partition int32) string {
	return fmt.Sprintf("%s/%d", topic, partition)
}

// caseIndexOf is the index in what the manifest says of where the records went.
func caseIndexOf(destination string) (string, error) {
	var found []string
	for one := range strings.SplitSeq(destination, ", ") {
		rest, ok := strings.CutPrefix(one, "index ")
		index, _, _ := strings.Cut(rest, " and bag ")
		if ok && !slices.Contains(found, index) {
			found = append(found, index)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("the manifest names %d indices that the case went to (%q): give --index", len(found), destination)
	}
	return found[0], nil
}

func (c *siemCheck) close() {
	if c.stored != nil {
		c.stored.Close()
	}
	if c.sink != nil {
		c.sink.Close()
	}
}

// idStart is an id without the offset at its end.
func idStart(id string) string { return id[:strings.LastIndexByte(id, ':')+1] }

// partition compares a partition whose records hold.
func (c *siemCheck) partition(d *verdict, p *partitionVerdict, records evidence.Stream) error {
	if c.stored == nil {
		if err := c.open(d.manifest); err != nil {
			return err
		}
	}
	t, seal := d.manifest.Find(p.Topic, p.Partition)
	j := &siemJoin{c: c, origin: d.manifest.Origin(t, p.Partition), seal: seal}
	c.found.NotStored += int64(seal.Counts.Quarantined)
	if c.letters == nil {
		c.found.NotStored += int64(seal.Counts.DeadLettered)
	}
	j.letters = c.letters[partitionName(p.Topic, p.Partition)]
	j.begin()
	defer func() { j.stop() }()
	err := records.InOrder(j.want, func() { j.stop(); j.begin() }, j.add)
	if err == nil {
		err = j.end()
	}
	return err
}

// end is called when all partitions were compared.
func (c *siemCheck) end(d *verdict) error {
	if d.manifest == nil {
		return nil
	}
	fault := func(format string, args ...any) {
		d.Faults = append(d.Faults, evidence.Fault{Place: "the destination", Problem: fmt.Sprintf(format, args...)})
	}
	for i := range d.Partitions {
		c.unchecked = c.unchecked || !d.Partitions[i].Holds
	}
	if c.stored == nil {
		fault("nothing was compared: there is no partition whose records hold")
		return nil
	}
	f := c.found
	d.SIEM = f
	var err error
	if f.Documents, err = c.stored.Count(c.ctx); err != nil {
		return err
	}
	if c.unchecked {
		f.Foreign = siemClass{Named: []string{}}
		fault("the documents of partitions whose records could not be read as they were are not compared")
	} else if err := c.foreign(d.manifest); err != nil {
		return err
	}
	if n := f.Missing.Count; n > f.NotStored {
		of := ""
		if f.NotStored > 0 {
			of = fmt.Sprintf(", of which at most %d were dead-lettered or stored aside", f.NotStored)
		}
		fault("%d records are missing%s: %s", n, of, strings.Join(f.Missing.Named, ", "))
	}
	for _, one := range []struct {
		class *siemClass
		what  string
	}{{&f.Altered, "records are not what was delivered"}, {&f.Duplicate, "records are there more than once"}, {&f.Foreign, "documents are of no record of the case"}} {
		if one.class.Count > 0 {
			fault("%d %s: %s", one.class.Count, one.what, strings.Join(one.class.Named, ", "))
		}
	}
	return nil
}

// foreign counts the documents that are those of no record: all but those that are.
func (c *siemCheck) foreign(m *evidence.Manifest) error {
	f := c.found
	f.Foreign.Count = max(f.Documents-c.accounted, 0)
	f.Foreign.Named = f.Foreign.Named[:min(int64(len(f.Foreign.Named)), f.Foreign.Count)]
	if f.Foreign.Count == int64(len(f.Foreign.Named)) || len(f.Foreign.Named) == maxSIEMNamed {
		return nil
	}
	partitions := map[string][]int32{}
	for i := range m.Topics {
		for _, p := range m.Topics[i].Partitions {
			partitions[m.Topics[i].Name] = append(partitions[m.Topics[i].Name], p.Partition)
		}
	}
	others, err := c.stored.Others(c.ctx, partitions)
	if err != nil {
		return err
	}
	for _, o := range others {
		if int64(len(f.Foreign.Named)) < min(f.Foreign.Count, maxSIEMNamed) && !c.ids[idStart(o.ID)] {
			f.Foreign.Named = append(f.Foreign.Named, fmt.Sprintf("%s/_doc/%s", o.Index, o.ID))
		}
	}
	return nil
}

// siemJoin walks along the records of a partition and the documents that have its
// coordinates.
type siemJoin struct {
	c      *siemCheck
	origin *buffer.Origin
	seal   *evidence.PartitionSeal
	// letters are the offsets whose records are dead letters.
	letters map[int64]bool

	next    func() (elastic.Found, error, bool)
	halt    func()
	at      elastic.Found // the next document
	more    bool          // there is one
	last    int64         // record
	wanted  []wantedDocument
	before  siemVerdict // as it was at the beginning
	counted int64
}

// wantedDocument is a record that has no document with its coordinates.
type wantedDocument struct {
	offset int64
	digest evidence.Hash
}

// begin begins with the partition.
func (j *siemJoin) begin() {
	c := j.c
	if j.halt == nil {
		j.before, j.counted = *c.found, c.accounted
	} else {
		*c.found, c.accounted = j.before, j.counted
	}
	j.last, j.wanted = -1, nil
	j.next, j.halt = iter.Pull2(func(yield func(elastic.Found, error) bool) {
		if !c.stored.Searchable() {
			return
		}
		err := c.stored.Partition(c.ctx, j.origin.Topic, j.origin.Partition, j.seal.Start, j.seal.End, func(f elastic.Found) error {
			if !yield(f, nil) {
				return errStopReading
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopReading) {
			yield(elastic.Found{}, err)
		}
	})
	j.more = true
	j.at.Offset = -1 // before the first
}

func (j *siemJoin) stop() { j.halt() }

// step goes on to the next document.
func (j *siemJoin) step() (err error) {
	j.at, err, j.more = j.next()
	return err
}

// notWritten stands for the digest of a record that the sink writes nothing of.
var notWritten = evidence.Hash{1}

// want is the digest of what the sink writes of a record.
func (j *siemJoin) want(r *buffer.Record) evidence.Hash {
	one := *r
	if _, err := j.c.decode(&one); err != nil {
		return notWritten
	}
	h, err := j.c.doc.Of(&one)
	if err != nil {
		return notWritten
	}
	return evidence.Hash(h)
}

// add takes the next record.
func (j *siemJoin) add(offset int64, want evidence.Hash) error {
	if offset == j.last {
		return nil // a bag may hold it twice
	}
	j.last = offset
	same, err := j.skipTo(offset)
	if err != nil {
		return err
	}
	if len(same) > 0 {
		j.compare(offset, want, same)
		return nil
	}
	if slices.ContainsFunc(j.seal.Gaps.Listed, func(g evidence.Gap) bool { return offset >= g.From && offset < g.To }) {
		return nil // the bag has it, and nobody says that the destination does
	}
	j.wanted = append(j.wanted, wantedDocument{offset, want})
	if len(j.wanted) == wantedAtATime {
		return j.lookUp()
	}
	return nil
}

// wantedAtATime is how many documents are looked for by id at a time.
const wantedAtATime = 500

// skipTo are the documents with that offset. Those before it are of no record.
func (j *siemJoin) skipTo(offset int64) (same []elastic.Found, err error) {
	for j.more && j.at.Offset <= offset {
		if f := j.at; f.Offset >= 0 && !j.elsewhere(f) {
			if f.Offset == offset {
				same = append(same, f)
			} else {
				j.c.found.Foreign.add("%s/_doc/%s (%s)", f.Index, f.ID, j.name(f.Offset))
			}
		}
		if err := j.step(); err != nil {
			return nil, err
		}
	}
	return same, nil
}

// elsewhere reports whether a document has the id of another record of the case
// than its coordinates say. It is found when that one is looked for.
func (j *siemJoin) elsewhere(f elastic.Found) bool {
	return f.ID != elastic.DocumentID(j.origin, f.Offset) && j.c.ids[idStart(f.ID)]
}

func (j *siemJoin) name(offset int64) string {
	return fmt.Sprintf("%s/%d/%d", j.origin.Topic, j.origin.Partition, offset)
}

// compare compares the documents of a record, at least one, with what they should
// be.
func (j *siemJoin) compare(offset int64, want evidence.Hash, docs []elastic.Found) {
	c := j.c
	c.accounted += int64(len(docs))
	if len(docs) > 1 {
		c.found.Duplicate.add("%s", j.name(offset))
	}
	why := ""
	for _, f := range docs {
		switch {
		case f.Unread != nil:
			why = " (" + f.Unread.Error() + ")"
		case evidence.Hash(f.Digest) == want:
			continue
		}
		c.found.Altered.add("%s%s", j.name(offset), why)
		return
	}
	c.found.Match++
}

// lookUp looks for the wanted documents by their ids.
func (j *siemJoin) lookUp() error {
	wanted := j.wanted
	j.wanted = wanted[:0]
	for part := range slices.Chunk(wanted, wantedAtATime) {
		ids := make([]string, len(part))
		for i, w := range part {
			ids[i] = elastic.DocumentID(j.origin, w.offset)
		}
		found, err := j.c.stored.ByID(j.c.ctx, ids)
		if err != nil {
			return err
		}
		by := map[string][]elastic.Found{}
		for _, f := range found {
			by[f.ID] = append(by[f.ID], f)
		}
		for i, w := range part {
			switch docs := by[ids[i]]; {
			case len(docs) > 0:
				j.compare(w.offset, w.digest, docs)
			case j.letters[w.offset]:
				j.c.found.DeadLettered++
			default:
				j.c.found.Missing.add("%s", j.name(w.offset))
			}
		}
	}
	return nil
}

// end takes what is left when all records were added.
func (j *siemJoin) end() error {
	if _, err := j.skipTo(math.MaxInt64); err != nil {
		return err
	}
	return j.lookUp()
}

// print is s for people.
func (s *siemVerdict) print(row func(name, format string, args ...any)) {
	row("index", "%s, %d documents", s.Index, s.Documents)
	row("match", "%d", s.Match)
	missing := s.Missing.String()
	if s.Missing.Count > 0 && s.NotStored > 0 {
		missing += fmt.Sprintf(", of which at most %d were dead-lettered or stored aside", s.NotStored)
	}
	if s.DeadLettered > 0 {
		row("dead letters", "%d, which are not in the index", s.DeadLettered)
	}
	row("missing", "%s", missing)
	row("altered", "%s", &s.Altered)
	row("duplicate", "%s", &s.Duplicate)
	row("foreign", "%s", &s.Foreign)
	row("", "documents are compared as JSON values, numbers exactly: a server may write a _source anew")
	for _, n := range s.Notes {
		row("note", "%s", n)
	}
}
