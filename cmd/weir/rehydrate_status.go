package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"weir/connector/evidence"
	"weir/connector/kafka"
)

func rehydrateStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how far a case has come, from any machine",
		Long: `Say how far a case has come, from any machine.

All of it comes from what the consumer group of the case has committed: nothing is
asked of the workers. While some are at work it is asked twice, a few seconds apart,
for the rate.`,
		Args: noArgs,
	}
	path := configFlag(cmd)
	plan := cmd.Flags().String("plan", "", "the plan `file`; needed")
	asJSON := cmd.Flags().Bool("json", false, "print it as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withCase(cmd, *path, *plan, func(ctx context.Context, c *openCase) error {
			s, err := c.status(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), s.json(c))
			}
			s.print(cmd.OutOrStdout(), c)
			return nil
		})
	}
	return cmd
}

// withCase calls do with a case that is connected.
func withCase(cmd *cobra.Command, path, plan string, do func(context.Context, *openCase) error) error {
	cfg, c, log, err := loadCase(path, plan, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
	defer cancel()
	if err := c.connect(ctx, cfg, log); err != nil {
		return err
	}
	defer c.close()
	return do(ctx, c)
}

// caseStatus is what status says.
type caseStatus struct {
	workers int
	known   bool // the group is
	look    *overview
	pace    pace
}

// statusOver is over how long the rate is taken.
const statusOver = 3 * time.Second

func (c *openCase) status(ctx context.Context) (s caseStatus, err error) {
	if s.workers, s.known, err = c.ledger.Members(ctx); err != nil {
		return s, err
	}
	for {
		if s.look, err = c.look(ctx); err != nil {
			return s, err
		}
		s.pace.add(s.look.at, s.look.done, int64(s.look.counts.Read))
		if s.workers == 0 || s.look.all() || len(s.pace.points) > 1 {
			return s, nil
		}
		select {
		case <-time.After(statusOver):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// word is how a case is doing, in a word.
func (s *caseStatus) word() string {
	switch {
	case !s.known:
		return "not begun"
	case s.look.all():
		return "done"
	case s.workers == 0:
		return "stopped"
	}
	return "running"
}

func (s *caseStatus) print(out io.Writer, c *openCase) {
	say(out, "Case %s: %s, %d worker(s), group %s, plan %x", c.plan.Case, s.word(), s.workers, c.plan.Group(), c.hash[:8])
	if s.word() == "running" {
		offsets, records := s.pace.rates()
		line := fmt.Sprintf("%s records/s, %s offsets/s", grouped(int64(records)), grouped(int64(offsets)))
		if left, ok := s.pace.left(s.look.total - s.look.done); ok {
			line += ", about " + span(left) + " to go"
		}
		say(out, "%s", line)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")+"\t") }
	row("partition", "next", "end", "to go", "done", "matched", "delivered", "dead letters", "gaps", "gone")
	for i := range s.look.partitions {
		p := &s.look.partitions[i]
		cells := []string{cleanLine(p.name()), grouped(p.next()), grouped(p.plan.End), grouped(p.plan.End - p.next()), percent(p.next()-p.plan.First, p.plan.Offsets())}
		if p.progress == nil {
			row(append(cells, "-", "-", "-", "-", "-")...)
			continue
		}
		n, gaps := &p.progress.Counts, p.gaps.Offsets
		explained := int64(0)
		for _, g := range gaps {
			explained += int64(g)
		}
		lost := lostOffsets(gaps)
		row(append(cells, grouped(int64(n.Matched)), grouped(int64(n.Delivered+n.Duplicates+n.Quarantined)), grouped(int64(n.DeadLettered)), grouped(explained-lost), grouped(lost))...)
	}
	_ = w.Flush()
	fmt.Fprintln(out)
	printCase(out, c.plan, s.look)
}

func (s *caseStatus) json(c *openCase) any {
	offsets, records := s.pace.rates()
	line := caseState{name: c.plan.Case, look: s.look, offsets: offsets, records: records}
	line.left, line.known = s.pace.left(s.look.total - s.look.done)
	l := line.line()
	l.Event, l.Each = "status", s.look.each()
	return struct {
		State   string `json:"state"`
		Workers int    `json:"workers"`
		Group   string `json:"group"`
		Plan    string `json:"plan_sha256"`
		progressLine
	}{s.word(), s.workers, c.plan.Group(), fmt.Sprintf("%x", c.hash), l}
}

func rehydrateCancelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel",
		Short: "Remove the group of a case: how far it has come, and the evidence so far",
		Long: `Remove the group of a case: how far it has come, and the evidence so far.

What was delivered stays delivered. Run again afterwards, the plan begins anew; records
that are in the index already are met by their ids.`,
		Args: noArgs,
	}
	path := configFlag(cmd)
	plan := cmd.Flags().String("plan", "", "the plan `file`; needed")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	log := custodyFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withCase(cmd, *path, *plan, func(ctx context.Context, c *openCase) error {
			return c.cancel(ctx, cmd, *path, *log, *yes)
		})
	}
	return cmd
}

func (c *openCase) cancel(ctx context.Context, cmd *cobra.Command, path, log string, yes bool) error {
	out, group := cmd.OutOrStdout(), c.plan.Group()
	workers, known, err := c.ledger.Members(ctx)
	switch {
	case err != nil:
		return err
	case !known:
		say(out, "There is no group %s: nothing to remove", group)
		return nil
	case workers > 0:
		return fmt.Errorf("%d worker(s) of the case are at work, or were killed within the last 20s: stop them first", workers)
	}
	done := "how far it has come is not readable"
	if o, err := c.look(ctx); err == nil {
		done = fmt.Sprintf("%s of %s offsets are done", grouped(o.done), grouped(o.total))
	}
	if !yes {
		f, ok := cmd.InOrStdin().(*os.File)
		if !ok || !term.IsTerminal(int(f.Fd())) {
			return usageError{fmt.Errorf("this removes group %s (%s) for good: say --yes", group, done)}
		}
		fmt.Fprintf(out, "Remove group %s (%s) for good, with the evidence in it? Type the id of the case: ", group, done)
		line, _ := bufio.NewReader(f).ReadString('\n')
		if strings.TrimSpace(line) != c.plan.Case {
			return errors.New("nothing was removed")
		}
	}
	trail, err := openAudit(c.logs, path, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer trail.close()
	change, err := trail.begin(cancelCase, group+", "+done)
	if err != nil {
		return err
	}
	err = c.ledger.Delete(ctx)
	if errors.Is(err, kafka.ErrGroupInUse) {
		err = errors.New("a worker of the case has just begun: nothing was removed")
	}
	if err = change.end("", err); err == nil {
		err = custody(log, c.file, c.plan.Case).Add(evidence.ActionCancel, map[string]any{"group": group, "state": done})
	}
	if err != nil {
		return err
	}
	say(out, "Group %s is removed", group)
	return nil
}
