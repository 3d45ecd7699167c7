package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"weir/buffer"
	"weir/buffer/regular"
	"weir/connector/evidence"
	"weir/sinks/bag"
)

// sealing is a case that is about to be sealed.
type sealing struct {
	manifest *evidence.Manifest // all but Tool, Sealed, Started, Trouble and Custody
	plan     []byte             // the plan file
	key      ed25519.PrivateKey
	// custody are the custody logs of all machines that worked on the case; the first
	// is this one's, and is told of the seal. There may be none.
	custody []string
	bag     string // the bag to finish; empty: there is none
	out     string // the folder to write the case's files to; empty: they are in the bag only
	log     *slog.Logger
}

// run seals the case. Interrupted, it can be run again.
//
// Errors: the case contradicts itself, a custody log does not hold, the bag is not
// that of the plan, out is not empty; of the disk.
func (s *sealing) run(ctx context.Context) error {
	m := s.manifest
	v, toolchain := buildVersion()
	host, _ := os.Hostname()
	m.Tool.Name, m.Tool.Version, m.Tool.Go, m.Tool.OS, m.Tool.Host = "weir", v, toolchain, runtime.GOOS+"/"+runtime.GOARCH, host
	m.Sealed = time.Now().UTC().Truncate(time.Millisecond)
	if len(s.custody) > 0 {
		if err := openCustody(s.custody[0], m.Case).Add(evidence.ActionSeal, map[string]any{"plan_sha256": m.Plan.String()}); err != nil {
			return err
		}
	}
	logs, err := readCustodies(s.custody, m)
	if err != nil {
		return err
	}
	if s.bag != "" {
		if err := bag.Settle(s.bag, s.plan, s.log); err != nil {
			return err
		}
		if err := s.rescue(ctx); err != nil {
			return err
		}
	}
	files, err := m.Files(s.key, s.plan, logs)
	if err != nil {
		return err
	}
	if s.bag != "" {
		if err := s.finishBag(ctx, files); err != nil {
			return err
		}
	}
	if s.out != "" {
		return writeCase(s.out, files)
	}
	return nil
}

// rescue has the manifest say which records the bag holds that were gone when the
// evidence was taken.
func (s *sealing) rescue(ctx context.Context) error {
	m := s.manifest
	for i := range m.Topics {
		t := &m.Topics[i]
		for _, p := range t.Partitions {
			o := m.Origin(t, p.Partition)
			records := func() iter.Seq2[*buffer.Record, error] { return bag.Records(ctx, s.bag, o) }
			if err := m.Rescue(t.Name, p.Partition, records); err != nil {
				return fmt.Errorf("bag %q: %w", s.bag, err)
			}
		}
	}
	return nil
}

// finishBag makes a bag of what was filled, and reads all of it again: one that
// does not hold what is signed is none.
func (s *sealing) finishBag(ctx context.Context, files map[string][]byte) error {
	tags := maps.Clone(files)
	delete(tags, evidence.FilePlan) // it is in the bag from the beginning
	if err := s.gapLists(tags); err != nil {
		return err
	}
	if err := bag.Finish(ctx, s.bag, s.plan, bagFields(s.manifest), tags, s.log); err != nil {
		return err
	}
	found, err := verifyBag(ctx, s.bag, s.key.Public().(ed25519.PublicKey), nil, nil)
	if err == nil && len(found.Faults) > 0 {
		err = fmt.Errorf("bag %q does not hold what was read, so it is not sealed (was every worker told of it, from the beginning?): %s", s.bag, found.Faults[0])
		if n := len(found.Faults) - 1; n > 0 {
			err = fmt.Errorf("%w; and %d faults more", err, n)
		}
	}
	if err != nil {
		return errors.Join(err, bag.Reopen(s.bag))
	}
	return nil
}

// gapLists adds the lists of gaps that the workers told the bag, for those who
// want to compute their trees again.
func (s *sealing) gapLists(tags map[string][]byte) error {
	m := s.manifest
	for i := range m.Topics {
		t := &m.Topics[i]
		for _, p := range t.Partitions {
			name := evidence.GapFile(t.Name, p.Partition)
			list, err := bag.Told(s.bag, name)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				continue
			}
			if err := m.CheckGaps(t.Name, p.Partition, list); err != nil {
				// What is signed are the trees, and a list can always be made anew from the log.
				s.log.Warn("the bag's list of gaps is not what was committed, and is left out", "topic", t.Name, "partition", p.Partition, "error", err)
				continue
			}
			tags[name] = list
		}
	}
	return nil
}

// openCustody is the custody log at path, with us in its entries.
func openCustody(path, caseID string) *evidence.Custody {
	v, _ := buildVersion()
	host, _ := os.Hostname()
	return evidence.OpenCustody(path, caseID, whoami(), host, "weir "+v)
}

// readCustodies reads the custody logs of m's case, and has m say how they end and
// what they tell.
func readCustodies(paths []string, m *evidence.Manifest) ([][]byte, error) {
	m.Custody, m.Trouble, m.Started = []evidence.CustodyHead{}, evidence.Trouble{}, time.Time{}
	var logs [][]byte
	left := int64(evidence.MaxCustody)
	for _, path := range paths {
		log, err := regular.Read(path, left)
		if err != nil {
			return nil, fmt.Errorf("custody log %w", err)
		}
		left -= int64(len(log))
		head, err := evidence.DecodeCustody(bytes.NewReader(log), m.Case, func(e *evidence.Entry) error {
			if e.Action == evidence.ActionStart && (m.Started.IsZero() || e.Time.Before(m.Started)) {
				m.Started = e.Time
			}
			m.Trouble.Errors += detail(e, detailErrors)
			m.Trouble.Throttled += detail(e, detailThrottled)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("custody log %q: %w", path, err)
		}
		m.Custody, logs = append(m.Custody, head), append(logs, log)
	}
	return logs, nil
}

// What the entry about the end of a run says of it.
const (
	detailErrors    = "errors"
	detailThrottled = "throttled_ms"
)

// detail is a number in an entry; 0 when it is not there.
func detail(e *evidence.Entry, name string) uint64 {
	n, ok := e.Details[name].(json.Number)
	if !ok {
		return 0
	}
	i, err := n.Int64()
	if err != nil || i < 0 {
		return 0
	}
	return uint64(i)
}

// writeCase writes the files of a sealed case into a folder that is empty or not
// there. When it cannot write them all it leaves none, so that it can be run again.
func writeCase(dir string, files map[string][]byte) (err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%q is not empty: the files of a case get a folder of their own", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() {
		if err != nil { // the folder was empty, or is ours
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := writeSynced(path, files[name]); err != nil {
			return err
		}
	}
	return nil
}

// writeSynced writes a file that must not be there.
func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// bagFields are those of bag-info.txt: what people who know bags look for. All of
// it follows from the manifest, so that it can be checked.
func bagFields(m *evidence.Manifest) []bag.Field {
	fields := []bag.Field{
		{Name: "External-Identifier", Value: m.Case},
		{Name: "External-Description", Value: m.Purpose},
		{Name: "Contact-Name", Value: m.Examiner},
		{Name: "Bagging-Date", Value: m.Sealed.UTC().Format(time.DateOnly)},
		{Name: "Bag-Software-Agent", Value: m.Tool.Name + " " + m.Tool.Version},
		{Name: "Kafka-Cluster-Id", Value: m.Cluster},
	}
	return slices.DeleteFunc(fields, func(f bag.Field) bool { return strings.TrimSpace(f.Value) == "" })
}
