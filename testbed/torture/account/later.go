package account

import (
	"fmt"
	"slices"
	"time"
)

// Accept takes documents that are not safe yet: Index makes them so, Answered says
// that their acknowledgement was handed over. A backend that dies before has lost
// them. The receipt is for both.
func (a *Account) Accept(in Delivery) (number int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	c := a.channel(in.Channel)
	r := &receipt{waiting: true, came: now, channel: c, shaky: a.lasts()}
	a.last++
	for i, e := range a.take(&in) {
		if e == nil {
			continue
		}
		d := &in.Documents[i]
		p := e.log.part(e.partition)
		r.events = append(r.events, e)
		if in.Late {
			e.excused++ // perhaps what was sent again is there before it
		}
		if Rejected(d.Event) {
			a.refuse(e)
			continue
		}
		if e.receipt > 0 {
			a.again(e, p, in.Sender, now)
		}
		if c.doubt {
			e.excused++
		}
		e.receipt, e.came, e.sender = a.last, now, in.Sender
		r.kept = append(r.kept, e)
	}
	c.receipts = append(c.receipts, r)
	a.receipts[a.last] = r
	return a.last
}

// again looks for the reason why e, which was accepted before, comes again. Two
// are as good as those that excuse knows: it was waited for as long as it has to be,
// and another process has taken over the partition and begins at what is committed.
func (a *Account) again(e *event, p *part, sender string, now time.Time) {
	e.resent++
	a.c.Resent++
	switch {
	case !e.told && now.Sub(e.came) >= a.Rules.AckTimeout:
	case e.sender != sender && e.offset >= p.committed:
	default:
		e.history = fmt.Sprintf(", accepted %s ago, acknowledged %t", now.Sub(e.came).Round(time.Millisecond), e.told)
		a.excuse(e)
		e.history = ""
	}
	a.untell(e, p)
}

// untell takes back that weir knows e to be settled: it does not act like it.
func (a *Account) untell(e *event, p *part) {
	if !e.told {
		return
	}
	e.told = false
	p.mark = min(p.mark, e.offset)
	p.passed = slices.DeleteFunc(p.passed, func(s passage) bool { return s.offset > e.offset })
}

// Index makes safe what Accept gave the receipt for, unless the backend has died
// since.
func (a *Account) Index(number int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.receipts[number]
	if r == nil || !r.waiting {
		return
	}
	r.waiting = false
	for _, e := range r.kept {
		if e.stored {
			a.c.Twice++
			continue
		}
		e.stored = true
		a.c.Stored++
	}
}

func (a *Account) channel(name string) *channel {
	if a.channels[name] == nil {
		a.channels[name] = &channel{}
	}
	return a.channels[name]
}

// Doubt notes that an answer in a channel was lost.
func (a *Account) Doubt(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.doubt(a.channel(name))
}

func (a *Account) doubt(c *channel) {
	c.doubt = true
	for _, r := range c.receipts {
		for _, e := range r.kept {
			if p := e.log.part(e.partition); e.offset >= p.committed {
				e.excused++
				a.untell(e, p)
			}
		}
	}
	c.receipts = nil
}

// commitLooks is how soon what weir was told has to be committed.
func (a *Account) commitLooks() int64 {
	if a.Rules.AckTimeout > 0 || a.Rules.Parts {
		return AckLooks
	}
	return CommitLooks
}
