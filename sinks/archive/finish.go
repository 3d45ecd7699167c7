package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// Finish finishes all files of an archive that nobody writes to any more, and
// keeps it locked until release is called, which leaves nothing of the lock behind.
//
// Errors: somebody does write to it; a file could not be finished; of the disk.
func Finish(dir string, log *slog.Logger) (release func() error, err error) {
	s, err := New(Config{Dir: dir, Compression: "none", RotateBytes: 1, RotateAfter: 1, Log: log})
	if err != nil {
		return nil, err
	}
	m, err := s.mount() // and with it everything that was left open is swept up
	if err != nil {
		s.Close()
		return nil, s.requestError(err)
	}
	s.works.Wait()
	f := m.disk.(*folder)
	err = fs.WalkDir(f.root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.HasSuffix(path, openSuffix) {
			err = fmt.Errorf("archive file %q could not be finished: see the log", path)
		}
		return err
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	return func() error {
		err := f.root.Remove(LockFile)
		s.Close()
		return errors.Join(err, syncFolder(dir, os.Open))
	}, nil
}
