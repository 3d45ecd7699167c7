// Package replay reads a bounded part of Kafka's log once more: the plan that
// says which part, the source that keeps to it and takes its evidence, and how
// much of the cluster and of the destination it may use. It knows no Kafka client
// and no destination.
package replay

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"weir/buffer/regular"
	"weir/connector/evidence"
)

// PlanVersion is the version of the plan files that this weir writes and reads.
const PlanVersion = 1

// Plan says what a case reads: it is made once and never changed. Its file is all
// that a worker needs beside a configuration.
type Plan struct {
	Version int       `json:"version"`
	Case    string    `json:"case"`
	Made    time.Time `json:"made"`
	Tool    string    `json:"tool"` // weir and its version
	// Cluster is the cluster's id, "" when the brokers report none.
	Cluster string `json:"cluster_id"`
	// The range is of record timestamps: From belongs to it, To does not.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Scan: reading begins at the logs' start, for producers whose batch headers
	// have mislead the time index.
	Scan bool `json:"scan"`
	// Slack, if it is not empty, is how long after To a record of the range may
	// have been written: reading ends at the first record that is at or after To +
	// Slack. Else it goes up to the end that the log had when the plan was made.
	Slack string `json:"slack"`
	// Rates are those that the times are estimated with, for one worker; 0: none.
	Rates  Rates                `json:"rates"`
	Topics evidence.List[Topic] `json:"topics"`
}

// Rates bound how fast a worker reads, 0: not at all.
type Rates struct {
	Bytes   int64 `json:"bytes_per_second"` // of keys, values and headers
	Records int64 `json:"records_per_second"`
}

// Topic is what is read of a topic.
type Topic struct {
	Name string `json:"name"`
	// ID is the topic's, in Kafka's text form; "" below Kafka 2.8.
	ID string `json:"id"`
	// Config is the topic's configuration when the plan was made, null when it could
	// not be asked for.
	Config     map[string]string        `json:"config"`
	Partitions evidence.List[Partition] `json:"partitions"`
}

// How the first offset to be read was found.
const (
	FoundIndex = "time index" // the log's: the first record at or after From
	FoundScan  = "scan"       // the log's start, as --scan says
	FoundStart = "log start"  // the range begins before the log does, or with it
	FoundEmpty = "empty"      // there is no record at or after From
	// The log's start: the time index names no record though there may be some.
	FoundSilent = "log start, index silent"
)

// How the offset behind the last one to be read was found.
const (
	EndHigh   = "high watermark"
	EndStable = "last stable offset" // a transaction is open behind it
	EndSlack  = "to + slack"
)

// Partition is what is read of a partition: offsets from First on and below End.
type Partition struct {
	Number int32  `json:"partition"`
	First  int64  `json:"first_offset"`
	End    int64  `json:"end_offset"`
	Found  string `json:"first_found_by"`
	Ended  string `json:"end_found_by"`
	// The log as it was. LocalStart is the first offset that the leader held
	// itself, null when it could not be asked for; what lies before it was in the
	// remote tier only.
	LogStart      int64  `json:"log_start_offset"`
	LocalStart    *int64 `json:"local_start_offset"`
	HighWatermark int64  `json:"high_watermark"`
	LastStable    int64  `json:"last_stable_offset"`
	// Open is the transaction that keeps LastStable below HighWatermark.
	Open *Transaction `json:"open_transaction"`
	// FirstTime is the time of the first record in the log, null when it has none.
	FirstTime *time.Time `json:"first_record_time"`
	// Taken are offsets before First that retention had removed and that may have
	// held records of the range; null when there are none.
	Taken *Span `json:"taken_by_retention"`
	// Remote is how many of the offsets to be read were in the remote tier only;
	// null: not known.
	Remote *int64 `json:"remote_offsets"`
	// Expires is when retention may begin to remove what is to be read; null: it
	// will not, or that depends on the size of the log.
	Expires *time.Time `json:"expires"`
	// Estimates; -1: nothing is known.
	Records int64 `json:"estimated_records"`
	Bytes   int64 `json:"estimated_bytes"`   // of keys and values
	InRange int64 `json:"estimated_matched"` // records of the range, if timestamps are in order
	// Misdated: batches were sampled whose headers tell earlier times than their
	// records have. The time index goes by the headers: see Scan.
	Misdated bool `json:"misdated_batches"`
}

// Span is a run of offsets: From belongs to it, To does not.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Transaction is one that was not decided when the plan was made.
type Transaction struct {
	Start    int64      `json:"first_offset"`
	Producer int64      `json:"producer_id"`
	Last     *time.Time `json:"last_record_time"`
	// Hanging: it has been open for longer than brokers let one be by default.
	Hanging bool `json:"hanging"`
}

// Offsets is how many offsets are to be read.
func (p *Partition) Offsets() int64 { return max(p.End-p.First, 0) }

// maxOpen is how long Kafka lets a transaction be open if nothing else was
// configured (transaction.max.timeout.ms).
const maxOpen = 15 * time.Minute

// IsHanging reports whether a transaction whose last record is of that time
// should have come to its end by now.
func IsHanging(last, now time.Time) bool { return !last.IsZero() && now.Sub(last) > maxOpen }

// Group is the consumer group that keeps how far a case has come.
func Group(caseID string) string { return "weir.rehydrate." + caseID }

// Group is the plan's.
func (p *Plan) Group() string { return Group(p.Case) }

// Mark is the short form of a plan's hash that stands in the commits. It is of the
// filter, too: with another one the evidence is another.
func Mark(plan evidence.Hash, filter string) string {
	if filter == "" {
		return evidence.PlanMark(plan)
	}
	return evidence.PlanMark(sha256.Sum256(append(plan[:], filter...)))
}

// Partition is what the plan says of a partition, nil when it says nothing.
func (p *Plan) Partition(topic string, number int32) (*Topic, *Partition) {
	for i := range p.Topics {
		if t := &p.Topics[i]; t.Name == topic {
			for j := range t.Partitions {
				if t.Partitions[j].Number == number {
					return t, &t.Partitions[j]
				}
			}
			return t, nil
		}
	}
	return nil, nil
}

// Names are the topics' names.
func (p *Plan) Names() []string {
	var names []string
	for i := range p.Topics {
		names = append(names, p.Topics[i].Name)
	}
	return names
}

// Total is what all partitions come to. Estimates of which one is not known are
// -1.
func (p *Plan) Total() Partition {
	remote := int64(0)
	t := Partition{Remote: &remote}
	add := func(to *int64, n int64) {
		if *to < 0 || n < 0 {
			*to = -1
			return
		}
		*to += n
	}
	for i := range p.Topics {
		for j := range p.Topics[i].Partitions {
			one := &p.Topics[i].Partitions[j]
			t.End += one.Offsets()
			add(&t.Records, one.Records)
			add(&t.Bytes, one.Bytes)
			add(&t.InRange, one.InRange)
			if one.Remote == nil {
				t.Remote = nil
			} else if t.Remote != nil {
				*t.Remote += *one.Remote
			}
		}
	}
	return t
}

// Takes is how long one worker takes for what is estimated, at the rates; 0 when
// there are none or nothing is known.
func (r Rates) Takes(records, bytes int64) time.Duration {
	var seconds float64
	if r.Records > 0 && records > 0 {
		seconds = float64(records) / float64(r.Records)
	}
	if r.Bytes > 0 && bytes > 0 {
		seconds = max(seconds, float64(bytes)/float64(r.Bytes))
	}
	return time.Duration(min(seconds, math.MaxInt64/float64(time.Second)/2) * float64(time.Second))
}

// Encode is the plan as it is written to a file.
func (p *Plan) Encode() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// maxPlan bounds a plan file: some hundred thousand partitions.
const maxPlan = 256 << 20

// ReadPlan reads a plan file. It returns what stands in it, too: the plan's hash is
// that of the file, as sha256sum prints it.
//
// Errors: it cannot be read, or is no plan of this version.
func ReadPlan(path string) (*Plan, []byte, error) {
	text, err := regular.Read(path, maxPlan)
	if err != nil {
		return nil, nil, fmt.Errorf("plan: %w", err)
	}
	p, err := DecodePlan(text)
	if err != nil {
		return nil, nil, fmt.Errorf("plan %s: %w", path, err)
	}
	return p, text, nil
}

// DecodePlan reads what Encode wrote.
func DecodePlan(text []byte) (*Plan, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, fmt.Errorf("it is no plan: %w", err)
	}
	if version.Version != PlanVersion {
		return nil, fmt.Errorf("it is of version %d, this weir reads version %d", version.Version, PlanVersion)
	}
	var p Plan
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("it is no plan: %w", err)
	}
	return &p, p.check()
}

// check says what is wrong with a plan.
func (p *Plan) check() error {
	if p.Version != PlanVersion {
		return fmt.Errorf("its version is %d and not %d", p.Version, PlanVersion)
	}
	if err := evidence.CheckCase(p.Case); err != nil {
		return err
	}
	if !p.From.Before(p.To) {
		return errors.New("its range is empty: from is not before to")
	}
	if len(p.Topics) == 0 {
		return errors.New("it has no topics")
	}
	if _, err := p.slack(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range p.Topics {
		t := &p.Topics[i]
		if t.Name == "" || seen[t.Name] {
			return fmt.Errorf("topic %q is there twice or has no name", t.Name)
		}
		seen[t.Name] = true
		numbers := map[int32]bool{}
		for j := range t.Partitions {
			one := &t.Partitions[j]
			switch {
			case one.Number < 0 || numbers[one.Number]:
				return fmt.Errorf("partition %d of topic %q is there twice, or is none", one.Number, t.Name)
			case one.First < 0 || one.End < one.First:
				return fmt.Errorf("partition %d of topic %q: from %d to %d are no offsets", one.Number, t.Name, one.First, one.End)
			case one.Taken != nil && (one.Taken.From < 0 || one.Taken.From >= one.Taken.To || one.Taken.To != one.First):
				return fmt.Errorf("partition %d of topic %q: what retention took does not end at its first offset", one.Number, t.Name)
			}
			numbers[one.Number] = true
		}
	}
	return nil
}

func (p *Plan) slack() (time.Duration, error) {
	if p.Slack == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(p.Slack)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("slack %q is no duration", p.Slack)
	}
	return d, nil
}

// Urgent are the partitions that retention will reach first, those whose time is
// known, the earliest first.
func (p *Plan) Urgent() []Due {
	var all []Due
	for i := range p.Topics {
		for j := range p.Topics[i].Partitions {
			if one := &p.Topics[i].Partitions[j]; one.Expires != nil && one.Offsets() > 0 {
				all = append(all, Due{p.Topics[i].Name, one.Number, *one.Expires})
			}
		}
	}
	slices.SortFunc(all, func(a, b Due) int {
		return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return all
}

// Due is when retention may begin to take a partition.
type Due struct {
	Topic     string
	Partition int32
	Expires   time.Time
}
