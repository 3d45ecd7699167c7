package account

import "iter"

// Marks are what is committed, for Found: it has to be asked for before the
// folders are read.
func (a *Account) Marks() Marks {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := Marks{}
	for _, l := range a.logs {
		for _, p := range l.parts {
			m[p] = p.committed
		}
	}
	return m
}

// Marks are offsets of partitions.
type Marks map[*part]int64

// Found notes what the folders, by their numbers, hold, once all were read. What
// was committed when marks was made has to be among it, and so has what was found
// before.
func (a *Account) Found(marks Marks, folders map[int]iter.Seq[Document]) {
	a.mu.Lock()
	a.reading++
	a.mu.Unlock()
	for folder, documents := range folders {
		for d := range documents {
			a.find(folder, &d)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		for folder := range maxFolders {
			if e.folders&(1<<folder) != 0 && e.seen[folder] != a.reading && folders[folder] != nil {
				e.folders &^= 1 << folder
				a.violation("GONE from folder %d, where it was: %s", folder+1, e)
			}
		}
	}
	for p, offset := range marks {
		p.read = max(p.read, offset)
		a.compareAll(p, offset)
	}
}

// find notes a line of a folder.
func (a *Account) find(folder int, d *Document) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.recognise(d)
	if e == nil {
		return
	}
	switch bit := uint8(1) << folder; {
	case e.seen[folder] == a.reading:
		if !e.twice {
			e.twice = true
			a.c.Twice++
			a.violation("%s: twice in folder %d", e, folder+1)
		}
	case e.folders == 0:
		e.stored, e.arrived = true, true
		e.folders = bit
		a.c.Stored++
	case e.folders&bit == 0:
		e.folders |= bit
		e.resent++
		a.c.Resent++
		a.c.Twice++
		a.excuse(e)
	}
	e.seen[folder] = a.reading
}

// reach is the end of what may be on its way in p: what has arrived, or, where that
// shows only when the folders are read, what was produced.
func (a *Account) reach(p *part) int64 {
	if a.Rules.Folders {
		return int64(len(p.events))
	}
	return p.arrived
}
