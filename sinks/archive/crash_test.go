package archive

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/buffer"
	"weir/sinks"
)

// world is records on their way to an archive whose disk and process fail.
type world struct {
	*testing.T
	random  *rand.Rand
	disk    *fakeDisk
	cfg     Config
	records []*buffer.Record
	sent    map[*buffer.Record]bool // ever
	acked   map[*buffer.Record]bool
}

func newWorld(t *testing.T, seed uint64) *world {
	random := rand.New(rand.NewPCG(seed, 1))
	w := &world{T: t, random: random, disk: newFakeDisk(seed), sent: map[*buffer.Record]bool{}, acked: map[*buffer.Record]bool{}}
	w.cfg = Config{
		Dir: "/archive", Path: []string{"", "{topic}/{time:2006-01-02}", "{partition}"}[random.IntN(3)],
		Compression: []string{"zstd", "gzip", "none"}[random.IntN(3)],
		RotateBytes: int64(100 + random.IntN(3000)), RotateAfter: time.Hour, Log: slog.New(slog.DiscardHandler),
	}
	for p := range int32(1 + random.IntN(3)) {
		o := &buffer.Origin{Cluster: "c", Topic: "edr", TopicID: []string{"", "Jb3KpkzXQ7qFbOQ1Cq9wMA"}[random.IntN(2)], Partition: p}
		offset := random.Int64N(5)
		for range 5 + random.IntN(40) {
			r := &buffer.Record{Origin: o, Offset: offset, Time: time.UnixMilli(1700000000000 + offset*3_600_000)}
			r.Value = fmt.Appendf(nil, `{"n":%d,"x":%q}`, offset, strings.Repeat("x", random.IntN(80)))
			switch random.IntN(4) {
			case 0:
				r.Value = append(r.Value, 0xff, '\n')
			case 1:
				r.Value = nil
			default:
				r.Shape = buffer.ShapeObject
			}
			w.records = append(w.records, r)
			offset += 1 + random.Int64N(3)
		}
	}
	return w
}

func (w *world) open() *Sink {
	w.Helper()
	s, err := New(w.cfg)
	if err != nil {
		w.Fatal(err)
	}
	p := w.disk.process()
	s.open = func() (disk, error) { return p, nil }
	return s
}

// batch is some of the records: those not acknowledged yet, and now and then one
// that is, since a commit can be lost. Any order, and some twice.
func (w *world) batch(all bool) *buffer.Batch {
	b := &buffer.Batch{}
	for _, r := range w.records {
		if all && !w.acked[r] || !all && w.random.IntN(4) == 0 && (!w.acked[r] || w.random.IntN(4) == 0) {
			b.Add(r)
			if w.random.IntN(20) == 0 {
				b.Add(r)
			}
			w.sent[r] = true
		}
	}
	if w.random.IntN(2) == 0 {
		w.random.Shuffle(len(b.Records), func(i, j int) { b.Records[i], b.Records[j] = b.Records[j], b.Records[i] })
	}
	return b
}

// deliver sends batches at the same time and notes what was acknowledged.
func (w *world) deliver(s *Sink, batches ...*buffer.Batch) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, b := range batches {
		ctx, cancel := context.WithCancel(w.Context())
		if w.random.IntN(10) == 0 {
			cancel() // at any time
		}
		all.Go(func() {
			defer cancel()
			outcomes, err := s.Deliver(ctx, b, nil)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for i, o := range outcomes {
				switch o.Verdict {
				case sinks.Ack:
					w.acked[b.Records[i]] = true
				case sinks.Reject:
					w.Errorf("offset %d is rejected: %s", b.Records[i].Offset, o.Reason)
				}
			}
		})
	}
	all.Wait()
}

// judge reads what whoever reads the files now sees.
func (w *world) judge(when string) {
	w.Helper()
	type place struct {
		partition int32
		offset    int64
	}
	count, want := map[place]int{}, map[place]*buffer.Record{}
	for _, r := range w.records {
		want[place{r.Partition, r.Offset}] = r
	}
	for name, f := range w.disk.files() {
		if strings.HasSuffix(name, tornSuffix) {
			continue
		}
		c, ok := codecOf(name)
		if !ok {
			w.Errorf("%s: a file %s", when, name)
			continue
		}
		e, err := walk(f, f.Size(), c, maxLine, func([]byte) error { return nil }, func() {})
		if err != nil || e.why != nil && !strings.HasSuffix(name, openSuffix) {
			w.Errorf("%s: %s: %+v, %v", when, name, e, err)
		}
		_, err = walk(f, e.good, c, maxLine, func(line []byte) error {
			r, err := parseLine(line)
			if err != nil {
				return fmt.Errorf("%w in %q", err, line)
			}
			at := place{r.Partition, r.Offset}
			count[at]++
			if !w.sent[want[at]] || !same(r, want[at]) {
				w.Errorf("%s: %s holds %+v, sent was %+v", when, name, r, want[at])
			}
			return nil
		}, func() {})
		if err != nil {
			w.Errorf("%s: %s: %v", when, name, err)
		}
	}
	for at, r := range want {
		if n := count[at]; n > 1 || n == 0 && w.acked[r] {
			w.Errorf("%s: partition %d offset %d is there %d times, acknowledged %v", when, at.partition, at.offset, n, w.acked[r])
		}
	}
}

// same reports whether two records hold the same, null and empty told apart.
func same(a, b *buffer.Record) bool {
	x, y := *a, *b
	x.Origin, y.Origin = nil, nil
	x.Time, y.Time = time.Time{}, time.Time{}
	x.Shape, y.Shape = 0, 0
	return *a.Origin == *b.Origin && a.Time.Equal(b.Time) && a.Time.IsZero() == b.Time.IsZero() && reflect.DeepEqual(x, y)
}

// The promise of the sink: whatever the batches, and wherever the process, the
// machine or the disk fails, what was acknowledged is there, and there once.
func TestEveryAcknowledgedRecordIsThereOnceWhateverFails(t *testing.T) {
	worlds := uint64(100)
	if testing.Short() {
		worlds = 30
	}
	for seed := range worlds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { newWorld(t, seed).run() })
	}
}

func (w *world) run() {
	s := w.open()
	for round := range 12 {
		w.disk.mu.Lock()
		w.disk.faulty = []int{0, 0, 40, 8}[w.random.IntN(4)]
		w.disk.life = -1
		if w.random.IntN(2) == 0 {
			w.disk.life = w.random.IntN(4000)
		}
		w.disk.mu.Unlock()
		var batches []*buffer.Batch
		for range 1 + w.random.IntN(4) {
			batches = append(batches, w.batch(false))
		}
		w.deliver(s, batches...)
		switch w.random.IntN(4) {
		case 0:
			w.disk.kill(w.random.IntN(2) == 0)
			s.Close()
			w.judge(fmt.Sprintf("round %d, after a kill", round))
			s = w.open()
		case 1:
			s.Close()
			w.disk.kill(true)
			w.judge(fmt.Sprintf("round %d, after an end", round))
			s = w.open()
		default:
			w.judge(fmt.Sprintf("round %d", round))
		}
		if w.Failed() {
			return
		}
	}
	w.disk.mu.Lock()
	w.disk.faulty, w.disk.life = 0, -1
	w.disk.mu.Unlock()
	w.disk.kill(true)
	s.Close()
	s = w.open()
	again := w.batch(true)
	again.Add(w.records[0])
	w.sent[w.records[0]] = true
	for i := range 2 {
		outcomes, err := s.Deliver(w.Context(), again, nil)
		if err != nil {
			w.Errorf("on a healthy disk: %v", err)
		}
		for k, o := range outcomes {
			if o.Verdict != sinks.Ack || i > 0 && o.Note != sinks.Duplicate {
				w.Errorf("on a healthy disk, attempt %d: offset %d: %+v", i, again.Records[k].Offset, o)
			}
			w.acked[again.Records[k]] = true
		}
	}
	s.Close()
	w.judge("at the end")
	for name := range w.disk.files() {
		if strings.HasSuffix(name, openSuffix) {
			w.Errorf("%s was not finished", name)
		}
	}
}
