package account

import (
	"strings"
	"testing"
)

// books is an account of one topic.
type books struct {
	*testing.T
	*Account
	log *Log
}

// looks lets that much time pass.
func (b *books) looks(n int) {
	for range n {
		b.Looked()
	}
}

func open(t *testing.T, ordered bool) *books {
	b := &books{T: t, Account: New("r", ordered, Rules{})}
	b.log = b.Open("t", "id1")
	return b
}

// acked is n events that Kafka has acknowledged, at the next offsets of partition 0.
func (b *books) acked(n int) {
	for range n {
		number := b.Produce(b.log, 0)
		b.Acked(number, number-1)
	}
}

// document is event n as the backend gets it.
func (b *books) document(n int64) Document {
	return Document{
		ID:    "id1-" + string(rune('a'+n)),
		Event: append([]byte(`{"kafka":{},`), Value("r", n)[1:]...), Number: n,
		Topic: "t", Partition: 0, Offset: n - 1,
	}
}

func (b *books) store(numbers ...int64) ([]Status, int64) {
	var docs []Document
	for _, n := range numbers {
		docs = append(docs, b.document(n))
	}
	return b.Store(Delivery{Documents: docs}, func() Status { return Stored })
}

// want checks that the account's violations are those that begin so, in order.
func (b *books) want(begins ...string) {
	b.Helper()
	_, faults := b.Close()
	if len(faults) != len(begins) {
		b.Fatalf("%d violations, want %d: %q", len(faults), len(begins), faults)
	}
	for i, f := range faults {
		if !strings.Contains(f, begins[i]) {
			b.Errorf("violation %q, want %q", f, begins[i])
		}
	}
}

func TestNothingWrong(t *testing.T) {
	b := open(t, true)
	b.acked(3)
	_, receipt := b.store(1, 2, 3)
	b.Answered(receipt, true)
	b.Committed("t", "id1", 0, 3)
	if w := b.Wait(); w != "" {
		t.Errorf("the round is not over: %s", w)
	}
	b.want()
	if c := b.Counts(); c.Produced != 3 || c.Stored != 3 || c.Lost != 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestEventThatIsNowhereIsLost(t *testing.T) {
	b := open(t, false)
	b.acked(2)
	b.store(2)
	if b.Wait() == "" {
		t.Error("the round is over with an event nowhere")
	}
	b.want("LOST: event 1")
}

func TestCommitBeforeDelivery(t *testing.T) {
	b := open(t, false)
	b.acked(2)
	b.store(2)
	b.Committed("t", "id1", 0, 2)
	b.store(1) // too late: a crash between the two had lost it
	b.want("COMMIT AHEAD: offset 2 is committed, but not delivered: event 1")
}

func TestCommitBeforeDeliveryIsFoundWhenTheProducerHearsLate(t *testing.T) {
	b := open(t, false)
	n := b.Produce(b.log, 0)
	b.Committed("t", "id1", 0, 1)
	b.Acked(n, 0)
	b.store(1)
	b.want("COMMIT AHEAD")
}

func TestCommitBeforeTheDeadLetter(t *testing.T) {
	f := func(end int64, want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(badEvery)
		for n := range int64(badEvery) {
			b.store(n + 1)
		}
		b.Committed("t", "id1", 0, badEvery)
		if !b.Suspicious() {
			t.Fatal("a dead letter that was not seen yet is not suspicious")
		}
		b.Ends(map[int32]int64{0: end})
		b.Judge()
		d := b.document(badEvery)
		d.Event = Value("r", badEvery)
		b.Letter(0, 0, d, "id1")
		b.Judge()
		b.want(want...)
	}
	f(1) // it was there when the commit was seen, and is read only now
	f(0, "COMMIT AHEAD: offset 41 was committed")
}

func TestStoredTwice(t *testing.T) {
	b := open(t, false)
	b.acked(1)
	b.store(1)
	d := b.document(1)
	d.ID = "another"
	b.Store(Delivery{Documents: []Document{d}}, func() Status { return Stored })
	b.want("stored twice")
}

func TestIDOfAnotherEvent(t *testing.T) {
	b := open(t, false)
	b.acked(2)
	b.store(1)
	d := b.document(2)
	d.ID = b.document(1).ID
	b.Store(Delivery{Documents: []Document{d}}, func() Status { return Stored })
	b.want("is that of event 1", "LOST: event 2")
}

func TestAlteredEvents(t *testing.T) {
	f := func(change func(*Document), want string) {
		t.Helper()
		b := open(t, false)
		b.acked(1)
		d := b.document(1)
		change(&d)
		b.Store(Delivery{Documents: []Document{d}}, func() Status { return Stored })
		b.want(want, "LOST")
	}
	f(func(d *Document) { d.Event[len(d.Event)-3] = '!' }, "its value was altered")
	f(func(d *Document) { d.Offset = 7 }, "its document says t/0 offset 7")
	f(func(d *Document) { d.Partition = 1 }, "its document says t/1")
	f(func(d *Document) { d.Number = 9 }, "was not produced")
}

func TestOrder(t *testing.T) {
	b := open(t, true)
	b.acked(3)
	b.store(1, 3)
	b.store(2)
	b.want("arrived after offset 2 though order was asked for")
}

func TestDeadLetterThatNobodyRefused(t *testing.T) {
	b := open(t, false)
	b.acked(1)
	d := b.document(1)
	d.Event = Value("r", 1)
	b.Letter(0, 0, d, "id1")
	b.want("never refused it")
}

func TestSentAgain(t *testing.T) {
	f := func(between func(b *books, receipt int64), want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(1)
		_, receipt := b.store(1)
		between(b, receipt)
		if got, _ := b.store(1); got[0] != Exists {
			t.Errorf("answered %d to an event that is there", got[0])
		}
		b.want(want...)
	}
	f(func(b *books, receipt int64) { b.Answered(receipt, true) }, "SENT AGAIN without a reason")
	f(func(b *books, receipt int64) { b.Answered(receipt, false) })
	f(func(b *books, _ int64) { b.FrontDied() })
	f(func(b *books, receipt int64) { b.Answered(receipt, true); b.Disrupted(true) })
	f(func(b *books, receipt int64) {
		b.Answered(receipt, true)
		b.Committed("t", "id1", 0, 1)
		b.Disrupted(true)
	}, "SENT AGAIN without a reason")
	f(func(b *books, receipt int64) { b.Trouble()() })
	f(func(b *books, receipt int64) {
		b.Answered(receipt, true)
		b.Trouble()()
		b.looks(calmAfter + 1)
	}) // the answer was on its way when the trouble began
}

// Whatever a trouble breaks off is begun anew at what was committed, never before
// what was committed when it began.
func TestTroubleIsNoReasonToBeginAnewFromFurtherBack(t *testing.T) {
	f := func(committed int64, looks int, want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(3)
		_, receipt := b.store(1, 2)
		b.Answered(receipt, true)
		b.Committed("t", "id1", 0, 1)
		over := b.Trouble()
		b.Committed("t", "id1", 0, committed)
		_, receipt = b.store(3)
		b.Answered(receipt, true)
		over()
		again := b.Trouble() // of another kind, while the first may still show
		again()
		b.looks(looks)
		b.store(1)
		b.want(want...)
	}
	f(1, 0, "SENT AGAIN without a reason: event 1 at t/0 offset 0 (topic id id1), committed 1, in the troubles of now [floor 1, blamed 0 times][floor 1, blamed 0 times]")
	f(2, calmAfter+1, "SENT AGAIN without a reason: event 1")
}

// What arrives after a trouble, when its consequences may still show, is not free
// to come again for ever.
func TestTroubleIsOverAtLast(t *testing.T) {
	f := func(looks int, want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(1)
		b.Trouble()()
		_, receipt := b.store(1)
		b.Answered(receipt, true)
		b.looks(looks)
		b.store(1)
		b.want(want...)
	}
	f(calmAfter - 1)
	f(calmAfter, "SENT AGAIN without a reason")
}

// A trouble excuses what it may have broken off, and not whatever is sent again while
// it shows.
func TestOneTroubleExcusesFewTimes(t *testing.T) {
	f := func(times int, want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(1)
		b.Trouble()()
		for range 1 + times {
			_, receipt := b.store(1)
			b.Answered(receipt, true)
		}
		b.want(want...)
	}
	f(troubleResends)
	f(troubleResends+1, "SENT AGAIN without a reason: event 1")
}

// What is answered while a trouble lasts may never have been heard, as often as it is
// sent.
func TestAnswersAreInDoubtWhileATroubleLasts(t *testing.T) {
	b := open(t, false)
	b.acked(1)
	over := b.Trouble()
	for range 10 {
		_, receipt := b.store(1)
		b.Answered(receipt, true)
	}
	over()
	b.want()
}

// The troubles that are over excuse nothing, though others came since.
func TestEachTroubleIsOverByItself(t *testing.T) {
	b := open(t, false)
	b.acked(2)
	b.Trouble()()
	_, receipt := b.store(1)
	b.Answered(receipt, true)
	b.looks(calmAfter / 2)
	b.Committed("t", "id1", 0, 1)
	b.Trouble()()
	b.looks(calmAfter / 2)
	b.store(1)
	b.want("SENT AGAIN without a reason: event 1", "LOST: event 2")
}

func TestOutOfTurn(t *testing.T) {
	f := func(later Status, want ...string) {
		t.Helper()
		b := open(t, true)
		b.acked(3)
		b.Store(Delivery{Documents: []Document{b.document(1)}}, func() Status { return later })
		b.store(2, 3)
		if later != Stored {
			b.store(1)
		}
		b.want(want...)
	}
	f(Stored)
	f(Busy, "OUT OF TURN: event 3 at t/0 offset 2")
}

// Within a request the backend takes some and some not: those that it does not take
// come again behind the others, and with what is new only once they are taken.
func TestInTurnThoughSomeOfARequestAreNotTaken(t *testing.T) {
	b := open(t, true)
	b.acked(3)
	first := true
	b.Store(Delivery{Documents: []Document{b.document(1), b.document(2)}}, func() Status {
		defer func() { first = false }()
		if first {
			return Busy
		}
		return Stored
	})
	b.store(1)
	b.store(3)
	b.want()
}

// A batch that was refused for one of its events goes on in pieces.
func TestPiecesOfABatchAreInTurn(t *testing.T) {
	b := openWith(t, Rules{Twice: true, AckTimeout: ackTimeout})
	b.Ordered = true
	b.acked(4)
	b.Accept(Delivery{Documents: []Document{b.document(1), b.document(2)}, Behind: []Document{b.document(3)}})
	first := b.accept("a", 1)
	second := b.accept("a", 3) // the first one is not indexed yet
	b.accept("a", 4)
	for _, receipt := range []int64{first, second} {
		b.Index(receipt)
	}
	b.want("OUT OF TURN: event 4", "LOST: event 2", "LOST: event 4")
}

// A dead letter may be there as often as its event was refused, which it may be again
// only with a reason.
func TestDeadLetterTwice(t *testing.T) {
	f := func(between func(b *books, bad func() int64), want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(badEvery)
		letters := int64(0)
		letter := func() {
			d := b.document(badEvery)
			d.Event = Value("r", badEvery)
			b.Letter(0, letters, d, "id1")
			letters++
		}
		for n := range int64(badEvery - 1) {
			b.store(n + 1)
		}
		bad := func() int64 {
			_, receipt := b.store(badEvery)
			return receipt
		}
		b.Answered(bad(), true)
		letter()
		between(b, bad)
		letter()
		b.want(want...)
	}
	f(func(b *books, _ func() int64) {}, "DEAD-LETTERED AGAIN without a reason: event 41")
	f(func(b *books, bad func() int64) { bad() }, "SENT AGAIN without a reason: event 41")
	f(func(b *books, bad func() int64) { b.Disrupted(true); bad() })
	f(func(b *books, _ func() int64) {
		// The client has given up and sent it again, and that was faster.
		b.Store(Delivery{Documents: []Document{b.document(badEvery)}, Late: true}, nil)
	})
	f(func(b *books, _ func() int64) { b.Trouble()() })
}

// What comes to a member that is about to lose its partition, and is not settled
// before it does, is sent again by the next one.
func TestWhatArrivesWhilePartitionsMove(t *testing.T) {
	f := func(looks int, want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(1)
		b.Disrupted(false)
		b.looks(looks)
		_, receipt := b.store(1)
		b.Answered(receipt, true)
		b.store(1)
		b.want(want...)
	}
	f(movesWithin - 1)
	f(movesWithin, "SENT AGAIN without a reason")
}

func TestLateCommit(t *testing.T) {
	f := func(answered bool, looks int, want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(2)
		_, receipt := b.store(1)
		b.Answered(receipt, answered)
		b.looks(looks)
		b.Disrupted(true)
		b.store(2)
		b.want(want...)
	}
	f(true, CommitLooks) // however long they took
	f(true, CommitLooks+1, "LATE COMMIT: when a member was killed t/0 was acknowledged up to offset 1")
	f(false, 2*CommitLooks) // weir could not know
}

// An answer to a part of a batch waits for those to the other parts.
func TestLateCommitOfPart(t *testing.T) {
	f := func(looks int, want ...string) {
		t.Helper()
		b := openWith(t, Rules{Twice: true, Parts: true})
		b.acked(1)
		_, receipt := b.store(1)
		b.Answered(receipt, true)
		b.looks(looks)
		b.Disrupted(true)
		b.want(want...)
	}
	f(AckLooks)
	f(AckLooks+1, "LATE COMMIT")
}

// A batch that is sent in pieces is settled when the last of them is answered, which
// takes its time while the backend is ill.
func TestLateCommitIsNotAskedForWhileTheBackendIsIll(t *testing.T) {
	f := func(ill, well int, want ...string) {
		t.Helper()
		b := open(t, false)
		b.acked(1)
		_, receipt := b.store(1)
		b.Answered(receipt, true)
		over := b.Ill()
		b.looks(ill)
		if well > 0 {
			over()
			b.looks(well)
		}
		b.Disrupted(true)
		b.want(want...)
	}
	f(10*AckLooks, 0)
	f(10, AckLooks-1)
	f(10, AckLooks, "LATE COMMIT")
}

func TestTopicMadeAgain(t *testing.T) {
	b := open(t, false)
	b.acked(1)
	b.Gone(b.log) // what was in it is nobody's fault
	b.log = b.Open("t", "id2")
	n := b.Produce(b.log, 0)
	b.Acked(n, 0)
	if !b.Committed("t", "id1", 0, 0) || b.Committed("t", "id3", 0, 1) {
		t.Error("a commit was taken for the wrong topic")
	}
	b.Committed("t", "id2", 0, 1)
	b.want("COMMIT AHEAD: offset 1 is committed, but not delivered: event 2", "LOST: event 2")
}

// What retention took before it was delivered is not lost, and what was delivered
// before is not gone.
func TestRemovedByRetention(t *testing.T) {
	a := New("round", false, Rules{Runs: true})
	l := a.Open("t", "id")
	for n := range int64(3) {
		a.Produce(l, 0)
		a.Acked(n+1, n)
	}
	a.Store(Delivery{Documents: []Document{{ID: "a", Event: Value("round", 1), Whole: true, Number: 1, Topic: "t", Offset: 0}}}, func() Status { return Stored })
	a.Removed(l, 0, 2)
	a.Committed("t", "id", 0, 2)
	if a.Delivered(2) || !a.Delivered(1) {
		t.Error("the first one was delivered, and the second one not")
	}
	if c, faults := a.Close(); c.Removed != 1 || c.Lost != 1 || c.Violations != 1 {
		t.Errorf("%+v %q: one was taken, and the third one is lost", c, faults)
	}
}
