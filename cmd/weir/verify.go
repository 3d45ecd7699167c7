package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/buffer/regular"
	"weir/config"
	"weir/connector/evidence"
	"weir/sinks/archive"
	"weir/sinks/bag"
)

func verifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check a sealed case: its signatures, its files, and every record of its bag",
		Long: "Checks what was sealed, without any server but with --kafka and --siem:\n\n" +
			"  --bag DIR        everything in a bag, down to the last record\n" +
			"  --manifest PATH  a signed manifest, or the folder with the files of a case; no records\n" +
			"  --proof FILE     the proof that one record is in a case, with --manifest or with the checkpoint in it\n" +
			"  --manifest PATH --kafka  reads the records of the case from Kafka again, and tells what is not\n" +
			"                   retained any more from what is not as it was\n" +
			"  --bag DIR --record TOPIC/PARTITION/OFFSET  makes such a proof and prints it\n\n" +
			"With --siem each record of the case is looked for in the Elasticsearch or OpenSearch that it went to, and\n" +
			"what is missing there, altered, there twice or not of the case is named. The records come from the bag,\n" +
			"or with --manifest from Kafka.\n\n" +
			"Give --key, with a public key that you have from its owner. Without it a bag is checked with the key\n" +
			"that lies in it: that shows that nothing was changed since it was signed, but not by whom.\n" +
			"The exit code is 0 only when everything holds.",
	}
	var v verification
	flags := cmd.Flags()
	flags.StringVar(&v.bag, "bag", "", "the `folder` of a bag")
	flags.StringVar(&v.manifest, "manifest", "", "the `path` of a signed manifest, or of the folder with a case's files")
	flags.StringVar(&v.proof, "proof", "", "the `file` of a proof")
	flags.StringVar(&v.key, "key", "", "the `file` with the examiner's public key")
	flags.StringVar(&v.record, "record", "", "the record to make a proof of, as `TOPIC/PARTITION/OFFSET`")
	flags.StringVar(&v.custody, "custody", "", "the custody log, a `file`, that is told of this")
	flags.BoolVar(&v.kafka, "kafka", false, "read the records from Kafka again; with --manifest")
	flags.BoolVar(&v.siem, "siem", false, "look for the records where they were delivered to; with --bag, or with --manifest, which then implies --kafka")
	flags.StringVar(&v.connector, "connector", "", "with --siem, the `name` of the connector whose sink the case went to. Without it: as the manifest says")
	flags.StringVar(&v.index, "index", "", "with --siem, the `index` of the case. Without it: as the manifest says")
	config := configFlag(cmd)
	flags.BoolVar(&v.json, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		v.config, v.errs = *config, cmd.ErrOrStderr()
		err := v.run(ctx, cmd.OutOrStdout())
		if err != nil && ctx.Err() != nil && cmd.Context().Err() == nil {
			return errInterrupted
		}
		return err
	}
	return cmd
}

// verification is what is to be checked, and what was found.
type verification struct {
	bag, manifest, proof, key, record, custody string
	connector, index                           string
	json, kafka, siem                          bool
	config                                     string // for --kafka and --siem
	errs                                       io.Writer
}

// verdict is what was found; its JSON form is documented.
type verdict struct {
	What   string `json:"what"` // bag, case, manifest or proof
	Path   string `json:"path"`
	Case   string `json:"case"`
	Holds  bool   `json:"holds"`
	KeyID  string `json:"key_id"`
	KeyOf  string `json:"key_from"` // --key, or the bag
	Files  int    `json:"files"`
	Sealed string `json:"sealed"`
	// Complete: no gap may hide records that were there once.
	Complete   bool               `json:"complete"`
	Partitions []partitionVerdict `json:"partitions"`
	// SIEM is what --siem found.
	SIEM   *siemVerdict     `json:"siem,omitempty"`
	Faults []evidence.Fault `json:"faults"`

	manifest *evidence.Manifest
	names    []string       // of the case's files
	held     *buffer.Record // of a proof
}

// partitionVerdict is about one partition.
type partitionVerdict struct {
	Topic     string        `json:"topic"`
	Partition int32         `json:"partition"`
	Start     int64         `json:"start"`
	End       int64         `json:"end"`
	Records   uint64        `json:"records"`
	Root      evidence.Hash `json:"root"`
	// RecordsRead: every record was read again, and the root computed from them.
	RecordsRead bool `json:"records_read"`
	// GapsRecomputed: so was that of the gaps. Else only its signature was checked.
	GapsRecomputed bool                 `json:"gaps_recomputed"`
	Missing        evidence.ClassCounts `json:"missing"`
	// Rescued is how many records of the missing offsets are in the bag all the same.
	Rescued uint64 `json:"rescued"`
	Holds   bool   `json:"holds"`
}

// Where a key is from.
const (
	keyGiven = "--key"
	keyInBag = "the case itself"
)

// errDoesNotHold ends a verification that found something.
var errDoesNotHold = errors.New("it does not hold")

func (v *verification) run(ctx context.Context, out io.Writer) error {
	if err := v.check(); err != nil {
		return usageError{err}
	}
	key, err := v.publicKey()
	if err != nil {
		return err
	}
	if v.record != "" {
		return v.prove(ctx, key, out)
	}
	var found *verdict
	var also alsoCheck
	var siem *siemCheck
	var cfg *config.Config
	var log *slog.Logger
	if v.kafka || v.siem {
		if cfg, log, err = openConfig(v.config, v.errs); err != nil {
			return err
		}
	}
	if v.siem {
		siem = &siemCheck{ctx: ctx, file: v.config, cfg: cfg, log: log, connector: v.connector, index: v.index}
		defer siem.close()
		also = siem.partition
	}
	switch {
	case v.bag != "":
		found, err = verifyBag(ctx, v.bag, key, nil, also)
	case v.kafka, v.siem:
		found, err = verifyKafka(ctx, cfg, log, v.manifest, key, also)
	case v.proof != "":
		found, err = verifyProof(v.proof, v.manifest, key)
	default:
		found, err = verifyManifest(ctx, v.manifest, key)
	}
	if err == nil && siem != nil {
		err = siem.end(found)
	}
	if err != nil {
		return err
	}
	found.Holds = len(found.Faults) == 0
	if err := v.note(evidence.ActionVerify, found.Case, map[string]any{"what": found.What, "path": found.Path, "holds": found.Holds, "faults": len(found.Faults), "key_id": found.KeyID}); err != nil {
		return err
	}
	if v.json {
		err = printJSON(out, found)
	} else {
		err = found.print(out)
	}
	if err == nil && !found.Holds {
		err = fmt.Errorf("%s %s: %w: %d faults", found.What, found.Path, errDoesNotHold, len(found.Faults))
	}
	return err
}

// check says what is wrong with the flags.
func (v *verification) check() error {
	switch {
	case v.bag == "" && v.manifest == "" && v.proof == "":
		return errors.New("one of --bag, --manifest and --proof is needed")
	case v.bag != "" && (v.manifest != "" || v.proof != ""):
		return errors.New("--bag goes with neither --manifest nor --proof")
	case v.record != "" && v.bag == "":
		return errors.New("--record needs --bag: the proof is made from all records of the partition")
	case v.bag == "" && v.key == "":
		return errors.New("--key is needed: the file with the examiner's public key")
	case v.kafka && (v.manifest == "" || v.proof != ""):
		return errors.New("--kafka needs --manifest, and goes without --proof")
	case v.siem && (v.proof != "" || v.record != ""):
		return errors.New("--siem goes with neither --proof nor --record")
	case !v.siem && (v.connector != "" || v.index != ""):
		return errors.New("--connector and --index go with --siem")
	case v.record != "" && v.json:
		return errors.New("--json: a proof is JSON")
	}
	return nil
}

// publicKey is that of --key, nil without it.
func (v *verification) publicKey() (ed25519.PublicKey, error) {
	if v.key == "" {
		return nil, nil
	}
	return evidence.LoadPublicKey(v.key)
}

// note tells the custody log, if there is one.
func (v *verification) note(action evidence.Action, caseID string, details map[string]any) error {
	if v.custody == "" {
		return nil
	}
	return openCustody(v.custody, caseID).Add(action, details)
}

// openedBag is a bag whose signed manifest was checked.
type openedBag struct {
	*bag.Bag
	manifest *evidence.Manifest // nil: it cannot be believed
	key      ed25519.PublicKey
	keyOf    string
	faults   []evidence.Fault
	names    []string // of the case's files
}

// openBag opens a bag and checks the files of its case. Without a key that in the
// bag is taken.
//
// Errors: it is no bag; of the disk.
func openBag(ctx context.Context, dir string, key ed25519.PublicKey) (*openedBag, error) {
	b, err := bag.OpenBag(dir)
	if err != nil {
		return nil, err
	}
	o := &openedBag{Bag: b, key: key, keyOf: keyGiven}
	if o.names, err = b.Tags(); err != nil {
		b.Close()
		return nil, err
	}
	fault := func(name, problem string) {
		o.faults = append(o.faults, evidence.Fault{Place: bag.TagFolder + "/" + name, Problem: problem})
	}
	if o.key == nil {
		o.keyOf = keyInBag
		text, err := b.Tag(evidence.FilePublicKey, evidence.MaxKey)
		if err == nil {
			o.key, err = evidence.ParsePublicKey(text)
		}
		if err != nil {
			fault(evidence.FilePublicKey, err.Error())
			return o, nil
		}
	}
	m, faults := evidence.CheckFiles(o.key, o.names, interruptible(ctx, b.Tag))
	o.manifest = m
	for _, f := range faults {
		fault(f.Place, f.Problem)
	}
	return o, nil
}

// stream reads the records of a partition from the bag, no more of them than the
// manifest says that there are.
func (o *openedBag) stream(ctx context.Context, of *buffer.Origin) evidence.Stream {
	_, p := o.manifest.Find(of.Topic, of.Partition)
	bounds := archive.Bounds{Records: saturated(p.Records.Size), Content: saturated(p.Counts.Bytes), Faults: maxLineFaults}
	if r := p.Rescued; r != nil { // how much these hold is not said
		bounds.Records, bounds.Content = saturated(p.Records.Size+min(r.Size, math.MaxUint64-p.Records.Size)), math.MaxInt64
	}
	return func() iter.Seq2[*buffer.Record, error] { return o.Records(ctx, of, bounds) }
}

// maxLineFaults is after how many lines that hold no record the rest of a partition
// is not read.
const maxLineFaults = 50

func saturated(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// alsoCheck checks more of a partition's records, which hold.
type alsoCheck func(*verdict, *partitionVerdict, evidence.Stream) error

// verifyBag checks everything that is in a bag. seen, if there is one, is told of
// every record; also, if there is one, is called with each partition that holds.
func verifyBag(ctx context.Context, dir string, key ed25519.PublicKey, seen func(*evidence.Manifest, *buffer.Record), also alsoCheck) (*verdict, error) {
	b, err := openBag(ctx, dir, key)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	problems, err := b.Check(ctx)
	if err != nil {
		return nil, err
	}
	d := newVerdict("bag", dir, b.manifest, b.key, b.keyOf)
	d.Files, d.names = b.Files(), b.names
	d.Faults = faultsOf(problems)
	d.Faults = append(d.Faults, b.faults...)
	if b.manifest == nil {
		return d, nil // of the rest nobody knows what it should be
	}
	var origins []*buffer.Origin
	for i := range b.manifest.Topics {
		t := &b.manifest.Topics[i]
		for _, p := range t.Partitions {
			origins = append(origins, b.manifest.Origin(t, p.Partition))
		}
	}
	d.Faults = append(d.Faults, faultsOf(b.CheckInfo(bagFields(b.manifest)))...)
	d.Faults = append(d.Faults, faultsOf(b.CheckPlaces(origins))...)
	if err := d.records(func(of *buffer.Origin) evidence.Stream { return b.stream(ctx, of) }, seen, also); err != nil {
		return nil, err
	}
	return d, ctx.Err()
}

// records reads all records of the case again, from wherever streams reads them,
// and checks each partition.
func (d *verdict) records(streams func(of *buffer.Origin) evidence.Stream, seen func(*evidence.Manifest, *buffer.Record), also alsoCheck) error {
	look := func(r *buffer.Record) {
		if seen != nil {
			seen(d.manifest, r)
		}
	}
	for i := range d.Partitions {
		p := &d.Partitions[i]
		t, seal := d.manifest.Find(p.Topic, p.Partition)
		stream := streams(d.manifest.Origin(t, p.Partition))
		faults := d.manifest.Check(p.Topic, p.Partition, stream, look)
		_, listed := slices.BinarySearch(d.names, evidence.GapFile(p.Topic, p.Partition)) // and checked, if it is there
		p.RecordsRead, p.GapsRecomputed, p.Holds = true, listed || seal.GapsListed(), len(faults) == 0
		d.Faults = append(d.Faults, faults...)
		if p.Holds && also != nil {
			if err := also(d, p, stream); err != nil {
				return err
			}
		}
	}
	return nil
}

func newVerdict(what, path string, m *evidence.Manifest, key ed25519.PublicKey, keyOf string) *verdict {
	d := &verdict{What: what, Path: path, KeyOf: keyOf, manifest: m, Partitions: []partitionVerdict{}, Faults: []evidence.Fault{}}
	if key != nil {
		d.KeyID = evidence.KeyID(key)
	}
	if m == nil {
		return d
	}
	d.Case, d.Sealed, d.Complete = m.Case, m.Sealed.Format(time.RFC3339), m.Complete()
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			var rescued uint64
			if p.Rescued != nil {
				rescued = p.Rescued.Size
			}
			d.Partitions = append(d.Partitions, partitionVerdict{Rescued: rescued,
				Topic: t.Name, Partition: p.Partition, Start: p.Start, End: p.End,
				Records: p.Records.Size, Root: p.Records.Root, Missing: p.Gaps.Offsets, Holds: true})
		}
	}
	return d
}

func faultsOf(problems []bag.Problem) []evidence.Fault {
	faults := []evidence.Fault{}
	for _, p := range problems {
		faults = append(faults, evidence.Fault{Place: p.File, Problem: p.What})
	}
	return faults
}

// verifyManifest checks a signed manifest, or all files of a case.
func verifyManifest(ctx context.Context, name string, key ed25519.PublicKey) (*verdict, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		root, names, err := openCaseFolder(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = root.Close() }()
		m, faults := evidence.CheckFiles(key, names, interruptible(ctx, readerIn(root)))
		d := newVerdict("case", name, m, key, keyGiven)
		d.Files, d.names, d.Faults = len(names), names, append(d.Faults, faults...)
		return d, ctx.Err()
	}
	text, err := regular.Read(name, evidence.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := evidence.OpenManifest(key, text)
	d := newVerdict("manifest", name, m, key, keyGiven)
	d.Files = 1
	if err != nil {
		d.Faults = append(d.Faults, evidence.Fault{Place: name, Problem: err.Error()})
	}
	return d, nil
}

// maxCaseFiles bounds the files of a case in a folder.
const maxCaseFiles = 1 << 20

// openCaseFolder opens a folder with the files of a case, whose names it returns in
// their order.
func openCaseFolder(dir string) (root *os.Root, names []string, err error) {
	if root, err = os.OpenRoot(dir); err != nil {
		return nil, nil, err
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%q is not a regular file", path.Join(filepath.ToSlash(dir), name))
		}
		if len(names) == maxCaseFiles {
			return fmt.Errorf("%q has more than %d files: it is no case", dir, maxCaseFiles)
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		_ = root.Close()
		return nil, nil, err
	}
	slices.Sort(names)
	return root, names, nil
}

// interruptible is read until ctx is done. What was not read is a fault: whoever
// hands it over looks at ctx.
func interruptible(ctx context.Context, read evidence.Reader) evidence.Reader {
	return func(name string, limit int64) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return read(name, limit)
	}
}

// readerIn reads the files in a folder.
func readerIn(root *os.Root) evidence.Reader {
	return func(name string, limit int64) ([]byte, error) { return regular.ReadIn(root, name, limit) }
}

// verifyProof checks the proof of one record, with a manifest if there is one.
func verifyProof(name, manifest string, key ed25519.PublicKey) (*verdict, error) {
	text, err := regular.Read(name, evidence.MaxProof)
	if err != nil {
		return nil, err
	}
	d := newVerdict("proof", name, nil, key, keyGiven)
	d.Files = 1
	fault := func(place string, err error) (*verdict, error) {
		d.Faults = append(d.Faults, evidence.Fault{Place: place, Problem: err.Error()})
		return d, nil
	}
	p, err := evidence.DecodeProof(text)
	if err != nil {
		return fault(name, err)
	}
	d.Case = p.Case
	if manifest == "" || p.Checkpoint != "" {
		if err := p.VerifyAlone(key); err != nil {
			return fault(name, err)
		}
	}
	if manifest != "" {
		if info, err := os.Stat(manifest); err == nil && info.IsDir() { // of a case
			manifest = filepath.Join(manifest, filepath.FromSlash(evidence.FileEnvelope))
		}
		text, err := regular.Read(manifest, evidence.MaxManifest)
		if err != nil {
			return nil, err
		}
		m, err := evidence.OpenManifest(key, text)
		if err != nil {
			return fault(manifest, err)
		}
		if err := p.VerifyIn(m); err != nil {
			return fault(name, err)
		}
	}
	if d.held, err = p.Held(); err != nil {
		return fault(name, err)
	}
	return d, nil
}

// prove makes the proof of one record of a bag and prints it.
func (v *verification) prove(ctx context.Context, key ed25519.PublicKey, out io.Writer) error {
	topic, partition, offset, err := parseRecordName(v.record)
	if err != nil {
		return usageError{err}
	}
	b, err := openBag(ctx, v.bag, key)
	if err != nil {
		return err
	}
	defer b.Close()
	if b.manifest == nil || len(b.faults) > 0 {
		return fmt.Errorf("bag %s: %w: %s", v.bag, errDoesNotHold, b.faults[0])
	}
	t, seal := b.manifest.Find(topic, partition)
	if seal == nil {
		return fmt.Errorf("%w: the case has no topic %q with a partition %d", evidence.ErrNotInCase, topic, partition)
	}
	origin := b.manifest.Origin(t, partition)
	problems, err := b.CheckRecords(ctx, origin)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return fmt.Errorf("bag %s: %w: %s", v.bag, errDoesNotHold, faultsOf(problems)[0])
	}
	checkpoint, err := b.Tag(evidence.CheckpointFile(topic, partition), evidence.MaxCheckpoint)
	if err != nil {
		return err
	}
	p, err := b.manifest.Prove(topic, partition, offset, b.stream(ctx, origin), string(checkpoint))
	if errors.Is(err, evidence.ErrNotInCase) {
		err = fmt.Errorf("%s: %w (it may lie in a gap, outside of the time range, or be filtered out)", v.record, err)
	}
	if err != nil {
		return err
	}
	text, err := evidence.EncodeJSON(p)
	if err != nil {
		return err
	}
	if err := v.note(evidence.ActionProof, b.manifest.Case, map[string]any{"topic": topic, "partition": partition, "offset": offset}); err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// parseRecordName reads TOPIC/PARTITION/OFFSET.
func parseRecordName(s string) (topic string, partition int32, offset int64, err error) {
	f := strings.Split(s, "/")
	wrong := fmt.Errorf("%q is not TOPIC/PARTITION/OFFSET", s)
	if len(f) != 3 || f[0] == "" {
		return "", 0, 0, wrong
	}
	p, err := strconv.ParseInt(f[1], 10, 32)
	if err != nil || p < 0 {
		return "", 0, 0, wrong
	}
	if offset, err = strconv.ParseInt(f[2], 10, 64); err != nil || offset < 0 {
		return "", 0, 0, wrong
	}
	return f[0], int32(p), offset, nil
}

// print is d for people.
func (d *verdict) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, cleanLine(fmt.Sprintf(format, args...)))
	}
	row(d.What, "%s", d.Path)
	if d.Case != "" {
		row("case", "%s", d.Case)
	}
	if m := d.manifest; m != nil {
		row("sealed", "%s by %s", m.Sealed.Format(time.RFC3339), m.Examiner)
	}
	if d.KeyID != "" {
		row("key", "%s", d.KeyID)
		if d.KeyOf == keyInBag {
			row("", "from the bag itself: this shows that nothing was changed since it was signed, not who signed it (--key)")
		}
	}
	row("files", "%d", d.Files)
	for _, p := range d.Partitions {
		state := "holds"
		switch {
		case !p.Holds:
			state = "DOES NOT HOLD"
		case !p.RecordsRead:
			state = "signed; its records were not read"
		case !p.GapsRecomputed:
			state += "; of its gaps the counts and the signature"
		}
		row(fmt.Sprintf("%s/%d", p.Topic, p.Partition), "offsets %d to %d, %d records, root %s: %s", p.Start, p.End-1, p.Records, p.Root, state)
		if n := p.Missing[evidence.Retention]; n > 0 {
			row("", "%d offsets were gone by retention before they were read", n)
		}
		if p.Rescued > 0 {
			row("", "of these, %d are in the bag: they were stored before they were gone", p.Rescued)
		}
		if n := p.Missing[evidence.Unexplained]; n > 0 {
			row("", "%d offsets hold nothing, and nobody knows why", n)
		}
	}
	if r := d.held; r != nil {
		row("record", "%s/%d/%d of cluster %s", r.Topic, r.Partition, r.Offset, r.Cluster)
		if !r.Time.IsZero() {
			row("time", "%s", r.Time.Format(time.RFC3339Nano))
		}
		row("record's key", "%s", shown(r.Key))
		for _, h := range r.Headers {
			row("header", "%s = %s", shown([]byte(h.Key)), shown(h.Value))
		}
		row("value", "%s", shown(r.Value))
	}
	if d.SIEM != nil {
		d.SIEM.print(row)
	}
	for _, f := range d.Faults {
		row("FAULT", "%s", f)
	}
	result := "everything holds"
	switch {
	case len(d.Faults) > 0:
		result = fmt.Sprintf("IT DOES NOT HOLD: %d faults", len(d.Faults))
	case d.manifest != nil && !d.Complete, d.SIEM != nil && d.SIEM.Missing.Count+d.SIEM.DeadLettered > 0:
		result += ", and what is missing is said above"
	}
	row("result", "%s", result)
	return w.Flush()
}

// maxShown is how much of a key or a value is shown.
const maxShown = 4 << 10

// shown is what a record holds, for people.
func shown(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) > maxShown:
		return shown(b[:maxShown]) + fmt.Sprintf("... (%d bytes)", len(b))
	case utf8.Valid(b):
		return string(b)
	}
	return fmt.Sprintf("%q", b)
}
