package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// commit stores what is new of the parts' records in one frame, and returns when
// it is durable.
func (s *Sink) commit(se *series, parts []*part) error {
	if a := se.active; a != nil && time.Since(a.opened) >= s.cfg.RotateAfter {
		if err := se.sealActive(); err != nil {
			return err
		}
	}
	for _, p := range parts {
		p.there = make([]bool, len(p.offsets))
		for i, o := range p.offsets {
			var err error
			if p.there[i], err = se.has(o); err != nil {
				return err
			}
		}
	}
	frame, ok := s.frames.Get().(*bytes.Buffer)
	if !ok {
		frame = new(bytes.Buffer)
	}
	defer func() {
		if frame.Cap() <= 4<<20 {
			s.frames.Put(frame)
		}
	}()
	frame.Reset()
	fresh, err := s.encode(parts, frame)
	if err != nil || len(fresh.spans) == 0 {
		return err
	}
	if err := se.append(frame.Bytes(), s.codec, fresh); err != nil {
		return err
	}
	if a := se.active; a.size >= s.cfg.RotateBytes || a.records >= maxRecords {
		if err := se.sealActive(); err != nil {
			// What was asked for is done. The file goes on until it can be finished.
			s.log.Warn("an archive file could not be finished and grows on",
				"file", se.key.prefix+a.name.String(), "error", s.explain(se, err))
		}
	}
	return nil
}

// encode makes the frame of the records that are not there yet, and returns their
// offsets. Of a record that two parts want the second counts as there.
func (s *Sink) encode(parts []*part, frame *bytes.Buffer) (*offsets, error) {
	e := <-s.encoders
	defer func() { s.encoders <- e }()
	if e == nil {
		var err error
		if e, err = newEncoder(s.codec); err != nil {
			return nil, err
		}
	}
	fresh := new(offsets)
	begun := false
	for _, p := range parts {
		if !p.state.CompareAndSwap(partWaits, partEncodes) {
			continue // nobody waits for it any more
		}
		for i, o := range p.offsets {
			if p.there[i] || !fresh.add(o) {
				p.there[i] = true
				continue
			}
			if !begun {
				e.start(frame)
				begun = true
			}
			e.lines.record(p.start, p.records[i])
		}
		close(p.encoded)
	}
	if !begun {
		return fresh, nil
	}
	return fresh, e.finish()
}

// append adds a frame with the records of these offsets to the file that is
// written to.
func (se *series) append(frame []byte, c codec, of *offsets) error {
	var f handle
	var err error
	if se.active == nil {
		n := fileName{span: span{first: of.lowest()}, codec: c, open: true}
		if f, err = se.mount.Create(se.path(n)); err == nil {
			se.active = &active{name: n, opened: time.Now(), dirty: true}
		}
	} else {
		f, err = se.openActive()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	a := se.active
	a.dirty = true
	if _, err := f.WriteAt(frame, a.size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if !a.named {
		if err := se.mount.Sync(se.dir()); err != nil {
			return err
		}
		a.named = true
	}
	a.dirty = false
	a.size += int64(len(frame))
	if a.records == 0 {
		a.span = span{of.lowest(), of.highest()}
	}
	for _, p := range of.spans {
		for o := p.first; o <= p.last; o++ {
			a.stored.add(o)
		}
		a.records += int(p.last - p.first + 1)
	}
	a.span.first, a.span.last = min(a.span.first, of.lowest()), max(a.span.last, of.highest())
	if len(a.stored.spans) > maxSpans {
		a.floor = a.stored.forget(maxSpans / 2)
	}
	se.high = max(se.high, of.highest())
	return nil
}

// explain is err with the files it is about.
func (s *Sink) explain(se *series, err error) error {
	return fmt.Errorf("files %s*: %w", se.key.prefix, s.plain(err))
}

// plain is err without names of folders, where events can be quoted in them.
func (s *Sink) plain(err error) error {
	if !s.layout.needsEvent() {
		return err
	}
	var one *fs.PathError
	var two *os.LinkError
	switch {
	case errors.As(err, &one):
		return fmt.Errorf("%s: %w", one.Op, one.Err)
	case errors.As(err, &two):
		return fmt.Errorf("%s: %w", two.Op, two.Err)
	}
	return err
}
