// Package account keeps the books of one round: which events Kafka has
// acknowledged, which ones the backend and the dead-letter topic hold, and which
// offsets were committed, and says where they contradict the contract.
//
// It knows no protocol and no Kafka client. Everything it is told happened
// before it is told, and it is told one thing after the other: a commit must be
// told only after it was read from the broker, an event as stored before the
// backend answers.
package account

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Status is what the backend does with one document.
type Status uint8

// What a document can be answered.
const (
	Stored  Status = iota // it is there now
	Exists                // it was there already
	Refused               // its content is refused, for good
	Busy                  // not now: overloaded
	Failed                // not now: an error of the backend
)

// Document is one event as it arrived at the backend.
type Document struct {
	ID string // the backend's key for it; empty: it has none
	// Event ends with the value as it was produced, without its first brace; with
	// Whole it is the value.
	Event     []byte
	Whole     bool
	Number    int64 // the event's own
	Topic     string
	TopicID   string // empty: it does not say
	Partition int32
	Offset    int64
}

// Delivery is what came in one request.
type Delivery struct {
	Documents []Document
	// Behind came with them, and the backend did not look at it.
	Behind []Document
	// Late: the client may be gone already and have sent the documents again.
	Late bool
	// Sender is the process that sent it, Channel what its acknowledgement is counted
	// in; both are asked of Accept only.
	Sender, Channel string
}

// Rules are what a backend makes of weir's promise.
type Rules struct {
	// Twice: it cannot deduplicate, so an event may be there twice, if there was a
	// reason to send it again (grades B and C). Else nothing may ever be.
	Twice bool
	// AckTimeout: it takes events with Accept and acknowledges them later, and what
	// it has not acknowledged for so long may be sent again; 0: it does not.
	AckTimeout time.Duration
	// Parts: a batch comes in several requests, and weir goes by no answer before it
	// has all that it waits for.
	Parts bool
	// Folders: what it holds is found by reading folders with Found. Within one
	// nothing may be there twice; in two only what was not committed when a member
	// ended.
	Folders bool
	// Runs: a commit comes when a whole run of records is settled. So nothing is asked
	// of how soon it comes, and what of a run is settled may be sent again whenever
	// partitions move.
	Runs bool
}

// event is what is known of one numbered event.
type event struct {
	n         int64
	log       *Log
	partition int32
	offset    int64 // -1: neither the broker nor the backend has named it yet
	acked     bool  // by Kafka
	arrived   bool
	stored    bool
	refused   bool // answered Refused at least once
	dead      int  // times in the dead-letter topic
	told      bool // the answer that it is there was handed over
	id        string
	resent    int // times answered Exists
	excused   int // times it may be sent again from now on
	refusals  int // times answered Refused
	// spent is how often each trouble was the reason why it was sent again.
	spent   map[*trouble]int
	checked bool // an unsettled commit was reported
	removed bool // retention may have taken it before it was delivered

	// Of a backend that acknowledges later: the receipt, the time and the sender of
	// the last request that it came with.
	receipt int64
	came    time.Time
	sender  string
	history string // in words, for a violation
	// Of one that is read: the folders that hold it, a bit each, and in which
	// reading of which of them it was seen last.
	folders uint8
	seen    [maxFolders]int64
	twice   bool // in one folder, which was reported
}

// maxFolders is how many folders there can be.
const maxFolders = 4

func (e *event) settled() bool { return e.stored || e.dead > 0 || e.removed }

// known reports whether weir has been told that e is settled.
func (e *event) known() bool { return e.told || e.dead > 0 }

// receipt is a request that waits for its answer.
type receipt struct {
	events []*event
	kept   []*event // those that the answer says are there
	shaky  bool     // it came while a trouble lasted
	// With Accept: what is not indexed yet, when it came, and in which channel.
	waiting bool
	came    time.Time
	channel *channel
}

// channel is what acknowledgements are counted in. It is in doubt once an answer
// in it was lost, since then nobody can tell for sure which request an
// acknowledgement is for: what came or will come in it may be sent again.
type channel struct {
	doubt    bool
	receipts []*receipt
}

// Log is one topic as long as it has the same id.
type Log struct {
	Topic string
	ID    string
	// gone: the topic was deleted; what was not delivered until then is nobody's fault.
	gone  bool
	parts []*part
}

// part is one partition of a log.
type part struct {
	events    []*event // by offset; nil: not known
	committed int64    // highest offset seen committed
	judged    int64    // below it every known event was compared with the commits
	arrived   int64    // behind the highest offset that arrived
	mark      int64    // below it weir knows every event to be settled
	passed    []passage
	read      int64 // what was committed when the last reading of the folders began
}

// trouble is a time in which answers or commits may be lost on their way.
type trouble struct {
	// floors are what was committed when it began, 0 of partitions that did not exist:
	// nothing below that may be sent again because of it.
	floors map[*part]int64
	calm   int64 // the look at which it is over with all it entails; 0: it lasts
}

// passage says when the mark reached an offset.
type passage struct {
	offset int64
	at     time.Time
	looks  int64 // as many as there were before
}

// suspect is an event that was committed past, but is not among the dead letters
// read so far. If it is one, it stands before ends.
type suspect struct {
	e    *event
	at   int64 // the commit
	when time.Time
	ends map[int32]int64 // of the dead-letter topic, asked after the commit was seen; nil: not yet
}

// Account is the books of one round. It is safe for concurrent use.
type Account struct {
	Round   string
	Ordered bool // no event of a partition may arrive before an earlier one
	Rules   Rules

	mu       sync.Mutex
	start    time.Time
	events   []*event // by number - 1
	logs     []*Log
	ids      map[string]int64
	receipts map[int64]*receipt
	channels map[string]*channel
	reading  int64 // of the folders, so far
	last     int64 // receipt given
	suspects []suspect
	letters  map[int32]int64 // read up to, of the dead-letter topic
	looks    int64           // at the commits, so far
	moving   int64           // the look until which partitions may be given to others
	troubles []*trouble      // those that last or may still show
	ill      int             // how many illnesses of the backend last
	well     int64           // the look at which the last of them is over with all it entails
	faults   []string
	c        Counts
}

// Counts sums up a round.
type Counts struct {
	Produced int64 // acknowledged by Kafka
	Stored   int64 // distinct
	Twice    int64 // copies beside them
	Dead     int64 // distinct, in the dead-letter topic
	DeadMore int64 // dead letters that are there once more
	Refused  int64 // documents that were refused for their content
	Resent   int64 // documents that the backend had already, or had accepted
	// Unexcused are those of Resent for which there was no reason: neither was
	// their answer lost nor were they uncommitted when a member ended.
	Unexcused int64
	Lost      int64
	// Removed are those that retention took before they were delivered.
	Removed    int64
	Violations int64
	// Kills are the members that were killed while nothing else was in trouble. Waited
	// is how many looks the longest of what weir then knew to be settled had waited for
	// its commit, and LateCommits are events that had for more than CommitLooks.
	Kills       int64
	Waited      int64
	LateCommits int64
	Disorder    int64 // events that arrived after a later one of their partition
}

// The account's clock are the looks at the commits that somebody tells it of with
// Looked. One takes 50 ms, and longer on a machine that is busy, as everything
// does that is judged by it. While the broker is away there are none.
const (
	// CommitLooks is how soon what is settled has to be committed: weir takes 200 ms,
	// which are four looks. The rest is for processes that have to wait for a
	// processor, which the one that looks may have had meanwhile.
	CommitLooks = 20
	// AckLooks is that with acknowledgements, and where a batch comes in parts. An
	// acknowledgement is believed only once no earlier request is under way that it
	// could be for, which takes as long as weir waits for an answer, 2 s, and once it was
	// asked for. Requests with the parts of a batch begin for as long behind the first
	// answer.
	AckLooks = 120
	// calmAfter is how long after a trouble its consequences may show: a member that
	// was thought dead is thrown out after 20 s, and may deliver what it holds until
	// it hears of it. This is 30 s.
	calmAfter = 600
	// movesWithin is how long it may take until a member that joins has its partitions:
	// the others hear of it with a heartbeat, and let go of them when what is in flight
	// is settled, or 5 s later. This is 15 s.
	movesWithin = 300
	// troubleResends is how often one trouble may be the reason to send an event again,
	// beside the answers that it may have kept from arriving: partitions move when
	// members are thrown out, and again as each of the four joins anew, one after the
	// other. Who needs it is an event that is in nobody's way to be committed, since its
	// dead letter cannot be written.
	troubleResends = 4
)

// New opens the books.
func New(round string, ordered bool, rules Rules) *Account {
	return &Account{
		Round: round, Ordered: ordered, Rules: rules, start: time.Now(), ids: map[string]int64{},
		receipts: map[int64]*receipt{}, channels: map[string]*channel{}, letters: map[int32]int64{},
	}
}

// maxFaults is how many violations are told in words.
const maxFaults = 20

func (a *Account) violation(format string, args ...any) {
	a.c.Violations++
	if len(a.faults) < maxFaults {
		a.faults = append(a.faults, fmt.Sprintf("%8.3fs ", time.Since(a.start).Seconds())+fmt.Sprintf(format, args...))
	}
}

// Violation notes what somebody else found.
func (a *Account) Violation(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.violation(format, args...)
}

// Open notes that a topic exists.
func (a *Account) Open(topic, id string) *Log {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &Log{Topic: topic, ID: id}
	a.logs = append(a.logs, l)
	return l
}

// Gone notes that the topic is about to be deleted.
func (a *Account) Gone(l *Log) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l.gone = true
}

func (l *Log) part(p int32) *part {
	for int(p) >= len(l.parts) {
		l.parts = append(l.parts, &part{})
	}
	return l.parts[p]
}

// place notes that e has its offset in its partition.
func (p *part) place(e *event, offset int64) {
	for int64(len(p.events)) <= offset {
		p.events = append(p.events, nil)
	}
	p.events[offset] = e
	e.offset = offset
}

// Produce gives the next event a number. It is to be produced to log's partition.
func (a *Account) Produce(l *Log, partition int32) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := &event{n: int64(len(a.events) + 1), log: l, partition: partition, offset: -1}
	a.events = append(a.events, e)
	return e.n
}

func (e *event) String() string {
	return fmt.Sprintf("event %d at %s/%d offset %d (topic id %s)", e.n, e.log.Topic, e.partition, e.offset, e.log.ID)
}

// Acked notes that Kafka has acknowledged event n at offset.
func (a *Account) Acked(n, offset int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.events[n-1]
	p := e.log.part(e.partition)
	if e.offset >= 0 && e.offset != offset {
		a.violation("%s: the backend was told another offset than the broker's %d", e, offset)
	}
	p.place(e, offset)
	e.acked = true
	a.c.Produced++
	// It may have been delivered and committed before the producer heard of it.
	if offset < a.compared(p) {
		a.compare(e, a.compared(p))
	}
	a.advance(p)
}

// Store takes documents, in the order of the request. decide says what becomes
// of a document that could be stored: Stored, Busy or Failed. The receipt is for
// Answered.
func (a *Account) Store(in Delivery, decide func() Status) (answers []Status, number int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answers = make([]Status, len(in.Documents))
	r := &receipt{shaky: a.lasts()}
	for i, e := range a.take(&in) {
		if e == nil {
			answers[i] = Refused
			continue
		}
		d := &in.Documents[i]
		r.events = append(r.events, e)
		if in.Late {
			e.excused++ // perhaps what was sent again is there before it
		}
		switch {
		case Rejected(d.Event):
			answers[i] = Refused
			a.refuse(e)
		default:
			if answers[i] = decide(); answers[i] == Stored {
				answers[i] = a.keep(e, d)
				r.kept = append(r.kept, e)
			}
		}
	}
	a.last++
	a.receipts[a.last] = r
	return answers, a.last
}

// take notes that a request came, and judges whether it may come now where order was
// asked for. It returns the events of its documents; nil where something is wrong with
// one.
func (a *Account) take(in *Delivery) []*event {
	known := make([]*event, 0, len(in.Documents)+len(in.Behind))
	for _, documents := range [][]Document{in.Documents, in.Behind} {
		for i := range documents {
			known = append(known, a.recognise(&documents[i]))
		}
	}
	if a.Ordered {
		a.inTurn(known)
	}
	for _, e := range known {
		if e != nil {
			a.arrive(e, e.log.part(e.partition))
		}
	}
	return known[:len(in.Documents)]
}

// inTurn finds what comes for the first time although an earlier event of its
// partition, which came in another request, is not settled. What has come before may
// come in pieces: weir sends a batch so of which some was refused.
func (a *Account) inTurn(request []*event) {
	among, last := map[*event]bool{}, map[*part]*event{}
	for _, e := range request {
		if e == nil {
			continue
		}
		among[e] = true
		if p := e.log.part(e.partition); !e.arrived && (last[p] == nil || last[p].offset < e.offset) {
			last[p] = e
		}
	}
	for p, e := range last {
		for _, before := range p.events[min(p.mark, e.offset):e.offset] {
			if before != nil && before.arrived && !before.settled() && !before.refused && !among[before] {
				a.c.Disorder++
				a.violation("OUT OF TURN: %s comes while %s, which came before, is not settled, though order was asked for", e, before)
				break // one is enough
			}
		}
	}
}

// refuse notes that e is refused for its content.
func (a *Account) refuse(e *event) {
	if e.refused = true; e.refusals > 0 {
		a.c.Resent++
		a.excuse(e)
	}
	e.refusals++
	a.c.Refused++
}

// recognise finds the event that a document is, or says what is wrong with it.
func (a *Account) recognise(d *Document) *event {
	if d.Number < 1 || d.Number > int64(len(a.events)) {
		a.violation("a document with number %d, which was not produced, %s/%d offset %d", d.Number, d.Topic, d.Partition, d.Offset)
		return nil
	}
	e := a.events[d.Number-1]
	if e.log.Topic != d.Topic || d.TopicID != "" && d.TopicID != e.log.ID || e.partition != d.Partition || e.offset >= 0 && e.offset != d.Offset {
		a.violation("%s: its document says %s/%d offset %d", e, d.Topic, d.Partition, d.Offset)
		return nil
	}
	if v := Value(a.Round, e.n); !bytes.HasSuffix(d.Event, v[1:]) || d.Whole && len(d.Event) != len(v) {
		a.violation("%s: its value was altered", e)
		return nil
	}
	if e.offset < 0 {
		e.log.part(e.partition).place(e, d.Offset)
	}
	return e
}

// arrive notes an arrival, the first ones in their order.
func (a *Account) arrive(e *event, p *part) {
	if e.arrived {
		return
	}
	e.arrived = true
	if e.offset < p.arrived {
		a.c.Disorder++
		if a.Ordered {
			a.violation("%s: arrived after offset %d though order was asked for", e, p.arrived-1)
		}
	}
	p.arrived = max(p.arrived, e.offset+1)
	if a.looks < a.moving {
		e.excused++ // it may have come to who is about to lose the partition
	}
}

// keep stores a document.
func (a *Account) keep(e *event, d *Document) Status {
	if d.ID != "" {
		switch n, ok := a.ids[d.ID]; {
		case !ok:
			a.ids[d.ID] = e.n
		case n != e.n:
			// Acknowledged as a duplicate, it would be lost.
			a.violation("%s: its id %q is that of event %d", e, d.ID, n)
			return Exists
		default:
			e.resent++
			a.c.Resent++
			a.excuse(e)
			return Exists
		}
	}
	switch {
	case e.stored && a.Rules.Twice:
		e.resent++
		a.c.Resent++
		a.c.Twice++
		a.excuse(e)
		return Stored
	case e.stored:
		a.violation("%s: stored twice, under ids %q and %q", e, e.id, d.ID)
		return Stored
	}
	e.stored, e.id = true, d.ID
	a.c.Stored++
	return Stored
}

// excuse looks for the reason why e was sent again.
func (a *Account) excuse(e *event) {
	switch {
	case a.Rules.Runs:
	case e.excused > 0:
		e.excused--
	case a.blame(e):
	default:
		a.c.Unexcused++
		a.violation("SENT AGAIN without a reason: %s, committed %d, in the troubles of now %s%s",
			e, e.log.part(e.partition).committed, a.floors(e), e.history)
	}
}

// blame reports whether a trouble can be why e was sent again, and notes that it was.
// Who sends e has not settled it, so it has not committed it either, and whoever begins
// anew begins at what is committed: at no time since the trouble began can that have
// been below the trouble's floor.
func (a *Account) blame(e *event) bool {
	p := e.log.part(e.partition)
	for _, t := range a.troubles {
		if e.offset < t.floors[p] || e.spent[t] >= troubleResends {
			continue
		}
		if e.spent == nil {
			e.spent = map[*trouble]int{}
		}
		e.spent[t]++
		return true
	}
	return false
}

// floors are the floors of e's partition in the troubles of now and how often each was
// blamed, for a violation.
func (a *Account) floors(e *event) string {
	s := "none"
	for i, t := range a.troubles {
		if i == 0 {
			s = ""
		}
		s += fmt.Sprintf("[floor %d, blamed %d times]", t.floors[e.log.part(e.partition)], e.spent[t])
	}
	return s
}

// lasts reports whether answers and commits may be lost on their way now.
func (a *Account) lasts() bool {
	return slices.ContainsFunc(a.troubles, func(t *trouble) bool { return t.calm == 0 })
}

// Answered notes what became of the answer for which Store gave the receipt: ok
// when the client had it whole.
func (a *Account) Answered(number int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.receipts[number]
	if r == nil {
		return // of a front that died
	}
	if r.channel == nil {
		delete(a.receipts, number)
	}
	if !ok || r.shaky || a.lasts() {
		allow(r.events) // it was lost, or may have been behind the front
	}
	if !ok {
		return
	}
	if r.channel != nil && (r.channel.doubt || time.Since(r.came) > a.Rules.AckTimeout/2) {
		return // perhaps it was not believed, or was waited for no longer
	}
	var touched []*part
	for _, e := range r.kept {
		if r.channel != nil && e.receipt != number {
			continue // sent again meanwhile
		}
		e.told = true
		if p := e.log.part(e.partition); !slices.Contains(touched, p) {
			touched = append(touched, p)
		}
	}
	for _, p := range touched {
		a.advance(p)
	}
}

// FrontDied notes that every answer that was not given by now never will be.
func (a *Account) FrontDied() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.channels {
		a.doubt(c)
	}
	for _, r := range a.receipts {
		allow(r.events)
	}
	clear(a.receipts)
}

// allow lets each event be sent once more.
func allow(events []*event) {
	for _, e := range events {
		e.excused++
	}
}

// Disrupted notes that a member ends now or is about to join, or that partitions are
// given to others: what has arrived and is not committed may be sent once more, and so
// may what arrives until that is done. killed: the member gets no chance to commit, so
// what should have been committed by now counts.
func (a *Account) Disrupted(killed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moving = a.looks + movesWithin
	judged := killed && len(a.troubles) == 0 && a.ill == 0 && a.looks >= a.well && !a.Rules.Runs && !a.Rules.Folders
	if judged {
		a.c.Kills++
	}
	for _, l := range a.logs {
		if l.gone {
			continue
		}
		for _, p := range l.parts {
			for o := p.committed; o < a.reach(p); o++ {
				if e := p.events[o]; e != nil && (e.arrived || a.Rules.Folders) {
					e.excused++
				}
			}
			if judged {
				a.judgeCommit(l, p)
			}
		}
	}
}

// judgeCommit looks how long what is settled in p waits for its commit.
func (a *Account) judgeCommit(l *Log, p *part) {
	first := slices.IndexFunc(p.passed, func(s passage) bool { return s.offset > p.committed })
	if first < 0 {
		return
	}
	a.c.Waited = max(a.c.Waited, a.looks-p.passed[first].looks)
	for _, s := range slices.Backward(p.passed[first:]) {
		if a.looks-s.looks > a.commitLooks() {
			a.c.LateCommits += s.offset - p.committed
			a.violation("LATE COMMIT: when a member was killed %s/%d was acknowledged up to offset %d for %s and %d looks, and committed up to %d",
				l.Topic, slices.Index(l.parts, p), s.offset, time.Since(s.at).Round(time.Millisecond), a.looks-s.looks, p.committed)
			return
		}
	}
}

// Trouble notes that from now on answers or commits may be lost on their way,
// until the function that it returns is called.
func (a *Account) Trouble() (over func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &trouble{floors: map[*part]int64{}}
	a.troubles = append(a.troubles, t)
	for _, l := range a.logs {
		for _, p := range l.parts {
			t.floors[p] = p.committed
			for o := p.committed; o < a.reach(p); o++ {
				if e := p.events[o]; e != nil {
					e.excused++ // the answer to it may be on its way
				}
			}
		}
	}
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		t.calm = a.looks + calmAfter
	})
}

// Ill notes that from now on the backend refuses or delays requests, until the
// function that it returns is called. weir goes by the answers to a batch that it
// sends in pieces when it has them all, which then may take any time.
func (a *Account) Ill() (over func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ill++
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ill--
		a.well = a.looks + AckLooks
	})
}

// Letter notes a record of the dead-letter topic: its place there, the event
// number in its value, and where its headers say that it is from. Each partition
// is told in offset order.
func (a *Account) Letter(partition int32, offset int64, d Document, topicID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.letters[partition] = offset + 1
	if d.Number < 1 || d.Number > int64(len(a.events)) {
		a.violation("dead letter %d/%d: event %d was not produced", partition, offset, d.Number)
		return
	}
	e := a.events[d.Number-1]
	if e.log.Topic != d.Topic || e.log.ID != topicID || e.partition != d.Partition || e.offset != d.Offset {
		a.violation("%s: its dead letter says %s/%d offset %d, topic id %s", e, d.Topic, d.Partition, d.Offset, topicID)
		return
	}
	if !bytes.Equal(d.Event, Value(a.Round, e.n)) {
		a.violation("%s: its dead letter's value was altered", e)
		return
	}
	if !e.refused {
		a.violation("%s: a dead letter, though the backend never refused it", e)
	}
	if e.dead++; e.dead > 1 {
		a.c.DeadMore++
		if e.dead > e.refusals && !a.blame(e) {
			a.violation("DEAD-LETTERED AGAIN without a reason: %s, refused %d times, is a dead letter %d times", e, e.refusals, e.dead)
		}
	} else {
		a.c.Dead++
	}
	if e.stored {
		a.violation("%s: a dead letter, and stored", e)
	}
	a.advance(e.log.part(e.partition))
}

// Committed notes that the broker says that the group has committed offset, for
// the topic with that id. It reports false when there is no such topic: it may
// have been made this moment.
func (a *Account) Committed(topic, topicID string, partition int32, offset int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.logs {
		if l.Topic != topic || l.ID != topicID {
			continue
		}
		p := l.part(partition)
		if offset <= p.committed {
			return true
		}
		p.committed = offset
		if !a.Rules.Folders {
			a.compareAll(p, offset)
		}
		at := slices.IndexFunc(p.passed, func(s passage) bool { return s.offset > offset })
		if at < 0 {
			at = len(p.passed)
		}
		p.passed = slices.Delete(p.passed, 0, at)
		return true
	}
	return false
}

// compared is the commit that p's events were compared with.
func (a *Account) compared(p *part) int64 {
	if a.Rules.Folders {
		return p.read
	}
	return p.committed
}

// compareAll judges all events below a commit that were not judged yet.
func (a *Account) compareAll(p *part, offset int64) {
	for ; p.judged < min(offset, int64(len(p.events))); p.judged++ {
		if e := p.events[p.judged]; e != nil && e.acked {
			a.compare(e, offset)
		}
	}
}

// Looked notes that the group's commits were read and told with Committed once
// more.
func (a *Account) Looked() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looks++
	a.troubles = slices.DeleteFunc(a.troubles, func(t *trouble) bool { return t.calm > 0 && a.looks >= t.calm })
}

// compare judges an event below a commit.
func (a *Account) compare(e *event, commit int64) {
	switch {
	case e.settled() || e.checked:
	case e.refused:
		e.checked = true
		a.suspects = append(a.suspects, suspect{e: e, at: commit, when: time.Now()})
	default:
		e.checked = true
		a.violation("COMMIT AHEAD: offset %d is committed, but not delivered: %s", commit, e)
	}
}

// Suspicious reports whether the ends of the dead-letter topic are wanted.
func (a *Account) Suspicious() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.suspects, func(s suspect) bool { return s.ends == nil })
}

// Ends tells the ends of the dead-letter topic, asked after Suspicious was.
func (a *Account) Ends(ends map[int32]int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.suspects {
		if a.suspects[i].ends == nil {
			a.suspects[i].ends = ends
		}
	}
}

// Judge decides on suspects as soon as all dead letters that were there at the
// time have been read.
func (a *Account) Judge() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.suspects = slices.DeleteFunc(a.suspects, func(s suspect) bool {
		if s.e.settled() {
			return true
		}
		if s.ends == nil {
			return false
		}
		for p, end := range s.ends {
			if a.letters[p] < end {
				return false
			}
		}
		a.violation("COMMIT AHEAD: offset %d was committed, seen %s ago, but its dead letter was not written: %s", s.at, time.Since(s.when).Round(time.Millisecond), s.e)
		return true
	})
}

// advance moves the mark of p.
func (a *Account) advance(p *part) {
	before := p.mark
	for p.mark < int64(len(p.events)) {
		e := p.events[p.mark]
		if e == nil || !e.known() {
			break
		}
		p.mark++
	}
	if p.mark > before {
		p.passed = append(p.passed, passage{offset: p.mark, at: time.Now(), looks: a.looks})
	}
}

// Wait is why the round is not over: what is not settled or not committed. Empty:
// it is over.
func (a *Account) Wait() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var open, uncommitted int64
	where := ""
	for _, l := range a.logs {
		if l.gone {
			continue
		}
		for i, p := range l.parts {
			n := int64(0)
			for _, e := range p.events[min(p.mark, int64(len(p.events))):] {
				if e != nil && e.acked && !e.settled() {
					n++
				}
			}
			end := p.end()
			open += n
			if c := max(0, end-p.committed); n > 0 || c > 0 {
				uncommitted += c
				where += fmt.Sprintf(" %s/%d: %d open, committed %d of %d;", l.Topic, i, n, p.committed, end)
			}
		}
	}
	if open == 0 && uncommitted == 0 && len(a.suspects) == 0 {
		return ""
	}
	return fmt.Sprintf("%d events not settled, %d not committed, %d suspects:%s", open, uncommitted, len(a.suspects), where)
}

// Close closes the books: what is not settled now is lost.
func (a *Account) Close() (Counts, []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if e.acked && !e.log.gone && !e.settled() {
			a.c.Lost++
			a.violation("LOST: %s", e)
		}
		if e.removed && !e.stored && e.dead == 0 {
			a.c.Removed++
		}
	}
	return a.c, slices.Clone(a.faults)
}

// Removed notes that retention is about to take what lies below an offset: what was
// not delivered until then may never be.
func (a *Account) Removed(l *Log, partition int32, below int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := l.part(partition)
	for _, e := range p.events[:min(below, int64(len(p.events)))] {
		if e != nil {
			e.removed = true
		}
	}
}

// Delivered reports whether event n is in the backend or among the dead letters.
func (a *Account) Delivered(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.events[n-1]
	return e.stored || e.dead > 0
}

// Flows reports whether anything was delivered and committed yet.
func (a *Account) Flows() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.logs {
		for _, p := range l.parts {
			if p.committed > 0 {
				return true
			}
		}
	}
	return false
}

// Counts is how things stand.
func (a *Account) Counts() Counts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.c
}
