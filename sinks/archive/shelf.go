package archive

import (
	"container/list"
	"sync"
)

// shelf keeps the offsets of finished files that were looked through, up to a
// number of bytes; those that were not asked for the longest go first.
type shelf struct {
	room  int64
	sets  map[string]*list.Element // of *shelved
	order list.List                // the last used in front
	mu    sync.Mutex
}

type shelved struct {
	name string
	set  *offsets
	size int64
}

// maxShelf bounds the bytes of a shelf. It has room for the worst file there can
// be.
const maxShelf = 32 << 20

func newShelf() *shelf {
	return &shelf{room: maxShelf, sets: map[string]*list.Element{}}
}

// get is the set of that name, made by look if it is not there. Only one caller
// asks for one name at a time. A set that is handed out does not change.
func (s *shelf) get(name string, look func() (*offsets, error)) (*offsets, error) {
	if set := s.find(name); set != nil {
		return set, nil
	}
	set, err := look()
	if err != nil {
		return nil, err
	}
	s.put(&shelved{name, set, int64(16*cap(set.spans)) + 256})
	return set, nil
}

func (s *shelf) find(name string) *offsets {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.sets[name]
	if e == nil {
		return nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*shelved).set
}

func (s *shelf) put(b *shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets[b.name] = s.order.PushFront(b)
	s.room -= b.size
	for s.room < 0 && s.order.Len() > 1 {
		old := s.order.Remove(s.order.Back()).(*shelved)
		delete(s.sets, old.name)
		s.room += old.size
	}
}
