package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"weir/buffer"
	"weir/config"
	"weir/connector/redrive"
)

func dlqLsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "Count the dead letters that are not redriven, by connector, topic and reason",
		Args:  noArgs,
	}
	path := configFlag(cmd)
	connector := cmd.Flags().String("connector", "", "only those of the connector with this `name`")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, log, err := openConfig(*path, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		prepareProcess(cfg, log)
		if *connector != "" {
			if _, err := deadLetterOf(cfg, *connector); err != nil {
				return err
			}
		}
		list, err := listLetters(cmd.Context(), cfg, log, *connector)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), list)
		}
		return list.print(cmd.OutOrStdout(), time.Now())
	}
	return cmd
}

// deadLetterOf is the connector of that name, if it has dead letters.
func deadLetterOf(cfg *config.Config, name string) (config.Connector, error) {
	for _, c := range cfg.Connectors {
		if c.Name != name {
			continue
		}
		if c.DeadLetter.Topic == "" && c.DeadLetter.File == "" {
			return c, usageError{fmt.Errorf("connector %s has no dead_letter", name)}
		}
		return c, nil
	}
	return config.Connector{}, usageError{fmt.Errorf("there is no connector %q in the configuration", name)}
}

// letterList is what ls finds; its JSON form is documented.
type letterList struct {
	Letters []letterCount `json:"letters"`
	Logs    []logCount    `json:"dead_letters"`
}

// letterCount counts letters that are alike and not redriven.
type letterCount struct {
	letterKind
	Letters int64     `json:"letters"`
	Oldest  time.Time `json:"oldest"` // when the first of them was refused
	Newest  time.Time `json:"newest"`
}

// letterKind is what letters are counted by. Of kinds beyond maxKinds only
// Connector and DeadLetters are told, and Reason says so.
type letterKind struct {
	Connector string `json:"connector"` // "" for all that the configuration does not have
	// DeadLetters is the topic or file they are in.
	DeadLetters string `json:"dead_letters"`
	Topic       string `json:"topic"`
	Status      int    `json:"status"`
	Reason      string `json:"reason"`
}

// logCount is the rest of what a dead-letter topic or file holds.
type logCount struct {
	DeadLetters string `json:"dead_letters"`
	Redriven    int64  `json:"redriven"`
	// Foreign records are no letters of weir. FirstForeign is the address of one.
	Foreign      int64  `json:"foreign"`
	FirstForeign string `json:"first_foreign,omitempty"`
}

// maxKinds bounds the kinds: whoever may write to the topic could make up any
// number of them.
const maxKinds = 500

const otherKinds = "(other topics and reasons)"

// listLetters counts the letters of one connector, or of all when it is "".
func listLetters(ctx context.Context, cfg *config.Config, log *slog.Logger, connector string) (*letterList, error) {
	all, err := openLetters(ctx, cfg, log, func(c config.Connector) bool { return connector == "" || c.Name == connector })
	if err != nil {
		return nil, err
	}
	defer closeLetters(all)
	counts := map[letterKind]*letterCount{}
	list := &letterList{Letters: []letterCount{}, Logs: []logCount{}}
	for _, l := range all {
		rest := logCount{DeadLetters: l.name()}
		err := l.each(ctx, func(r *buffer.Record) error {
			letter, err := redrive.Parse(r)
			if err != nil {
				if rest.Foreign++; rest.Foreign == 1 {
					rest.FirstForeign = l.address(r.Partition, r.Offset)
				}
				return nil
			}
			if connector != "" && letter.Connector != connector {
				return nil
			}
			reached, known := l.reached[letter.Connector]
			if known && reached[r.Partition].has(r.Offset) {
				rest.Redriven++
				return nil
			}
			kind := letterKind{letter.Connector, l.name(), letter.Record.Topic, letter.Status, redrive.KindOf(letter.Reason)}
			if counts[kind] == nil && len(counts) >= maxKinds {
				kind.Topic, kind.Status, kind.Reason = "", 0, otherKinds
				if !known {
					kind.Connector = ""
				}
			}
			count(counts, kind, letter.FailedAt)
			return nil
		})
		if err != nil {
			return nil, err
		}
		list.Logs = append(list.Logs, rest)
	}
	for _, n := range counts {
		list.Letters = append(list.Letters, *n)
	}
	slices.SortFunc(list.Letters, func(a, b letterCount) int {
		return cmp.Or(cmp.Compare(a.Connector, b.Connector), cmp.Compare(a.Topic, b.Topic), cmp.Compare(b.Letters, a.Letters),
			cmp.Compare(a.Status, b.Status), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.DeadLetters, b.DeadLetters))
	})
	return list, nil
}

func count(counts map[letterKind]*letterCount, kind letterKind, at time.Time) {
	n := counts[kind]
	if n == nil {
		n = &letterCount{letterKind: kind, Oldest: at, Newest: at}
		counts[kind] = n
	}
	n.Letters++
	if at.Before(n.Oldest) {
		n.Oldest = at
	}
	if at.After(n.Newest) {
		n.Newest = at
	}
}

// print writes the list as a table for people.
func (l *letterList) print(out io.Writer, now time.Time) error {
	if len(l.Letters) == 0 {
		fmt.Fprintln(out, "no dead letters that are not redriven")
	} else {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CONNECTOR\tTOPIC\tSTATUS\tREASON\tLETTERS\tOLDEST\tNEWEST\tIN")
		for _, n := range l.Letters {
			status := "-"
			if n.Status != 0 {
				status = strconv.Itoa(n.Status)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", cmp.Or(n.Connector, "(others)"), cmp.Or(n.Topic, "-"), status,
				cmp.Or(cleanLine(n.Reason), "-"), n.Letters, age(now.Sub(n.Oldest)), age(now.Sub(n.Newest)), cleanLine(n.DeadLetters))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, rest := range l.Logs {
		if rest.Redriven > 0 {
			fmt.Fprintf(out, "%s: %d more are redriven\n", cleanLine(rest.DeadLetters), rest.Redriven)
		}
		if rest.Foreign > 0 {
			fmt.Fprintf(out, "%s: %d records are no letters of weir and are never redriven; the first is %s\n",
				cleanLine(rest.DeadLetters), rest.Foreign, cleanLine(rest.FirstForeign))
		}
	}
	return nil
}

// age is d in the two largest units, as people say it.
func age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}
