package kafka

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// Start says where a group without a committed offset begins.
type Start struct {
	// Latest: behind the last record. Else at the first record at or after At, or,
	// with the zero At, at the first there is.
	Latest bool
	At     time.Time
}

// ParseStart reads earliest, latest or an RFC 3339 time.
func ParseStart(s string) (Start, error) {
	switch s {
	case "earliest", "":
		return Start{}, nil
	case "latest":
		return Start{Latest: true}, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return Start{}, fmt.Errorf("%q is neither earliest nor latest nor a time such as 2026-01-31T08:00:00Z", s)
	}
	return Start{At: at}, nil
}

func (s Start) String() string {
	switch {
	case s.Latest:
		return "latest"
	case s.At.IsZero():
		return "earliest"
	}
	return s.At.Format(time.RFC3339)
}

// offset is the offset that s means for a partition now.
func (s Start) offset(ctx context.Context, c *cluster, topic string, partition int32) (int64, error) {
	if !s.Latest && !s.At.IsZero() {
		offset, err := c.offsetAt(ctx, topic, partition, s.At.UnixMilli(), sarama.ReadUncommitted)
		if err != nil || offset >= 0 {
			return offset, err
		}
		// No record that late: what comes now is.
	} else if !s.Latest {
		return c.offsetAt(ctx, topic, partition, sarama.OffsetOldest, sarama.ReadUncommitted)
	}
	// Not behind records of a transaction that is still open: they are to come.
	return c.offsetAt(ctx, topic, partition, sarama.OffsetNewest, sarama.ReadCommitted)
}

// The metadata of our commits: which topic the offset belongs to, since a topic
// that is deleted and made again under its name begins at 0 while the group's
// offsets may stay; and whether its log had lost records that were committed.
const (
	markVersion   = "weir1"
	markTruncated = "truncated"
)

// mark is what the metadata of a commit says.
type mark struct {
	ours      bool
	topicID   string
	truncated bool
}

func (m mark) String() string {
	s := markVersion + " " + m.topicID
	if m.truncated {
		s += " " + markTruncated
	}
	return s
}

// parseMark reads a commit's metadata. Offsets that an operator set with Kafka's
// tools carry none of ours and are taken as they are.
func parseMark(metadata string) mark {
	f := strings.Split(metadata, " ")
	if len(f) < 2 || f[0] != markVersion {
		return mark{}
	}
	return mark{ours: true, topicID: f[1], truncated: len(f) > 2 && f[2] == markTruncated}
}

// stale reports whether the mark belongs to an earlier topic of the same name.
// Brokers below 2.8 have no topic ids: then it cannot be known.
func (m mark) stale(topicID string) bool {
	return m.ours && m.topicID != "" && topicID != "" && m.topicID != topicID
}

// Mark is what the metadata of a commit for a topic begins with.
func Mark(topicID string) string { return mark{topicID: topicID}.String() }
