package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"weir/buffer"
	"weir/connector"
)

func openLog(t *testing.T, o Options, topic string) *Log {
	t.Helper()
	l, err := OpenLog(t.Context(), o, topic, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestLogIsReadFromEndToEnd(t *testing.T) {
	_, o := fakeCluster(t, kfake.NumBrokers(2), kfake.ClusterID("c-1"), kfake.SeedTopics(3, "dlq"))
	cl := client(t, o)
	for p := range int32(3) {
		write(t, cl, numbered("dlq", p, 0, 2000*int(p))...)
	}
	l := openLog(t, o, "dlq")
	write(t, cl, numbered("dlq", 0, 0, 5)...) // since it was opened
	for _, e := range l.Extents {
		if e.First != 0 || e.End != 2000*int64(e.Partition) {
			t.Errorf("extent %+v", e)
		}
		want := int64(0)
		err := l.Read(t.Context(), e.Partition, e.First, e.End, func(r *buffer.Record) error {
			if r.Offset != want || string(r.Value) != fmt.Sprint(want) || r.Cluster != "c-1" || r.Topic != "dlq" || r.TopicID != l.ID || r.Partition != e.Partition {
				return fmt.Errorf("record %+v, want offset %d", r, want)
			}
			want++
			return nil
		})
		if err != nil || want != e.End {
			t.Errorf("read up to %d of %+v: %v", want, e, err)
		}
	}
	stop := errors.New("enough")
	if err := l.Read(t.Context(), 2, 7, 4000, func(*buffer.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
}

// Retention goes on while it is read.
func TestLogThatLosesItsStartIsReadOn(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	cl := client(t, o)
	write(t, cl, numbered("dlq", 0, 0, 100)...)
	l := openLog(t, o, "dlq")
	deleteBefore(t, cl, "dlq", 40)
	var got []int64
	err := l.Read(t.Context(), 0, 0, 100, func(r *buffer.Record) error {
		got = append(got, r.Offset)
		return nil
	})
	if err != nil || len(got) != 60 || got[0] != 40 {
		t.Errorf("read %v, %v", got, err)
	}
}

func deleteBefore(t *testing.T, cl *kgo.Client, topic string, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt, rp := kmsg.NewDeleteRecordsRequestTopic(), kmsg.NewDeleteRecordsRequestTopicPartition()
	rt.Topic, rp.Offset = topic, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
}

func TestLogThatCannotBeReadSaysWhy(t *testing.T) {
	_, o := fakeCluster(t)
	if _, err := OpenLog(t.Context(), o, "dlq", 8<<20); !errors.Is(err, ErrNoTopic) {
		t.Errorf("error %v", err)
	}
	_, weir, _ := guarded(t, acl(kmsg.ACLResourceTypeTopic, "edr", kmsg.ACLOperationDescribe))
	if _, err := OpenLog(t.Context(), weir, "edr", 8<<20); err == nil || !strings.Contains(err.Error(), "READ") {
		t.Errorf("error %v", err)
	}
	_, weir, _ = guarded(t, acl(kmsg.ACLResourceTypeTopic, "edr", kmsg.ACLOperationRead))
	l := openLog(t, weir, "edr")
	if _, err := l.Committed(t.Context(), "weir.dlq.a"); err == nil || !strings.Contains(err.Error(), "weir.dlq.a") || !strings.Contains(err.Error(), "READ") {
		t.Errorf("error %v", err)
	}
}

// A note stays with its offset, over members and while the offset does not move;
// it goes when the offset moves without it, and with the topic that it is about.
func TestNotesAreKeptWithTheOffset(t *testing.T) {
	_, o := fakeCluster(t, kfake.SeedTopics(1, "dlq"))
	cl := client(t, o)
	write(t, cl, numbered("dlq", 0, 0, 10)...)
	// member runs one lane that does what it is told and returns the note it found.
	member := func(do func(Noted)) (note string) {
		t.Helper()
		done := make(chan struct{})
		once := sync.OnceFunc(func() { close(done) })
		_, stop, _ := join(t, GroupConfig{Options: o, Group: "weir.dlq.a", Topics: []string{"dlq"},
			Lane: func(ctx context.Context, _ *buffer.Origin, src connector.Source) error {
				s := src.(Noted)
				var err error
				if note, err = s.Note(ctx); err != nil {
					return err
				}
				do(s)
				once()
				<-ctx.Done()
				return nil
			}})
		<-done
		stop()
		return note
	}
	want := func(offset int64, note string) {
		t.Helper()
		c, err := openLog(t, o, "dlq").Committed(t.Context(), "weir.dlq.a")
		if err != nil || c[0] != (Committed{offset, note}) {
			t.Errorf("committed %+v, %v, want %d %q", c, err, offset, note)
		}
	}
	if note := member(func(s Noted) { s.CommitNote(3, "done:2+1") }); note != "" {
		t.Errorf("a new group finds %q", note)
	}
	want(3, "done:2+1")
	if note := member(func(s Noted) { s.CommitNote(3, "done:2+1,1+2") }); note != "done:2+1" {
		t.Errorf("found %q", note)
	}
	want(3, "done:2+1,1+2")
	if note := member(func(s Noted) { s.CommitNote(3, "") }); note != "done:2+1,1+2" {
		t.Errorf("found %q", note)
	}
	want(3, "")
	member(func(s Noted) { s.CommitNote(4, "done:1+1"); s.Commit(connector.Progress{Next: 5}) })
	want(5, "")
	member(func(s Noted) { s.CommitNote(6, "done:1+1") })

	// An operator's offset has no note, and neither has one of another topic.
	setCommitted(t, o, "weir.dlq.a", "dlq", 0, 2, "")
	want(2, "")
	setCommitted(t, o, "weir.dlq.a", "dlq", 0, 6, "weir1 AAAAAAAAAAAAAAAAAAAAAA done:1+1")
	c, err := openLog(t, o, "dlq").Committed(t.Context(), "weir.dlq.a")
	if err != nil || len(c) != 0 {
		t.Errorf("committed for a topic that is gone: %+v, %v", c, err)
	}
}

func TestNoteOfMetadata(t *testing.T) {
	for metadata, want := range map[string]string{
		"":                      "",
		"weir1 id":              "",
		"weir1 id done:1+1":     "done:1+1",
		"weir1  done:1+1":       "done:1+1",
		"weir1 id truncated":    "",
		"weir2 id done:1+1":     "",
		"done:1+1":              "",
		"weir1 id truncated x":  "",
		"weir1 id done:1+1 x y": "done:1+1 x y", // whoever reads it takes it for none
	} {
		if got := noteOf(metadata); got != want {
			t.Errorf("%q holds note %q, want %q", metadata, got, want)
		}
	}
}
