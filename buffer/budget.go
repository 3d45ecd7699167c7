package buffer

import (
	"context"
	"slices"
	"sync"
)

// Budget bounds the bytes of records held by all lanes of a connector. Half of
// it is reserved in equal parts for the open accounts (one a lane), so that a
// lane whose records cannot leave never keeps the others from working; the other
// half goes to whoever asks first. Safe for concurrent use.
type Budget struct {
	mu       sync.Mutex
	capacity int64
	held     int64
	accounts []*Account
	waiting  []*claim // in the order in which they came
}

// Account is one lane's part of a Budget.
type Account struct {
	budget *Budget
	held   int64
	closed bool
}

// claim is an Acquire that waits.
type claim struct {
	account *Account
	bytes   int64
	granted chan struct{} // closed when granted
}

// NewBudget is a budget of capacity bytes.
func NewBudget(capacity int64) *Budget { return &Budget{capacity: capacity} }

// Open adds an account.
func (b *Budget) Open() *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &Account{budget: b}
	b.accounts = append(b.accounts, a)
	return a
}

// Held is the number of bytes held, and the most that may be.
func (b *Budget) Held() (held, capacity int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held, b.capacity
}

// reserve is what every open account can have whatever the others hold.
func (b *Budget) reserve() int64 {
	open := 0
	for _, a := range b.accounts {
		if !a.closed {
			open++
		}
	}
	return b.capacity / 2 / int64(max(open, 1))
}

// beyond is what is held above the reserves: the part of the common half in use.
func (b *Budget) beyond(reserve int64) int64 {
	var sum int64
	for _, a := range b.accounts {
		switch {
		case a.closed:
			sum += a.held
		case a.held > reserve:
			sum += a.held - reserve
		}
	}
	return sum
}

// TryAcquire is Acquire for one who does not want to wait: it reports false
// where Acquire would.
func (a *Account) TryAcquire(n int64) (charged int64, ok bool) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &claim{account: a, bytes: n}
	if !b.grant(c, len(b.waiting) > 0) {
		return 0, false
	}
	return c.bytes, true
}

// Acquire waits until n bytes may be held and returns how many were charged.
// That is n, but never more than one account can have at all: a record larger
// than that passes when the whole common half and the account's own reserve are
// free, charged with those.
//
// Errors: that of ctx, and then nothing is charged.
func (a *Account) Acquire(ctx context.Context, n int64) (charged int64, err error) {
	b := a.budget
	b.mu.Lock()
	c := &claim{account: a, bytes: n, granted: make(chan struct{})}
	if b.grant(c, len(b.waiting) > 0) {
		b.mu.Unlock()
		return c.bytes, nil
	}
	b.waiting = append(b.waiting, c)
	b.mu.Unlock()

	select {
	case <-c.granted:
		return c.bytes, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, c); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	} else {
		// Granted between ctx's end and the lock: give it back.
		a.held -= c.bytes
		b.held -= c.bytes
	}
	b.wake()
	return 0, ctx.Err()
}

// grant charges c if it fits. Behind others that wait (queued) only the
// account's own reserve is open to it, or a stream of small claims could keep a
// large one waiting for ever.
func (b *Budget) grant(c *claim, queued bool) bool {
	a := c.account
	reserve := b.reserve()
	common := b.capacity - b.capacity/2
	n := min(c.bytes, common+reserve)
	switch {
	case b.held+n > b.capacity:
		// Accounts that were opened after the budget was spent have to wait for
		// their reserve: the bound comes first.
		return false
	case a.held+n <= reserve:
	case queued:
		return false
	case b.beyond(reserve)-max(a.held-reserve, 0)+a.held+n-reserve > common:
		return false
	}
	c.bytes = n
	a.held += n
	b.held += n
	return true
}

// wake grants what waits and fits now, in order.
func (b *Budget) wake() {
	queued := false
	b.waiting = slices.DeleteFunc(b.waiting, func(c *claim) bool {
		if b.grant(c, queued) {
			close(c.granted)
			return true
		}
		queued = true
		return false
	})
}

// Release gives back n bytes. It may be called after Close.
func (a *Account) Release(n int64) {
	if n == 0 {
		return
	}
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > a.held {
		panic("buffer: more released than acquired")
	}
	a.held -= n
	b.held -= n
	b.forget(a)
	b.wake()
}

// Reserve is the number of bytes the account can have whatever the others hold.
// It falls as accounts are opened. Who asks for more in one go depends on the
// common half.
func (a *Account) Reserve() int64 {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.budget.reserve()
}

// Close ends the account's claim to a reserve. What it still holds counts
// against the common half until it is released.
func (a *Account) Close() {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	a.closed = true
	b.forget(a)
	b.wake()
}

func (b *Budget) forget(a *Account) {
	if a.closed && a.held == 0 {
		b.accounts = slices.DeleteFunc(b.accounts, func(o *Account) bool { return o == a })
	}
}
