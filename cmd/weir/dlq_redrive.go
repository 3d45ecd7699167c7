package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/config"
	"weir/connector"
	"weir/connector/kafka"
	"weir/connector/redrive"
)

func dlqRedriveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redrive",
		Short: "Send dead letters again, through their connector's sink",
		Long: `Send dead letters again, through their connector's sink.

A letter counts as redriven once the sink has taken its record. One that is
refused again, and one that the filter leaves out, stays a dead letter. Nothing is
removed from the dead-letter topic or file: how far it was redriven is kept in the
consumer group weir.dlq.CONNECTOR, or in the file FILE.CONNECTOR.redriven.

Ctrl-C stops in order, and the next redrive goes on from there. weir run may go on
meanwhile. The exit code is 0 when all letters that were meant are redriven, 1 when
some were refused again, and 130 after an interruption.`,
		Args: noArgs,
	}
	path := configFlag(cmd)
	f := cmd.Flags()
	var flags filterFlags
	name := f.String("connector", "", "the `name` of the connector whose letters are sent; needed")
	f.StringVar(&flags.topic, "topic", "", "only records of this topic")
	f.StringVar(&flags.partition, "partition", "", "only records of this partition")
	f.StringVar(&flags.offset, "offset", "", "only records at this offset, or from A to B with `A-B`")
	f.StringVar(&flags.status, "status", "", "only letters with this status")
	f.StringVar(&flags.reason, "reason", "", "only letters whose reason holds this `text`")
	f.StringVar(&flags.since, "since", "", "only letters refused at or after this `time` (2026-01-31T08:00:00Z)")
	f.StringVar(&flags.until, "until", "", "only letters refused before this `time`")
	dry := f.Bool("dry-run", false, "count what would be sent, and send nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		filter, err := flags.parse()
		if err != nil {
			return err
		}
		if *name == "" {
			return usageError{errors.New("--connector is needed: whose letters?")}
		}
		r := &redriver{path: *path, filter: filter, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
		if *dry {
			return r.count(cmd.Context(), *name)
		}
		return r.run(cmd.Context(), *name, flags.String())
	}
	return cmd
}

// filterFlags are a filter as it was written.
type filterFlags struct{ topic, partition, offset, status, reason, since, until string }

func (f *filterFlags) parse() (filter redrive.Filter, err error) {
	filter.Topic, filter.Reason = f.topic, f.reason
	bad := func(flag, value, want string) (redrive.Filter, error) {
		return filter, usageError{fmt.Errorf("--%s %q is not %s", flag, value, want)}
	}
	if f.partition != "" {
		n, err := strconv.ParseInt(f.partition, 10, 32)
		if err != nil || n < 0 {
			return bad("partition", f.partition, "the number of a partition")
		}
		p := int32(n)
		filter.Partition = &p
	}
	if f.offset != "" {
		first, last, isRange := strings.Cut(f.offset, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseInt(first, 10, 64)
		to, err2 := strconv.ParseInt(last, 10, 64)
		if err1 != nil || err2 != nil || from < 0 || to < from || to+1 < to {
			return bad("offset", f.offset, "an offset or a range of them, such as 100-250")
		}
		filter.Offsets = &redrive.Span{From: from, To: to + 1}
	}
	if f.status != "" {
		n, err := strconv.Atoi(f.status)
		if err != nil {
			return bad("status", f.status, "a number")
		}
		filter.Status = &n
	}
	for _, t := range []struct {
		flag, text string
		to         *time.Time
	}{{"since", f.since, &filter.Since}, {"until", f.until, &filter.Until}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
			return bad(t.flag, t.text, "a time such as 2026-01-31T08:00:00Z")
		}
	}
	return filter, nil
}

// String is the filter for the audit log, "all" for none.
func (f *filterFlags) String() string {
	var set []string
	for _, v := range []struct{ name, value string }{
		{"topic", f.topic}, {"partition", f.partition}, {"offset", f.offset}, {"status", f.status},
		{"reason", f.reason}, {"since", f.since}, {"until", f.until},
	} {
		if v.value != "" {
			set = append(set, fmt.Sprintf("%s %q", v.name, v.value))
		}
	}
	if len(set) == 0 {
		return "all"
	}
	return strings.Join(set, ", ")
}

// redriver is one run of the command.
type redriver struct {
	path   string
	filter redrive.Filter
	out    io.Writer
	errs   io.Writer
}

// count says what run would do, from what is there now.
func (r *redriver) count(ctx context.Context, name string) error {
	cfg, log, err := openConfig(r.path, r.errs)
	if err != nil {
		return err
	}
	if _, err := deadLetterOf(cfg, name); err != nil {
		return err
	}
	prepareProcess(cfg, log)
	all, err := openLetters(ctx, cfg, log, func(c config.Connector) bool { return c.Name == name })
	if err != nil {
		return err
	}
	defer closeLetters(all)
	var meant, others int64
	var reasons redrive.Reasons
	for _, l := range all {
		err := l.each(ctx, func(rec *buffer.Record) error {
			letter, err := redrive.Parse(rec)
			switch {
			case err != nil, letter.Connector != name, l.reached[name][rec.Partition].has(rec.Offset):
			case !r.filter.Match(&letter):
				others++
			default:
				meant++
				reasons.Add(letter.Status, letter.Reason)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(r.out, "%s: %d letters would be sent again, %d would be left out by the filter\n", name, meant, others)
	printReasons(r.out, reasons)
	return nil
}

// run redrives the letters of a connector. what is the filter for the audit log.
func (r *redriver) run(ctx context.Context, name, what string) (err error) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	cfg, log, err := openConfig(r.path, r.errs)
	if err != nil {
		return err
	}
	c, err := deadLetterOf(cfg, name)
	if err != nil {
		return err
	}
	log = log.With("connector", c.Name)
	prepareProcess(cfg, log)
	trail, err := openAudit(cfg.Log, r.path, r.errs)
	if err != nil {
		return err
	}
	defer trail.close()
	from := c.DeadLetter.Topic + c.DeadLetter.File // one of them is ""
	change, err := trail.begin(redriveLetters, fmt.Sprintf("%s for connector %s: %s", from, c.Name, what))
	if err != nil {
		return err
	}
	report, err := r.redrive(ctx, cfg, c, signals, log)
	return change.end(fmt.Sprintf("; %d delivered, %d refused again", report.Delivered, report.Refused), err)
}

// redrive sends the letters of the connector c again, and says what became of them.
func (r *redriver) redrive(ctx context.Context, cfg *config.Config, c config.Connector, signals chan os.Signal, log *slog.Logger) (report redrive.Report, err error) {
	sink, err := newDestination(cfg, c, log, nil)
	if err != nil {
		return report, err
	}
	defer sink.Close()
	job, err := newJob(c, cfg, sink, r.filter, log)
	if err != nil {
		return report, err
	}
	defer job.Close()

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		for range signals {
			if ctx.Err() != nil {
				log.Warn("stopping at once: what is in flight is sent again by the next redrive")
				job.Kill()
				return
			}
			log.Info("stopping: what is in flight is delivered and noted first")
			stop(errInterrupted)
		}
	}()
	p := newProgress(r.errs, job)
	shared := int64(0)
	if c.DeadLetter.File != "" {
		err = redriveFile(ctx, c, job, log)
	} else {
		shared, err = redriveTopic(ctx, c, cfg, job, p, log)
	}
	signal.Stop(signals)
	close(signals)
	p.close()
	report = job.Report()
	printReport(r.out, c.Name, c.DeadLetter.Topic+c.DeadLetter.File, report, shared)
	if cause := context.Cause(ctx); cause != nil {
		if err != nil && !errors.Is(err, cause) {
			log.Warn("stopped before all that was in flight was settled; it is sent again by the next redrive", "err", err)
		}
		err = cause
	}
	if err == nil && report.Refused > 0 {
		err = fmt.Errorf("%d letters were refused again and stay", report.Refused)
	}
	return report, err
}

// newJob delivers as the connector c does, with all of the memory: this process
// has no other connectors.
func newJob(c config.Connector, cfg *config.Config, sink destination, filter redrive.Filter, log *slog.Logger) (*redrive.Job, error) {
	memory := int64(cfg.Memory)
	delivery, err := deliveryOptions(c, sink, memory-memory/fetchShare, log)
	if err != nil {
		return nil, err
	}
	return redrive.New(redrive.Config{Connector: c.Name, Filter: filter, Deliver: delivery}), nil
}

// redriveFile redrives a dead-letter file.
func redriveFile(ctx context.Context, c config.Connector, job *redrive.Job, log *slog.Logger) (err error) {
	path := c.DeadLetter.File
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil // no letter was ever written
	}
	position, err := redrive.OpenPosition(redrivePosition(path, c.Name))
	if err != nil {
		return err
	}
	defer position.Close()
	lines, err := redrive.OpenLines(ctx, fileRecords(path), position)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	if lines.Void() {
		log.Warn("the dead-letter file is not the one that was redriven before, or was edited: all of it is sent", "file", path)
	}
	return job.Lane(ctx, &buffer.Origin{Topic: path}, lines, lines.End())
}

// redriveTopic redrives a dead-letter topic up to where it ends now, as a member
// of the group that keeps the position. shared is how many partitions were left
// to another redrive that runs at the same time.
func redriveTopic(ctx context.Context, c config.Connector, cfg *config.Config, job *redrive.Job, p *progress, log *slog.Logger) (shared int64, err error) {
	options, err := kafkaOptions(cfg.Kafka, log)
	if err != nil {
		return 0, err
	}
	fetch := int64(cfg.Memory) / fetchShare
	letters, err := kafka.OpenLog(ctx, options, c.DeadLetter.Topic, fetch)
	if errors.Is(err, kafka.ErrNoTopic) {
		return 0, nil // no letter was ever written
	}
	if err != nil {
		return 0, err
	}
	defer letters.Close()
	group := redriveGroup(c.Name)
	committed, err := letters.Committed(ctx, group)
	if err != nil {
		return 0, err
	}
	s := &session{job: job, log: letters, ends: map[int32]int64{}, moved: make(chan struct{}, 1)}
	for _, e := range letters.Extents {
		if max(e.First, committed[e.Partition].Offset) < e.End {
			s.ends[e.Partition] = e.End
		}
	}
	if len(s.ends) == 0 {
		return 0, nil
	}
	s.group = kafka.NewGroup(kafka.GroupConfig{
		Options:    options,
		Group:      group,
		Topics:     []string{c.DeadLetter.Topic},
		FetchBytes: fetch,
		Lane:       s.lane,
		Log:        log,
	})
	p.waitsFor(s.joining)
	defer p.waitsFor(nil)
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.group.Run(running) }()
	shared, err = s.wait(ctx, group)
	stop()
	return shared, errors.Join(err, <-ended)
}

// session is the redriving of a topic as a member of a group.
type session struct {
	job   *redrive.Job
	log   *kafka.Log
	group *kafka.Group
	ends  map[int32]int64 // of the partitions that may hold something to redrive
	moved chan struct{}   // has room for one signal: a lane is through

	mu      sync.Mutex
	through map[int32]bool
	fault   error // that no waiting mends
}

// lane redrives a partition while it is ours, and then keeps it until it is not:
// a lane that ends would be begun again.
func (s *session) lane(ctx context.Context, origin *buffer.Origin, src connector.Source) error {
	noted, ok := src.(kafka.Noted)
	if !ok {
		return errors.New("the group's source keeps no notes")
	}
	var err error
	if origin.TopicID != s.log.ID {
		err = fmt.Errorf("topic %q was deleted and made again while it was redriven", s.log.Topic)
	} else if end, ok := s.ends[origin.Partition]; ok {
		if err := s.job.Lane(ctx, origin, noted, end); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.through == nil {
		s.through = map[int32]bool{}
	}
	s.through[origin.Partition] = true
	s.fault = errors.Join(s.fault, err)
	s.mu.Unlock()
	select {
	case s.moved <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil
}

// joining says what is waited for before the first partition is ours.
func (s *session) joining() string {
	if s.group.Status().State == kafka.StateJoined {
		return ""
	}
	return "joining the group; after a redrive that was killed this takes up to 20s"
}

// idleFor is how many seconds without a partition of its own a redrive waits for
// one that another is about to give back.
const idleFor = 5

// wait waits until every partition is through, or what is not belongs to another
// redrive: that one sees to it, or leaves it to the next.
func (s *session) wait(ctx context.Context, group string) (shared int64, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for idle := 0; ; {
		select {
		case <-ctx.Done():
			return 0, nil
		case <-s.moved:
		case <-tick.C:
			idle++
		}
		left, busy, err := s.left()
		if err != nil || left == 0 {
			return 0, err
		}
		if busy || s.group.Status().State != kafka.StateJoined {
			idle = 0
		}
		if idle < idleFor {
			continue
		}
		// Without others, those that we do not have yet are still to come.
		if n, err := s.log.Members(ctx, group); err == nil && n > 1 {
			return left, nil
		}
	}
}

// left is how many partitions are not through; busy: some of them are ours.
func (s *session) left() (left int64, busy bool, err error) {
	ours := map[int32]bool{}
	for _, p := range s.group.Status().Partitions {
		ours[p.Partition] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.ends {
		if !s.through[p] {
			left++
			busy = busy || ours[p]
		}
	}
	return left, busy, s.fault
}
