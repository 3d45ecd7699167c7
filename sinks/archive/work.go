package archive

import (
	"io/fs"
	"time"
)

// enqueue hands p to the goroutine that works on its series, and starts one if
// there is none.
func (s *Sink) enqueue(key seriesKey, p *part) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fs.ErrClosed
	}
	se := s.series[key]
	if se == nil {
		s.makeRoom()
		se = s.add(key)
	}
	s.used.MoveToFront(se.used)
	se.waiting = append(se.waiting, p)
	s.start(se)
	if s.ticker == nil {
		s.ticker = time.AfterFunc(s.tick(), s.age)
	}
	return nil
}

// add makes a series, which finds out what there is on the disk when it is started.
// The lock is held.
func (s *Sink) add(key seriesKey) *series {
	se := &series{key: key}
	se.used = s.used.PushFront(se)
	s.series[key] = se
	return se
}

// start has somebody work on se. The lock is held.
func (s *Sink) start(se *series) {
	if !se.busy {
		se.busy = true
		s.works.Go(func() { s.work(se) })
	}
}

// makeRoom has the idle series that was not used for the longest finish its file,
// if there are too many. The lock is held.
func (s *Sink) makeRoom() {
	if len(s.series) < maxSeries {
		return
	}
	for e := s.used.Back(); e != nil; e = e.Prev() {
		if se := e.Value.(*series); !se.busy {
			se.seal = true
			s.start(se)
			return
		}
	}
}

// work does what there is to do for se.
func (s *Sink) work(se *series) {
	for {
		parts, seal, ok := s.next(se)
		if !ok {
			return
		}
		s.commits <- struct{}{}
		err := s.load(se)
		if err == nil && len(parts) > 0 {
			err = s.commit(se, parts)
		}
		if err != nil {
			se.distrust(err)
			err = s.explain(se, err)
		}
		if seal {
			s.finish(se, err)
		}
		<-s.commits
		for _, p := range parts {
			p.err = err
			close(p.done)
		}
	}
}

// finish finishes se's file, if it is known, that is if err is nil.
func (s *Sink) finish(se *series, err error) {
	if err == nil {
		if err = se.sealActive(); err == nil {
			return
		}
		se.distrust(err)
		err = s.explain(se, err)
	}
	s.log.Warn("an archive file could not be finished; it is tried again", "error", err)
}

// next is what is to be done for se. When there is nothing, se is given back; one
// without a file that is written to is forgotten: what is on the disk tells all.
func (s *Sink) next(se *series) (parts []*part, seal, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for bytes := int64(0); n < len(se.waiting) && (n == 0 || bytes+se.waiting[n].bytes <= maxGroup); n++ {
		bytes += se.waiting[n].bytes
	}
	parts, se.waiting = se.waiting[:n:n], se.waiting[n:]
	seal, se.seal = se.seal, false
	if n > 0 || seal {
		return parts, seal, true
	}
	se.busy, se.waiting, se.due = false, nil, time.Time{}
	if se.active != nil {
		se.due = se.active.opened.Add(s.cfg.RotateAfter)
	} else {
		delete(s.series, se.key)
		s.used.Remove(se.used)
	}
	return nil, false, false
}

// tick is how often it is looked for files that are old enough.
func (s *Sink) tick() time.Duration {
	return min(max(s.cfg.RotateAfter/10, time.Second), time.Minute)
}

// age finishes the files that are old enough and that nobody writes to.
func (s *Sink) age() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.series) == 0 {
		s.ticker = nil
		return
	}
	for _, se := range s.series {
		if !se.busy && time.Now().After(se.due) {
			se.seal = true
			s.start(se)
		}
	}
	s.ticker = time.AfterFunc(s.tick(), s.age)
}

// Close waits for what is being written, finishes all files and unlocks the
// folder. A Deliver after it fails.
func (s *Sink) Close() {
	s.mu.Lock()
	s.closed = true
	if s.ticker != nil {
		s.ticker.Stop()
	}
	for _, se := range s.series {
		se.seal = true
		s.start(se)
	}
	s.mu.Unlock()
	s.works.Wait()
	s.mountMu.Lock()
	defer s.mountMu.Unlock()
	if s.mounted != nil {
		_ = s.mounted.Close()
		s.mounted = nil
	}
}
