package account

// Acknowledged is behind the last event of each partition that Kafka has acknowledged.
func (a *Account) Acknowledged() Marks {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := Marks{}
	for _, l := range a.logs {
		if l.gone {
			continue
		}
		for _, p := range l.parts {
			m[p] = p.end()
		}
	}
	return m
}

// end is the offset behind the last event that Kafka has acknowledged.
func (p *part) end() int64 {
	for o := len(p.events) - 1; o >= 0; o-- {
		if e := p.events[o]; e != nil && e.acked {
			return int64(o) + 1
		}
	}
	return 0
}

// Behind is how many offsets below the ends are not committed.
func (a *Account) Behind(ends Marks) (n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, end := range ends {
		n += max(0, end-p.committed)
	}
	return n
}

// Looks is how many looks there were at the commits.
func (a *Account) Looks() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.looks
}
