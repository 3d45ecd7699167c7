package archive

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// fakeDisk is a file system that can die at any byte of any write, alone (a power
// loss) or with the process that uses it (a kill). It keeps what is in the kernel's
// memory apart from what is on the disk, and is as mean as POSIX allows:
//
//   - what was not synced may be on the disk wholly, in part, as zeros, or not;
//   - an fsync that fails takes pages it could not write for clean: the next one says
//     that all is well;
//   - names that were made, changed or removed in a folder that was not synced may
//     be there or not.
type fakeDisk struct {
	mu     sync.Mutex
	random *rand.Rand
	names  map[string]*fakeFile // as the running processes see them
	onDisk map[string]*fakeFile
	ops    map[string][]func(map[string]*fakeFile) // by folder, since it was synced

	age    int // of the process that may use it: who was opened before is dead
	life   int // bytes and calls until the process dies; negative: it lives on
	faulty int // one call in so many fails; 0: none
}

var (
	errDead  = errors.New("the process is dead")
	errFault = &fs.PathError{Op: "write", Path: "secret", Err: syscall.EIO}
)

func newFakeDisk(seed uint64) *fakeDisk {
	return &fakeDisk{random: rand.New(rand.NewPCG(seed, 7)), names: map[string]*fakeFile{}, onDisk: map[string]*fakeFile{},
		ops: map[string][]func(map[string]*fakeFile){}, life: -1}
}

// fakeFile is the content of a file.
type fakeFile struct {
	seen    []byte // by the running processes
	onDisk  []byte
	pending []change // since it was synced
}

// change is one of the content.
type change struct {
	apply  func([]byte) []byte
	length bool // a truncation: it is in the file system's journal, and not in a page that can be dropped
}

// process is the disk as one process uses it.
type process struct {
	*fakeDisk
	age int
}

func (d *fakeDisk) process() process {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.age++
	return process{d, d.age}
}

// kill ends the process that uses d. With power the machine goes on, and what its
// kernel remembers is not lost.
func (d *fakeDisk) kill(power bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.age++
	d.life = -1
	if power {
		return
	}
	for _, folder := range sorted(d.ops) {
		for _, op := range d.ops[folder][:d.random.IntN(len(d.ops[folder])+1)] {
			op(d.onDisk)
		}
	}
	clear(d.ops)
	d.names = map[string]*fakeFile{}
	for _, name := range sorted(d.onDisk) {
		f := d.onDisk[name]
		for _, op := range f.pending {
			switch d.random.IntN(4) {
			case 0:
				f.onDisk = op.apply(f.onDisk)
			case 1: // lost
			case 2: // its first part is there
				before, after := f.onDisk, op.apply(bytes.Clone(f.onDisk))
				if len(after) > len(before) {
					f.onDisk = after[:len(before)+d.random.IntN(len(after)-len(before)+1)]
				}
			case 3: // only the length was written
				before, after := f.onDisk, op.apply(bytes.Clone(f.onDisk))
				if len(after) > len(before) {
					f.onDisk = append(bytes.Clone(after[:len(before)]), make([]byte, len(after)-len(before))...)
				}
			}
		}
		d.names[name] = &fakeFile{seen: bytes.Clone(f.onDisk), onDisk: bytes.Clone(f.onDisk)}
		d.onDisk[name] = d.names[name]
	}
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// call is the start of every call, with the lock held. It says how many of n bytes
// are dealt with before the process dies or the call fails.
func (p process) call(n int) (int, error) {
	if p.age != p.fakeDisk.age {
		return 0, errDead
	}
	if p.life >= 0 {
		if p.life -= n + 1; p.life <= 0 {
			p.fakeDisk.age++
			return max(0, n+p.life), errDead
		}
	}
	if p.faulty > 0 && p.random.IntN(p.faulty) == 0 {
		return p.random.IntN(n + 1), errFault
	}
	return n, nil
}

func (p process) Open(name string) (handle, error)   { return p.open(name, false) }
func (p process) Create(name string) (handle, error) { return p.open(name, true) }

func (p process) open(name string, create bool) (handle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.call(0); err != nil {
		return nil, err
	}
	f := p.names[name]
	switch {
	case create && f != nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case !create && f == nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case create:
		f = &fakeFile{}
		p.change(name, func(names map[string]*fakeFile) { names[name] = f })
	}
	return &fakeHandle{p, f}, nil
}

// change changes the names of a folder.
func (p process) change(name string, op func(map[string]*fakeFile)) {
	op(p.names)
	p.ops[path.Dir(name)] = append(p.ops[path.Dir(name)], op)
}

func (p process) List(folder string, each func(string, bool)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.call(0); err != nil {
		return err
	}
	below := map[string]bool{}
	for _, name := range sorted(p.names) {
		rest, ok := name, true
		if folder != "." {
			rest, ok = strings.CutPrefix(name, folder+"/")
		}
		if !ok {
			continue
		}
		first, _, deeper := strings.Cut(rest, "/")
		if !deeper {
			each(first, false)
		} else if !below[first] {
			below[first] = true
			each(first, true)
		}
	}
	return nil
}

func (p process) Mkdir(string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.call(0)
	return err
}

func (p process) Sync(folder string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.call(0); err != nil {
		return err
	}
	for _, op := range p.ops[folder] {
		op(p.onDisk)
	}
	delete(p.ops, folder)
	return nil
}

func (p process) Rename(from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.call(0); err != nil {
		return err
	}
	f := p.names[from]
	if f == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	p.change(from, func(names map[string]*fakeFile) { delete(names, from); names[to] = f })
	return nil
}

func (p process) Remove(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.call(0); err != nil {
		return err
	}
	if p.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	p.change(name, func(names map[string]*fakeFile) { delete(names, name) })
	return nil
}

func (p process) Exists(name string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.call(0)
	return p.names[name] != nil, err
}

func (p process) Close() error { return nil }

type fakeHandle struct {
	process
	f *fakeFile
}

func (h *fakeHandle) Close() error { return nil }

func (h *fakeHandle) Size() (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.call(0)
	return int64(len(h.f.seen)), err
}

func (h *fakeHandle) ReadAt(b []byte, at int64) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.call(0); err != nil {
		return 0, err
	}
	return bytes.NewReader(h.f.seen).ReadAt(b, at)
}

func (h *fakeHandle) WriteAt(b []byte, at int64) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.call(len(b))
	if n > 0 {
		part := bytes.Clone(b[:n])
		h.f.change(false, func(on []byte) []byte {
			end := int(at) + len(part)
			if len(on) < end {
				on = append(on, make([]byte, end-len(on))...)
			}
			copy(on[at:], part)
			return on
		})
	}
	return n, err
}

func (f *fakeFile) change(length bool, apply func([]byte) []byte) {
	f.seen = apply(f.seen)
	f.pending = append(f.pending, change{apply, length})
}

func (h *fakeHandle) Truncate(size int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.call(0); err != nil {
		return err
	}
	h.f.change(true, func(on []byte) []byte {
		if len(on) > int(size) {
			return on[:size]
		}
		return append(on, make([]byte, int(size)-len(on))...)
	})
	return nil
}

func (h *fakeHandle) Sync() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.call(0)
	if errors.Is(err, errDead) {
		return err
	}
	var left []change
	for _, op := range h.f.pending {
		switch {
		case err == nil || h.random.IntN(2) == 0:
			h.f.onDisk = op.apply(bytes.Clone(h.f.onDisk))
		case op.length:
			left = append(left, op)
		}
	}
	h.f.pending = left // the others were written, or are taken for clean
	return err
}

// files are the contents that a reader sees.
func (d *fakeDisk) files() map[string]*bytes.Reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string]*bytes.Reader{}
	for name, f := range d.names {
		all[name] = bytes.NewReader(bytes.Clone(f.seen))
	}
	return all
}

var _ io.ReaderAt = (*fakeHandle)(nil)
