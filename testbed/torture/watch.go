package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"weir/testbed/broker"
	"weir/testbed/torture/account"
)

// watchCommits reads the group's offsets all the time and has each judged: what
// is committed must have been delivered before.
func (c *connector) watchCommits(ctx context.Context) {
	strange := map[string]int{} // commits for topics that we did not make: seen how many times
	for sleep(ctx, 50*time.Millisecond) {
		c.readCommits(ctx, strange)
	}
}

// strangeLooks is how many times a commit for an unknown topic is looked at before
// that is a violation.
const strangeLooks = 200

func (c *connector) readCommits(ctx context.Context, strange map[string]int) {
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// First the commits, then the account: the account may be ahead, never behind.
	commits, err := admin{c.round.admin}.commits(ask, c.group)
	if err != nil {
		return // the broker is down
	}
	for _, o := range commits {
		id := ""
		if f := strings.Fields(o.metadata); len(f) >= 2 {
			id = f[1]
		}
		key := o.topic + " " + id
		if c.account.Committed(o.topic, id, o.partition, o.offset) {
			delete(strange, key)
			continue
		}
		// A topic that was made this moment is entered into the account a little later.
		if strange[key]++; strange[key] == strangeLooks {
			c.account.Violation("%s/%d: offset %d is committed with %q, a topic that never was", o.topic, o.partition, o.offset, o.metadata)
		}
	}
	c.account.Looked()
	if c.account.Suspicious() {
		if ends, err := c.round.admin.Ends(ask, c.letters); err == nil {
			c.account.Ends(ends)
		}
	}
	c.account.Judge()
}

// watchLetters reads the dead-letter topic all the time.
func (c *connector) watchLetters(ctx context.Context) error {
	from := map[int32]kgo.Offset{}
	for p := range int32(letterPartitions) {
		from[p] = kgo.NewOffset().AtStart()
	}
	cl, err := broker.Dial(c.round.bed.kafka.addr,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.letters: from}),
		kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	go func() {
		defer cl.Close()
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
				d, id := letter(rec)
				c.account.Letter(rec.Partition, rec.Offset, d, id)
			})
		}
	}()
	return nil
}

// letter is what a dead letter says of itself.
func letter(rec *kgo.Record) (d account.Document, topicID string) {
	d = account.Document{Event: rec.Value, Number: numberOf(rec.Value), Partition: -1, Offset: -1}
	for _, h := range rec.Headers {
		v := string(h.Value)
		switch h.Key {
		case "weir.topic":
			d.Topic = v
		case "weir.topic_id":
			topicID = v
		case "weir.partition":
			n, _ := strconv.Atoi(v)
			d.Partition = int32(n)
		case "weir.offset":
			d.Offset, _ = strconv.ParseInt(v, 10, 64)
		}
	}
	return d, topicID
}

// numberOf reads the number that every value begins with; 0: it does not.
func numberOf(value []byte) int64 {
	s, _, _ := strings.Cut(strings.TrimPrefix(string(value), `{"n":`), ",")
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}
