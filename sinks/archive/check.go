package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"weir/sinks"
)

// remote are file systems whose server decides whether a lock means anything to
// another machine (statfs(2), f_type).
var remote = map[uint32]string{0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB 2", 0x65735546: "FUSE", 0x517b: "SMB", 0x00c36400: "Ceph"}

// scarce is the free space below which somebody should look.
const scarce = 1 << 30

// Check looks whether the folder is there, is free and can be written to, and how
// much room there is. It writes nothing, and does not take the lock.
func (s *Sink) Check(context.Context) []sinks.Finding {
	dir := s.cfg.Dir
	info, err := os.Stat(dir)
	missing := errors.Is(err, fs.ErrNotExist)
	if missing {
		dir = filepath.Dir(filepath.Clean(dir)) // where it would be made
		info, err = os.Stat(dir)
	}
	found := []sinks.Finding{checkFolder(s.cfg.Dir, dir, missing, info, err)}
	if found[0].State != sinks.Bad {
		if !missing {
			found = append(found, checkLock(dir))
		}
		found = append(found, checkRoom(dir))
	}
	return found
}

func checkFolder(wanted, dir string, missing bool, info fs.FileInfo, err error) sinks.Finding {
	f := sinks.Finding{What: "folder"}
	const writeAndEnter = 2 | 1 // access(2): W_OK, X_OK
	switch {
	case err != nil:
		f.Detail = fmt.Sprintf("%v: only the last folder of dir is made by weir", err)
	case !info.IsDir():
		f.Detail = fmt.Sprintf("%q is not a folder", dir)
	case syscall.Access(dir, writeAndEnter) != nil:
		f.Detail = fmt.Sprintf("%q cannot be written to by this user", dir)
	case missing:
		f.State, f.Detail = sinks.Good, fmt.Sprintf("%q is not there and will be made", wanted)
	default:
		f.State, f.Detail = sinks.Good, fmt.Sprintf("%q can be written to", dir)
	}
	return f
}

func checkLock(dir string) sinks.Finding {
	f := sinks.Finding{What: "lock", State: sinks.Good, Detail: "nobody else writes to the folder"}
	lock, err := os.Open(filepath.Join(dir, LockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f
	}
	if err == nil {
		defer lock.Close()
		// Shared, and given back at once by Close: it keeps nobody out for long.
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		f.State, f.Detail = sinks.Doubtful, "the folder is in use: by this weir if it is running; another one, or another connector, needs a folder of its own"
	case err != nil:
		f.State, f.Detail = sinks.Bad, err.Error()
	}
	return f
}

func checkRoom(dir string) sinks.Finding {
	f := sinks.Finding{What: "room"}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		f.State, f.Detail = sinks.Doubtful, err.Error()
		return f
	}
	free := st.Bavail * uint64(st.Bsize)
	f.State, f.Detail = sinks.Good, fmt.Sprintf("%d MiB free", free>>20)
	if free < scarce {
		f.State = sinks.Doubtful
		f.Detail += ": when the disk is full nothing is delivered until there is room again"
	}
	if name, ok := remote[uint32(st.Type)]; ok {
		f.State = sinks.Doubtful
		f.Detail += fmt.Sprintf("; on %s it depends on the server whether the lock keeps weir on other machines out: give each a folder of its own", name)
	}
	return f
}
