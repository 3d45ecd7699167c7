package archive

import (
	"path"
	"strings"
)

// mount is the archive's folder, opened and locked, and what is remembered of the
// files in it.
type mount struct {
	disk
	shelf *shelf
}

// mount opens the archive's folder if it is not open, or no longer the one of that
// name.
func (s *Sink) mount() (*mount, error) {
	s.mountMu.Lock()
	defer s.mountMu.Unlock()
	if m := s.mounted; m != nil {
		f, ok := m.disk.(*folder)
		if !ok || f.still(s.cfg.Dir) {
			return m, nil
		}
		s.log.Warn("the archive's folder was replaced by another; opening it anew", "dir", s.cfg.Dir)
		s.mounted = nil
		_ = m.Close()
	}
	d, err := s.open()
	if err != nil {
		return nil, err
	}
	s.mounted = &mount{d, newShelf()}
	s.sweep(d, ".", 0)
	return s.mounted, nil
}

// sweep has the files finished that another process left open and that perhaps no
// record comes for any more.
func (s *Sink) sweep(d disk, name string, depth int) {
	var folders []string
	left := map[seriesKey]bool{}
	err := d.List(name, func(entry string, isFolder bool) {
		if isFolder {
			folders = append(folders, path.Join(name, entry))
			return
		}
		if prefix := openPrefix(entry); prefix != "" {
			left[seriesKey{strings.TrimPrefix(name+"/", "./"), prefix}] = true
		}
	})
	if err != nil {
		// It may be none of ours (lost+found). One of ours tells when it is written to.
		s.log.Warn("cannot look for open files in a folder of the archive", "dir", s.cfg.Dir, "error", s.plain(err))
	}
	s.mu.Lock()
	for key := range left {
		if s.series[key] == nil {
			se := s.add(key)
			se.seal = true
			s.start(se)
		}
	}
	s.mu.Unlock()
	if depth < maxFolders {
		for _, f := range folders {
			s.sweep(d, f, depth+1)
		}
	}
}

// load makes se known as it is on the disk, if it is not.
func (s *Sink) load(se *series) error {
	m, err := s.mount()
	if err != nil || se.mount == m {
		return err
	}
	return se.load(m, s.log)
}
