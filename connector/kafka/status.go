package kafka

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/IBM/sarama"
)

// State says how far a group has come.
type State string

const (
	// StateConnecting: no broker has answered, or the group was not joined yet.
	StateConnecting State = "connecting"
	// StateWaiting: none of the topics exists.
	StateWaiting State = "waiting for topics"
	// StateJoined: the group was joined. That it has partitions is not said.
	StateJoined State = "joined"
)

// Status is a snapshot of a Group.
type Status struct {
	State State
	// Missing are the topics to read that do not exist or may not be read, by name.
	Missing []MissingTopic
	// Faults are what goes wrong with the brokers or the group now.
	Faults []Fault
	// Partitions are those assigned to this member, by topic and partition.
	Partitions []PartitionStatus
	Rebalances int64 // since Run
	// Lost counts offsets that retention removed before delivery, by partition,
	// since Run.
	Lost []LostRecords
	// Throttled: a broker makes us wait, by quota, until then. Waited is how long
	// all of them have since Run.
	Throttled time.Time
	Waited    time.Duration
	// Failures counts requests to read that failed as a whole, since Run.
	Failures int64
	// FetchHeld is the memory of what is fetched and not yet taken, FetchPeak the
	// most it ever was, both in bytes.
	FetchHeld, FetchPeak int64
}

// MissingTopic is a topic that is waited for.
type MissingTopic struct {
	Topic string
	Err   error
}

// Fault is something that goes wrong.
type Fault struct {
	What  string
	Err   error
	Since time.Time
}

// PartitionStatus says how a partition is doing.
type PartitionStatus struct {
	Topic     string
	Partition int32
	// Err is why nothing is read, nil while all is well; since Since.
	Err   error
	Since time.Time
}

// LostRecords says how many offsets of a partition retention removed before they
// were delivered.
type LostRecords struct {
	Topic     string
	Partition int32
	Offsets   int64
}

// Status says how the group is doing.
func (g *Group) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Status{State: StateConnecting}
	switch {
	case g.joined:
		s.State = StateJoined
		g.noteGeneration()
	case len(g.topics) == 0 && g.heard:
		s.State = StateWaiting
	}
	s.Rebalances = g.rebalances
	for name, err := range g.missing {
		if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
			err = g.cfg.Options.Explain(err)
		}
		s.Missing = append(s.Missing, MissingTopic{name, err})
	}
	slices.SortFunc(s.Missing, func(a, b MissingTopic) int { return cmp.Compare(a.Topic, b.Topic) })
	for what, f := range g.faults {
		if f.until.IsZero() || time.Now().Before(f.until) {
			s.Faults = append(s.Faults, Fault{What: what, Err: f.err, Since: f.since})
		}
	}
	for c := range g.claims {
		p := PartitionStatus{Topic: c.topic, Partition: c.partition, Err: c.trouble, Since: c.since}
		if p.Err == nil && c.reader != nil {
			p.Since, p.Err = c.reader.Trouble()
		}
		if p.Err == nil {
			p.Since = time.Time{}
		}
		s.Partitions = append(s.Partitions, p)
	}
	slices.SortFunc(s.Partitions, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for k, n := range g.lostBy {
		s.Lost = append(s.Lost, LostRecords{k.topic, k.partition, n})
	}
	slices.SortFunc(s.Lost, func(a, b LostRecords) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	if f := g.fetcher; f != nil {
		s.Faults = append(s.Faults, f.faults()...)
		f.mu.Lock()
		s.Throttled, s.Waited, s.Failures, s.FetchHeld, s.FetchPeak = f.throttled, f.waited, f.failures, f.held, f.peak
		f.mu.Unlock()
	}
	slices.SortFunc(s.Faults, func(a, b Fault) int { return cmp.Compare(a.What, b.What) })
	return s
}

// faults are what goes wrong with brokers that are read from.
func (f *fetcher) faults() (faults []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.leaders {
		if l.trouble != nil {
			faults = append(faults, Fault{What: "fetching from broker " + l.addr, Err: l.trouble, Since: l.since})
		}
	}
	return faults
}

// What can go wrong beside single partitions and brokers.
const (
	faultBrokers = "asking the brokers about the topics"
	faultGroup   = "joining the group"
	faultCommit  = "committing offsets"
)

type fault struct {
	err   error
	since time.Time
	until time.Time // it is over then, unless it comes again; zero: when it is said to be
}

// fault notes what goes wrong with something; nil: nothing any more. It is
// logged when it changes.
func (g *Group) fault(what string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, had := g.faults[what]
	switch {
	case err == nil:
		if what == faultBrokers {
			g.heard = true
		}
		if had {
			delete(g.faults, what)
			g.log.Info("works again", "what", what, "after", time.Since(old.since).Round(time.Millisecond))
		}
	case !had || !alike(old.err, err):
		since := time.Now()
		if had {
			since = old.since
		}
		g.faults[what] = fault{err: err, since: since}
		g.log.Warn("fails, trying again", "what", what, "group", g.cfg.Group, "err", err)
	}
}

// passingFor is how long a fault is shown that nobody says the end of.
const passingFor = 5 * time.Second

// passing notes a fault that is over when it does not come again.
func (g *Group) passing(what string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	old, had := g.faults[what]
	over := had && now.After(old.until)
	f := fault{err: err, since: now, until: now.Add(passingFor)}
	if had && !over {
		f.since = old.since
	}
	if !had || over || !alike(old.err, err) {
		g.log.Warn("fails, trying again", "what", what, "group", g.cfg.Group, "err", err)
	}
	g.faults[what] = f
}

// alike reports whether two errors say the same, numbers apart: the port at our
// end of a connection is another one at each attempt.
func alike(a, b error) bool {
	plain := func(err error) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsDigit(r) {
				return -1
			}
			return r
		}, err.Error())
	}
	return plain(a) == plain(b)
}
