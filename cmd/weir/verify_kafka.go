package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"log/slog"

	"weir/buffer"
	"weir/config"
	"weir/connector/evidence"
	"weir/connector/kafka"
	"weir/connector/replay"
)

// verifyKafka checks a case's manifest, and reads the records that it speaks of
// from Kafka again. What the log does not hold any more is told from what is not
// as it was. also, if there is one, is called with each partition that holds.
func verifyKafka(ctx context.Context, cfg *config.Config, log *slog.Logger, manifest string, key ed25519.PublicKey, also alsoCheck) (*verdict, error) {
	d, err := verifyManifest(ctx, manifest, key)
	if err != nil || d.manifest == nil {
		return d, err
	}
	d.What = "case in Kafka"
	m := d.manifest
	filter, err := replay.ParseFilter(m.Request.Filter)
	if err != nil {
		return nil, fmt.Errorf("the filter in the manifest: %w", err)
	}
	prepareProcess(cfg, log)
	of := cfg.Kafka
	of.ClientID = caseClientID(m.Case)
	options, err := kafkaOptions(of, log)
	if err != nil {
		return nil, err
	}
	there, err := options.Metadata(ctx, names(m.Topics)...)
	if err != nil {
		return nil, err
	}
	if there.ClusterID != m.Cluster {
		return nil, fmt.Errorf("this is cluster %q, and the case is of cluster %q: the configuration has to name the brokers of that one", there.ClusterID, m.Cluster)
	}
	for i := range m.Topics {
		t := &m.Topics[i]
		r := topicRead{d: d, m: m, topic: t, filter: filter, also: also}
		if err := r.open(ctx, options, int64(cfg.Memory)/fetchShare); err != nil {
			return nil, err
		}
		for j := range d.Partitions {
			if d.Partitions[j].Topic == t.Name {
				if err := r.partition(ctx, &d.Partitions[j]); err != nil {
					r.close()
					return nil, err
				}
			}
		}
		r.close()
	}
	return d, ctx.Err()
}

func names(topics []evidence.Topic) []string {
	var all []string
	for i := range topics {
		all = append(all, topics[i].Name)
	}
	return all
}

// topicRead reads the records of a topic's part of a case again.
type topicRead struct {
	d      *verdict
	m      *evidence.Manifest
	topic  *evidence.Topic
	filter *replay.Filter
	also   alsoCheck
	log    *kafka.Log // nil: the topic of the case is gone
}

func (r *topicRead) open(ctx context.Context, o kafka.Options, fetch int64) (err error) {
	r.log, err = kafka.OpenLog(ctx, o, r.topic.Name, fetch)
	switch {
	case errors.Is(err, kafka.ErrNoTopic):
		r.log, err = nil, nil
	case err == nil && r.log.ID != r.topic.ID:
		r.close() // made again: what the case is of is gone
	}
	return err
}

func (r *topicRead) close() {
	if r.log != nil {
		r.log.Close()
	}
	r.log = nil
}

// partition reads a partition's records again and checks them.
func (r *topicRead) partition(ctx context.Context, p *partitionVerdict) error {
	_, seal := r.m.Find(p.Topic, p.Partition)
	fault := func(format string, args ...any) {
		p.Holds = false
		place := fmt.Sprintf("topic %q, partition %d", p.Topic, p.Partition)
		r.d.Faults = append(r.d.Faults, evidence.Fault{Place: place, Problem: fmt.Sprintf(format, args...)})
	}
	if r.log == nil {
		fault("no longer retained: the topic of the case, whose id is %s, was deleted. Nothing can be said about its records", r.topic.ID)
		return nil
	}
	// What retention had taken before the case read anything is in its gaps.
	begin := seal.Start
	for _, g := range seal.Gaps.Listed {
		if g.Class == evidence.Retention && g.From == begin {
			begin = g.To
		}
	}
	start := int64(-1)
	for _, e := range r.log.Extents {
		if e.Partition == p.Partition {
			start = e.First
		}
	}
	stream := r.stream(ctx, p.Partition, max(begin, start), seal.End)
	faults := r.m.Check(p.Topic, p.Partition, stream, nil)
	p.RecordsRead = true
	switch {
	case len(faults) == 0 && r.also == nil:
	case len(faults) == 0:
		return r.also(r.d, p, stream)
	case start > begin:
		fault("no longer retained: the log begins at offset %d now, and the case was read from %d on. Without the records in between the root cannot be computed; nothing shows that one was changed", start, begin)
	default:
		p.Holds = false
		r.d.Faults = append(r.d.Faults, faults...)
		if kafka.Compacted(r.topic.Config) {
			fault("the topic is compacted: records that are missing may have been removed because newer ones have their keys")
		}
	}
	return nil
}

// errStopReading ends a reading that nobody wants more of.
var errStopReading = errors.New("enough")

// stream reads the records of a range that the case is of.
func (r *topicRead) stream(ctx context.Context, partition int32, from, end int64) evidence.Stream {
	return func() iter.Seq2[*buffer.Record, error] {
		return func(yield func(*buffer.Record, error) bool) {
			err := r.log.Read(ctx, partition, from, end, func(rec *buffer.Record) error {
				if rec.Time.Before(r.m.Request.From) || !rec.Time.Before(r.m.Request.To) {
					return nil
				}
				if r.filter != nil {
					if ok, err := r.filter.Match(rec); err == nil && !ok {
						return nil // one that it fails on counts as wanted, as when it was read
					}
				}
				if !yield(rec, nil) {
					return errStopReading
				}
				return nil
			})
			if err != nil && !errors.Is(err, errStopReading) {
				yield(nil, err)
			}
		}
	}
}
