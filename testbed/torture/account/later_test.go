package account

import (
	"iter"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const ackTimeout = 10 * time.Second

// openWith is like open, for a backend of those rules.
func openWith(t *testing.T, rules Rules) *books {
	b := &books{T: t, Account: New("r", false, rules)}
	b.log = b.Open("t", "id1")
	return b
}

// accept accepts events from a sender, in a channel named like it.
func (b *books) accept(sender string, numbers ...int64) int64 {
	d := Delivery{Sender: sender, Channel: sender}
	for _, n := range numbers {
		d.Documents = append(d.Documents, b.document(n))
	}
	return b.Accept(d)
}

// later is a test of a backend that acknowledges, in virtual time.
func later(t *testing.T, f func(b *books)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(openWith(t, Rules{Twice: true, AckTimeout: ackTimeout}))
	})
}

func TestAcceptedIsNotStored(t *testing.T) {
	later(t, func(b *books) {
		b.acked(2)
		receipt := b.accept("a", 1, 2)
		b.Committed("t", "id1", 0, 1)
		b.Index(receipt)
		b.Committed("t", "id1", 0, 2)
		b.want("COMMIT AHEAD: offset 1 is committed, but not delivered: event 1")
	})
}

func TestWhatIsNotIndexedWhenTheBackendDiesIsLost(t *testing.T) {
	later(t, func(b *books) {
		b.acked(2)
		safe, lost := b.accept("a", 1), b.accept("a", 2)
		b.Index(safe)
		b.FrontDied()
		b.Index(lost) // that was on its way to be told
		if b.Wait() == "" {
			t.Error("the round is over")
		}
		b.want("LOST: event 2")
	})
}

func TestSentAgainThoughItMayBeAcknowledged(t *testing.T) {
	f := func(between func(b *books, receipt int64), want ...string) {
		t.Helper()
		later(t, func(b *books) {
			b.acked(1)
			receipt := b.accept("a", 1)
			b.Index(receipt)
			between(b, receipt)
			b.Index(b.accept("a", 1))
			b.want(want...)
			if c := b.Counts(); c.Stored != 1 || c.Twice != 1 || c.Resent != 1 {
				t.Errorf("%+v", c)
			}
		})
	}
	const unexcused = "SENT AGAIN without a reason"
	f(func(*books, int64) {}, unexcused)
	f(func(*books, int64) { time.Sleep(ackTimeout - 1) }, unexcused)
	f(func(*books, int64) { time.Sleep(ackTimeout) })
	f(func(b *books, receipt int64) { b.Answered(receipt, true) }, unexcused)
	f(func(b *books, receipt int64) { b.Answered(receipt, true); time.Sleep(ackTimeout) }, unexcused)
	// It came so late that it may not have been waited for any more.
	f(func(b *books, receipt int64) {
		time.Sleep(ackTimeout - 1)
		b.Answered(receipt, true)
		time.Sleep(time.Nanosecond)
	})
	f(func(b *books, receipt int64) { b.Answered(receipt, false) }) // refused, and never to be confirmed
	f(func(b *books, _ int64) { b.Doubt("another") }, unexcused)
	f(func(b *books, _ int64) { b.Doubt("a") })
	f(func(b *books, receipt int64) { b.Answered(receipt, true); b.Doubt("a") })
	f(func(b *books, receipt int64) {
		b.Answered(receipt, true)
		b.Committed("t", "id1", 0, 1)
		b.Doubt("a")
	}, unexcused)
	f(func(b *books, _ int64) { b.FrontDied() })
	f(func(b *books, _ int64) { b.Disrupted(true) })
}

func TestAnotherProcessBeginsAtWhatIsCommitted(t *testing.T) {
	f := func(committed int64, want ...string) {
		t.Helper()
		later(t, func(b *books) {
			b.acked(2)
			receipt := b.accept("a", 1, 2)
			b.Index(receipt)
			b.Answered(receipt, true)
			b.Committed("t", "id1", 0, committed)
			b.accept("b", 2)
			b.want(want...)
		})
	}
	f(1)
	f(2, "SENT AGAIN without a reason: event 2")
}

func TestWhatIsSentInDoubtMayComeAgain(t *testing.T) {
	later(t, func(b *books) {
		b.acked(1)
		b.Doubt("a")
		b.Index(b.accept("a", 1))
		b.accept("a", 1)
		b.want()
	})
}

// weir gives a request up and sends its events again, and these are there before the
// first ones, which a slow backend takes only then.
func TestFirstRequestComesLast(t *testing.T) {
	f := func(late bool, want ...string) {
		t.Helper()
		later(t, func(b *books) {
			b.acked(1)
			b.Index(b.accept("a", 1))
			b.Accept(Delivery{Sender: "a", Channel: "another", Late: late, Documents: []Document{b.document(1)}})
			b.want(want...)
		})
	}
	f(true)
	f(false, "SENT AGAIN without a reason: event 1")
}

func TestLateCommitOfWhatWasAcknowledged(t *testing.T) {
	f := func(looks int, doubt bool, want ...string) {
		t.Helper()
		later(t, func(b *books) {
			b.acked(1)
			receipt := b.accept("a", 1)
			b.Index(receipt)
			b.Answered(receipt, true)
			if doubt {
				b.Doubt("a")
			}
			b.looks(looks)
			b.Disrupted(true)
			b.want(want...)
		})
	}
	f(AckLooks, false)
	f(AckLooks+1, false, "LATE COMMIT")
	f(AckLooks+1, true) // weir may not have believed it
}

// A backend that cannot deduplicate holds an event twice only if there was a reason
// to send it again.
func TestTwiceWithoutAReason(t *testing.T) {
	f := func(ok bool, want ...string) {
		t.Helper()
		b := openWith(t, Rules{Twice: true})
		b.acked(1)
		store := func() int64 {
			d := b.document(1)
			d.ID = ""
			_, receipt := b.Store(Delivery{Documents: []Document{d}}, func() Status { return Stored })
			return receipt
		}
		b.Answered(store(), ok)
		store()
		b.want(want...)
		if c := b.Counts(); c.Stored != 1 || c.Twice != 1 {
			t.Errorf("%+v", c)
		}
	}
	f(false)
	f(true, "SENT AGAIN without a reason")
}

// line is event n as a folder has it.
func (b *books) line(n int64) Document {
	return Document{Event: Value("r", n), Whole: true, Number: n, Topic: "t", TopicID: "id1", Offset: n - 1}
}

// read finds these events in the folders, in their order.
func (b *books) read(marks Marks, folders ...[]int64) {
	found := map[int]iter.Seq[Document]{}
	for i, numbers := range folders {
		var lines []Document
		for _, n := range numbers {
			lines = append(lines, b.line(n))
		}
		found[i] = slices.Values(lines)
	}
	b.Found(marks, maps.Clone(found))
}

func openFolders(t *testing.T) *books { return openWith(t, Rules{Folders: true}) }

func TestCommittedIsNotInTheFolder(t *testing.T) {
	b := openFolders(t)
	b.acked(3)
	b.Committed("t", "id1", 0, 2)
	marks := b.Marks()
	b.Committed("t", "id1", 0, 3) // while they are read: what was read before may not have it
	b.read(marks, []int64{1})
	b.read(b.Marks(), []int64{1, 2, 3})
	b.want("COMMIT AHEAD: offset 2 is committed, but not delivered: event 2")
}

func TestTwiceInOneFolder(t *testing.T) {
	b := openFolders(t)
	b.acked(1)
	b.read(b.Marks(), []int64{1, 1})
	b.want("event 1 at t/0 offset 0 (topic id id1): twice in folder 1")
}

func TestGoneFromTheFolder(t *testing.T) {
	b := openFolders(t)
	b.acked(2)
	b.read(b.Marks(), []int64{1, 2})
	b.read(b.Marks(), []int64{2})
	b.want("GONE from folder 1, where it was: event 1")
}

func TestInTwoFolders(t *testing.T) {
	f := func(between func(b *books), want ...string) {
		t.Helper()
		b := openFolders(t)
		b.acked(1)
		b.read(b.Marks(), []int64{1}, nil)
		between(b)
		b.read(b.Marks(), []int64{1}, []int64{1})
		b.read(b.Marks(), []int64{1}, []int64{1})
		b.want(want...)
	}
	f(func(*books) {}, "SENT AGAIN without a reason")
	f(func(b *books) { b.Disrupted(true) })
	f(func(b *books) { b.Committed("t", "id1", 0, 1); b.Disrupted(true) }, "SENT AGAIN without a reason")
	f(func(b *books) { b.Trouble()() })
}

func TestAlteredInTheFolder(t *testing.T) {
	f := func(change func(*Document), want string) {
		t.Helper()
		b := openFolders(t)
		b.acked(1)
		d := b.line(1)
		change(&d)
		b.Found(b.Marks(), map[int]iter.Seq[Document]{0: slices.Values([]Document{d})})
		b.want(want, "LOST")
	}
	f(func(d *Document) { d.Event = append([]byte(`{"x":1,`), d.Event[1:]...) }, "its value was altered")
	f(func(d *Document) { d.TopicID = "id2" }, "its document says")
}

func TestBehind(t *testing.T) {
	b := open(t, false)
	b.acked(3)
	ends := b.Acknowledged()
	b.store(1, 2, 3)
	b.Committed("t", "id1", 0, 2)
	if n := b.Behind(ends); n != 1 {
		t.Errorf("behind by %d", n)
	}
}
