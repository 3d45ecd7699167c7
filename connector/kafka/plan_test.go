package kafka

import (
	"testing"
	"time"
)

// planned is a fetcher with one broker that leads n partitions, each of which has
// a million offsets left to be read.
func planned(n int, limit int64) (*leaderLoop, []*partitionReader) {
	f := &fetcher{
		limit: limit, batchMax: minBatchMax, ratio: startRatio,
		readers: make(map[*partitionReader]struct{}), leaders: make(map[int32]*leaderLoop),
	}
	l := newLeaderLoop(f, 1, "127.0.0.1:9092")
	f.leaders[1] = l
	var readers []*partitionReader
	for p := range int32(n) {
		r := &partitionReader{f: f, origin: at("t", p), ready: make(chan struct{}, 1), replica: -1, loop: l, stable: 1_000_000}
		f.readers[r], l.readers[r] = struct{}{}, struct{}{}
		readers = append(readers, r)
	}
	return l, readers
}

func (p plan) has(r *partitionReader) bool {
	for _, a := range p.asks {
		if a.r == r {
			return true
		}
	}
	return false
}

// bring answers a plan: each partition in it that has something gets a block as
// large as was set aside for it.
func bring(l *leaderLoop, p plan, now time.Time) {
	l.asked++
	for _, a := range p.asks {
		r := a.r
		r.askedAt, r.asked = l.asked, 0
		if r.next >= r.stable {
			continue
		}
		r.box, r.boxedAt = &block{at: r.next, next: r.next + 100, charge: a.need, giant: a.giant}, now
		r.next += 100
		l.f.held += a.need
		if a.giant {
			l.f.giant, l.f.giantAsked = a.need, false
		}
	}
}

// 48 partitions, whose batches are larger than a 96th of the memory, were asked
// for one at a time.
func TestBatchesLargerThanAShareAreAskedForTogether(t *testing.T) {
	const limit, batch = 16 << 20, 500 << 10
	l, readers := planned(48, limit)
	for _, r := range readers {
		r.big = batch
	}
	now := time.Now()
	seen := map[*partitionReader]bool{}
	for round := 0; len(seen) < len(readers); round++ {
		p, _ := l.plan(now)
		if len(p.asks) < 16 {
			t.Fatalf("%d partitions are asked for in round %d", len(p.asks), round)
		}
		var need int64
		for _, a := range p.asks {
			if a.need < batch {
				t.Fatalf("%d bytes are set aside for a batch of %d", a.need, batch)
			}
			if !a.giant {
				need += a.need
			}
			seen[a.r] = true
		}
		if need > limit {
			t.Fatalf("%d bytes are set aside of %d", need, limit)
		}
		bring(l, p, now)
		// All is taken and given back.
		for _, r := range readers {
			if r.box != nil {
				l.f.free(r.box)
				r.box = nil
			}
		}
		if round > 3 {
			t.Fatal("some are never asked for")
		}
	}
}

// While one partition had a batch that had to be fetched, all that had nothing
// new were asked in turn with it, and each time the broker kept the request for a
// while: a batch every 20 ms, however small.
func TestPartitionsAtTheirEndDoNotHoldUpTheOthers(t *testing.T) {
	l, readers := planned(48, 16<<20)
	busy := readers[0]
	for _, r := range readers[1:] {
		r.next = r.stable
	}
	now := time.Now()
	var probed time.Time // when those without anything new were asked for last
	for i := range 100 {
		now = now.Add(time.Millisecond)
		p, _ := l.plan(now)
		if !p.has(busy) {
			t.Fatalf("the partition that has something is left out, %d others are asked for", len(p.asks))
		}
		if len(p.asks) > 1 {
			if now.Sub(probed) < shortPoll {
				t.Fatalf("%d partitions without anything new are asked for %v after the last time", len(p.asks)-1, now.Sub(probed))
			}
			probed = now
		}
		bring(l, p, now)
		// Fetched ahead, and not taken yet: nobody may wait for the others' news.
		p, idle := l.plan(now)
		if len(p.asks) > 0 || idle > shortPoll {
			t.Fatalf("%d partitions are asked for, the next ones in %v", len(p.asks), idle)
		}
		if i%25 == 24 { // for a while
			now = now.Add(shortPoll)
			if p, _ = l.plan(now); len(p.asks) != len(readers)-1 || p.wait > 0 {
				t.Fatalf("%d partitions without anything new are asked for, and the broker may keep that for %v", len(p.asks), p.wait)
			}
			bring(l, p, now)
			probed = now
		}
		l.f.free(busy.box)
		busy.box = nil
	}
	// Once there is nothing to be had, the broker may keep the request.
	busy.next = busy.stable
	if p, _ := l.plan(now); len(p.asks) != len(readers) || p.wait != longPoll {
		t.Errorf("%d partitions are asked for, for %v", len(p.asks), p.wait)
	}
}

// Partitions that stand still with what they have keep no other one from its
// share, whatever they hold; and one whose batch does not fit gets through.
func TestPartitionsThatStandStillLeaveTheOthersTheirShare(t *testing.T) {
	const limit, batch = 16 << 20, 2 << 20
	l, readers := planned(8, limit)
	now := time.Now()
	for _, r := range readers[:7] {
		r.big = batch
	}
	// The seven take all they can get, and then nothing more.
	for range 20 {
		p, _ := l.plan(now)
		bring(l, p, now)
		for _, r := range readers[:7] {
			if r.cur == nil {
				r.cur, r.box = r.box, nil
			}
		}
		if r := readers[7]; r.box != nil {
			l.f.free(r.box)
			r.box = nil
		}
	}
	if held := l.f.held - l.f.giant; held > limit {
		t.Fatalf("%d bytes are held of %d", held, limit)
	}
	p, _ := l.plan(now)
	if !p.has(readers[7]) || p.asks[0].need < l.f.share() {
		t.Fatalf("the last one gets nothing: %d asked for, %d bytes held, the giant has %d", len(p.asks), l.f.held, l.f.giant)
	}
	bring(l, p, now)
	// A batch larger than its share comes beyond the limit, when no other one does.
	l.f.free(readers[7].box)
	readers[7].box, readers[7].big = nil, 3*batch
	for _, r := range readers[:7] {
		r.parked = true
		for _, b := range []*block{r.cur, r.box} {
			if b != nil && b.giant {
				b.giant, l.f.giant = false, 0
			}
		}
	}
	if p, _ = l.plan(now); !p.has(readers[7]) || !p.asks[0].giant {
		t.Errorf("a batch that does not fit is not asked for: %d asked for", len(p.asks))
	}
}
