package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/cmd/weir/casereport"
	"weir/connector/evidence"
	"weir/sinks/bag"
)

func reportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Write down a sealed case for people who sign things",
		Long: "Checks a sealed case as verify does, and writes down what was asked, what was read, what is missing and why,\n" +
			"with hashes and signatures: as one HTML page, which prints well, or as Markdown. From a bag it has timelines, too.",
	}
	var r reporting
	flags := cmd.Flags()
	flags.StringVar(&r.bag, "bag", "", "the `folder` of a bag")
	flags.StringVar(&r.manifest, "manifest", "", "the `path` of a signed manifest, or of the folder with a case's files")
	flags.StringVar(&r.key, "key", "", "the `file` with the examiner's public key")
	flags.StringVar(&r.html, "html", "", "the `file` to write the page to; it must not be there")
	flags.StringVar(&r.markdown, "markdown", "", "the `file` to write Markdown to; it must not be there")
	flags.StringVar(&r.custody, "custody", "", "the custody log, a `file`, that is told of this")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err := r.run(ctx)
		if err != nil && ctx.Err() != nil && cmd.Context().Err() == nil {
			return errInterrupted
		}
		return err
	}
	return cmd
}

// reporting is a report that is about to be written.
type reporting struct {
	verification
	html, markdown string
}

func (r *reporting) run(ctx context.Context) error {
	switch {
	case r.html == "" && r.markdown == "":
		return usageError{errors.New("--html, --markdown or both are needed: where the report goes")}
	case r.bag != "" && (inside(r.html, r.bag) || inside(r.markdown, r.bag)):
		return usageError{errors.New("the report cannot go into the bag: that would no longer be what was sealed")}
	}
	if err := r.check(); err != nil {
		return usageError{err}
	}
	key, err := r.publicKey()
	if err != nil {
		return err
	}
	lines := map[string]*casereport.Timeline{}
	var found *verdict
	if r.bag != "" {
		found, err = verifyBag(ctx, r.bag, key, func(m *evidence.Manifest, rec *buffer.Record) {
			t := lines[rec.Topic]
			if t == nil {
				t = casereport.NewTimeline(rec.Topic, m.Request.From, m.Request.To)
				lines[rec.Topic] = t
			}
			t.Add(rec.Time)
		}, nil)
	} else {
		found, err = verifyManifest(ctx, r.manifest, key)
	}
	if err != nil {
		return err
	}
	if found.manifest == nil {
		return fmt.Errorf("%s %s: %w: %s", found.What, found.Path, errDoesNotHold, found.Faults[0])
	}
	payload, err := evidence.EncodeJSON(found.manifest) // its one form, and so what was signed
	if err != nil {
		return err
	}
	v, _ := buildVersion()
	c := &casereport.Case{
		Manifest: found.manifest, ManifestHash: sha256.Sum256(payload), KeyID: found.KeyID, KeyGiven: found.KeyOf == keyGiven,
		Faults: found.Faults, RecordsRead: found.What == "bag", Written: time.Now(), Tool: "weir " + v,
	}
	for _, t := range found.manifest.Topics {
		if l := lines[t.Name]; l != nil {
			c.Timelines = append(c.Timelines, l)
		} else if c.RecordsRead {
			c.Timelines = append(c.Timelines, casereport.NewTimeline(t.Name, found.manifest.Request.From, found.manifest.Request.To))
		}
	}
	if c.Custody, err = r.entries(found.manifest); err != nil {
		c.Custody = nil // it is among the faults
	}
	if err := r.note(evidence.ActionReport, found.Case, map[string]any{"what": found.What, "path": found.Path, "holds": len(found.Faults) == 0, "key_id": found.KeyID}); err != nil {
		return err
	}
	for _, to := range []struct {
		path  string
		write func(io.Writer, *casereport.Case) error
	}{{r.html, casereport.HTML}, {r.markdown, casereport.Markdown}} {
		if to.path == "" {
			continue
		}
		var text bytes.Buffer
		if err := to.write(&text, c); err != nil {
			return err
		}
		if err := writeSynced(to.path, text.Bytes()); err != nil {
			return err
		}
	}
	if len(found.Faults) > 0 {
		return fmt.Errorf("%s %s: %w: %d faults, which the report lists", found.What, found.Path, errDoesNotHold, len(found.Faults))
	}
	return nil
}

// entries are those of the case's custody logs.
func (r *reporting) entries(m *evidence.Manifest) ([][]evidence.Entry, error) {
	if r.bag != "" {
		b, err := bag.OpenBag(r.bag)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		return custodyEntries(m, b.Tag)
	}
	root, err := os.OpenRoot(r.manifest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return custodyEntries(m, readerIn(root))
}

func custodyEntries(m *evidence.Manifest, read evidence.Reader) ([][]evidence.Entry, error) {
	var logs [][]evidence.Entry
	left := int64(evidence.MaxCustody)
	for i := range m.Custody {
		content, err := read(evidence.CustodyFile(i), left)
		if err != nil {
			return nil, err
		}
		left -= int64(len(content))
		var entries []evidence.Entry
		_, err = evidence.DecodeCustody(bytes.NewReader(content), m.Case, func(e *evidence.Entry) error {
			entries = append(entries, *e)
			return nil
		})
		if err != nil {
			return nil, err
		}
		logs = append(logs, entries)
	}
	return logs, nil
}

// inside reports whether a path leads into a folder, as far as names tell.
func inside(path, folder string) bool {
	if path == "" {
		return false
	}
	a, errA := filepath.Abs(path)
	b, errB := filepath.Abs(folder)
	rel, err := filepath.Rel(b, a)
	return errA == nil && errB == nil && err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
