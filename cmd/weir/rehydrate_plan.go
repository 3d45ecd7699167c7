package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"weir/connector/evidence"
	"weir/connector/kafka"
	"weir/connector/replay"
)

func rehydratePlanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Find out which offsets a time range is, and write them to a plan file",
		Long: `Find out which offsets a time range is, and write them to a plan file.

The range is of record timestamps, from --from on and before --to. A partition is
read from the first record that its time index has at or after --from, up to the end
that the log has now: producers' timestamps may be out of order, so a record of the
range may lie anywhere behind. Each record's own timestamp decides. --slack ends the
reading earlier, --scan begins it at the start of the log.

Nothing is changed in Kafka. The plan file is never changed, either: it is what the
workers, the status and the seal of the case go by.`,
		Args: noArgs,
	}
	path := configFlag(cmd)
	f := cmd.Flags()
	var p planner
	var from, to, slack string
	var rates rateFlags
	f.StringVar(&p.caseID, "case", "", "the `id` of the case: 1 to 64 of A-Z a-z 0-9 . _ -; needed")
	f.StringSliceVar(&p.topics, "topics", nil, "the `topics` to read; needed")
	f.StringVar(&from, "from", "", "the range begins at this `time`: 2026-01-31T08:00:00Z, or -72h, -21d; needed")
	f.StringVar(&to, "to", "now", "the range ends before this `time`")
	f.StringVar(&slack, "slack", "", "read only up to the first record that is this `long` after --to; for topics whose timestamps are never that much out of order")
	f.BoolVar(&p.scan, "scan", false, "read from the start of the log, for producers that wrote wrong batch timestamps")
	f.StringVarP(&p.file, "output", "o", "", "the plan `file`; - for standard output. Without it: CASE.plan.json")
	rates.add(cmd, "to estimate the time")
	log := custodyFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if p.rates, err = rates.parse(); err != nil {
			return err
		}
		now := time.Now()
		if err := p.parse(from, to, slack, now); err != nil {
			return usageError{err}
		}
		p.custody = *log
		p.out, p.errs = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return p.run(cmd.Context(), *path)
	}
	return cmd
}

// planner makes a plan.
type planner struct {
	caseID   string
	topics   []string
	from, to time.Time
	slack    time.Duration // 0: none
	scan     bool
	rates    replay.Rates
	file     string
	custody  string
	now      time.Time

	out, errs io.Writer
}

func (p *planner) parse(from, to, slack string, now time.Time) (err error) {
	p.now = now
	if p.caseID == "" {
		return errors.New("--case is needed: the id that the case goes by")
	}
	if err := evidence.CheckCase(p.caseID); err != nil {
		return fmt.Errorf("--case: %w", err)
	}
	slices.Sort(p.topics)
	p.topics = slices.Compact(p.topics)
	if len(p.topics) == 0 || slices.Contains(p.topics, "") {
		return errors.New("--topics is needed: the topics to read, with commas between them")
	}
	if from == "" {
		return errors.New("--from is needed: when the range begins")
	}
	// Kafka's timestamps are of milliseconds.
	if p.from, err = replay.ParseTime(from, now.Truncate(time.Millisecond)); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if p.to, err = replay.ParseTime(to, now.Truncate(time.Millisecond)); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	if slack != "" {
		if p.slack, err = replay.ParseDuration(slack); err != nil || p.slack <= 0 {
			return fmt.Errorf("--slack %q is no duration above 0 such as 90m, 72h or 2d", slack)
		}
	}
	return replay.CheckRange(p.from, p.to, now)
}

func (p *planner) run(ctx context.Context, config string) error {
	cfg, log, err := openConfig(config, p.errs)
	if err != nil {
		return err
	}
	prepareProcess(cfg, log)
	cfg.Kafka.ClientID = caseClientID(p.caseID)
	options, err := kafkaOptions(cfg.Kafka, log)
	if err != nil {
		return err
	}
	plan, remarks, err := p.plan(ctx, options, int64(cfg.Memory)/fetchShare)
	if err != nil {
		return err
	}
	text, err := plan.Encode()
	if err != nil {
		return err
	}
	table, where := p.out, p.file
	switch where {
	case "-":
		table = p.errs
		if _, err := p.out.Write(text); err != nil {
			return err
		}
	case "":
		where = p.caseID + ".plan.json"
		fallthrough
	default:
		if err := createNew(where, text); err != nil {
			return err
		}
	}
	err = custody(p.custody, where, p.caseID).Add(evidence.ActionPlan, map[string]any{
		"plan_sha256": evidence.Hash(sha256.Sum256(text)).String(), "file": where, "topics": plan.Names(),
		"from": plan.From, "to": plan.To, "scan": plan.Scan, "slack": plan.Slack, "remarks": remarks,
	})
	if err != nil {
		return err
	}
	printPlan(table, plan, remarks)
	if p.file != "-" {
		fmt.Fprintln(table)
		say(table, "Plan %s, sha256 %x", where, sha256.Sum256(text))
	}
	return nil
}

// plan looks at the topics. remarks are what people should know about the plan.
func (p *planner) plan(ctx context.Context, o kafka.Options, fetch int64) (*replay.Plan, []string, error) {
	q := kafka.SurveyRequest{Topics: p.topics, From: p.from, To: p.to, Scan: p.scan, FetchBytes: fetch}
	plan := &replay.Plan{
		Version: replay.PlanVersion, Case: p.caseID, Made: p.now.UTC().Truncate(time.Second), Tool: toolName(),
		From: p.from, To: p.to, Scan: p.scan, Rates: p.rates,
	}
	if p.slack > 0 {
		plan.Slack = p.slack.String()
		q.Until = p.to.Add(p.slack)
	}
	topics, cluster, err := kafka.Survey(ctx, o, q)
	if err != nil {
		return nil, nil, err
	}
	plan.Cluster = cluster
	var remarks []string
	if cluster == "" {
		remarks = append(remarks, "The brokers report no cluster id: a plan that is used with another cluster is not recognised by it.")
	}
	for i := range topics {
		t := &topics[i]
		out := replay.Topic{Name: t.Name, ID: t.ID, Config: t.Config}
		if t.ConfigErr != nil {
			remarks = append(remarks, fmt.Sprintf("%s: its configuration could not be asked for (%v): when retention reaches the range is not known, and holes that compaction left will count as unexplained.", t.Name, o.Explain(t.ConfigErr)))
		}
		if out.Compacted() {
			remarks = append(remarks, fmt.Sprintf("%s is compacted: of each key only the latest record is sure to be there. What was removed between records that are read is counted; what was removed before the first one is not known.", t.Name))
		}
		var pool kafka.Sample
		for j := range t.Partitions {
			pool.Add(t.Partitions[j].Sample)
		}
		for j := range t.Partitions {
			one := p.partition(t, &t.Partitions[j], pool)
			remarks = append(remarks, p.remarks(t, &one)...)
			out.Partitions = append(out.Partitions, one)
		}
		plan.Topics = append(plan.Topics, out)
	}
	return plan, remarks, nil
}

// toolName is what made a plan or a manifest.
func toolName() string {
	v, _ := buildVersion()
	return "weir " + v
}

// partition decides what is read of a partition. pool is what was found in all
// partitions of its topic.
func (p *planner) partition(t *kafka.TopicSurvey, s *kafka.PartitionSurvey, pool kafka.Sample) replay.Partition {
	one := replay.Partition{
		Number: s.Partition, LogStart: s.Start, HighWatermark: s.High, LastStable: s.Stable,
		End: s.High, Ended: replay.EndHigh, Misdated: s.Sample.Misdated > 0,
	}
	if s.Stable < s.High {
		one.End, one.Ended = s.Stable, replay.EndStable
		if s.Open != nil {
			one.Open = &replay.Transaction{
				Start: s.Open.Start, Producer: s.Open.Producer,
				Last: known(s.Open.Last), Hanging: replay.IsHanging(s.Open.Last, p.now),
			}
		}
	}
	if p.slack > 0 && s.Until >= 0 && s.Until < one.End {
		one.End, one.Ended = s.Until, replay.EndSlack
	}
	one.FirstTime = known(s.FirstTime)
	switch {
	case p.scan:
		one.First, one.Found = s.Start, replay.FoundScan
	case s.From < 0 && s.Start > 0 && s.Start < one.End && (s.Newest.IsZero() || !s.Newest.Before(p.from)):
		one.First, one.Found = s.Start, replay.FoundSilent
	case s.From < 0 || s.From >= one.End:
		one.First, one.Found = one.End, replay.FoundEmpty
	case s.From <= s.Start:
		one.First, one.Found = s.Start, replay.FoundStart
	default:
		one.First, one.Found = s.From, replay.FoundIndex
	}
	one.First = max(one.First, s.Start)
	one.End = max(one.End, one.First)
	// Records before the log's start are gone. They may have been of the range
	// unless it begins later than the first one that is left.
	if one.First == s.Start && s.Start > 0 && (s.FirstTime.IsZero() || !s.FirstTime.Before(p.from)) {
		one.Taken = &replay.Span{To: s.Start}
	}
	if s.LocalStart >= 0 {
		local := s.LocalStart
		remote := max(0, min(local, one.End)-one.First)
		one.LocalStart, one.Remote = &local, &remote
	}
	one.Expires = p.expires(t, s, one.Found)
	one.Records, one.Bytes, one.InRange = estimate(s, &one, pool)
	return one
}

// expires is when retention may begin to take what is read. It goes by a segment's
// latest record, so that it will rather be later.
func (p *planner) expires(t *kafka.TopicSurvey, s *kafka.PartitionSurvey, found string) *time.Time {
	ms, err := strconv.ParseInt(t.Config["retention.ms"], 10, 64)
	if err != nil || ms < 0 || !strings.Contains(t.Config["cleanup.policy"], "delete") {
		return nil
	}
	first := s.FirstTime
	if found == replay.FoundIndex {
		first = s.FromTime
	}
	if first.IsZero() || found == replay.FoundEmpty || ms > int64(time.Duration(1<<62)/time.Millisecond) {
		return nil
	}
	at := first.Add(time.Duration(ms) * time.Millisecond)
	return &at
}

// estimate says how many records and bytes a partition's offsets are, going by
// samples of it, or else of the topic; and how many of the records are of the
// range if all timestamps are in order.
func estimate(s *kafka.PartitionSurvey, p *replay.Partition, pool kafka.Sample) (records, bytes, inRange int64) {
	offsets := p.Offsets()
	if offsets == 0 {
		return 0, 0, 0
	}
	sample := s.Sample
	if sample.Offsets == 0 {
		sample = pool
	}
	if sample.Offsets == 0 {
		return offsets, -1, -1
	}
	dense := float64(sample.Records) / float64(sample.Offsets)
	records = int64(float64(offsets)*dense + 0.5)
	if sample.Records > 0 {
		bytes = int64(float64(records) * float64(sample.Bytes) / float64(sample.Records))
	}
	from, to := max(s.From, p.First), p.End
	if s.From < 0 {
		from = p.End
	}
	if s.To >= 0 {
		to = min(s.To, p.End)
	}
	return records, bytes, int64(float64(max(to-from, 0))*dense + 0.5)
}

// remarks are what people should know about a partition's part of the plan.
func (p *planner) remarks(t *kafka.TopicSurvey, one *replay.Partition) []string {
	var all []string
	add := func(format string, args ...any) {
		all = append(all, fmt.Sprintf("%s/%d: ", t.Name, one.Number)+fmt.Sprintf(format, args...))
	}
	if one.Taken != nil {
		since := "the log is empty"
		if one.FirstTime != nil {
			since = "the first record left is of " + one.FirstTime.Format(time.RFC3339)
		}
		add("the range begins before the log does: retention has removed everything below offset %d (%s). How much of it was of the range is not known; it is recorded as a gap.", one.Taken.To, since)
	}
	if open := one.Open; one.Ended == replay.EndStable {
		why := "a transaction that is not decided holds the rest back"
		switch {
		case open != nil && open.Hanging:
			why = fmt.Sprintf("a transaction of producer %d hangs since offset %d (its last record is of %s) and holds the rest back until somebody aborts it (kafka-transactions.sh abort)", open.Producer, open.Start, open.Last.Format(time.RFC3339))
		case open != nil:
			why = fmt.Sprintf("a transaction of producer %d is open since offset %d and holds the rest back", open.Producer, open.Start)
		}
		add("reading ends at offset %d, %s before the end of the log at %d: %s. Plan again afterwards if what is behind matters.", one.End, grouped(one.HighWatermark-one.LastStable), one.HighWatermark, why)
	}
	if one.Misdated && !p.scan && one.Found != replay.FoundStart {
		add("batches were found whose headers tell earlier times than their records have. The time index goes by the headers: records of the range may lie before offset %d. Use --scan.", one.First)
	}
	if one.Expires != nil && one.Offsets() > 0 {
		if left := one.Expires.Sub(p.now); left < 24*time.Hour {
			when := "any time now"
			if left > time.Minute {
				when = "in " + span(left)
			}
			add("retention may begin to remove what is to be read %s. It goes first.", when)
		}
	}
	return all
}

// known is a time as it stands in a plan, nil for none.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// maxRemarks bounds what is said below the table.
const maxRemarks = 40

// printPlan is the plan for people.
func printPlan(out io.Writer, p *replay.Plan, remarks []string) {
	partitions := 0
	for i := range p.Topics {
		partitions += len(p.Topics[i].Partitions)
	}
	say(out, "Case %s: records from %s up to %s", p.Case, p.From.Format(time.RFC3339Nano), p.To.Format(time.RFC3339Nano))
	say(out, "%d topic(s), %d partition(s) of cluster %s", len(p.Topics), partitions, p.Cluster)
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")+"\t") }
	row("partition", "first", "found by", "end", "ends at", "offsets", "remote", "~records", "~size", "~of the range", "expires")
	remote := func(n *int64) string {
		if n == nil {
			return "?"
		}
		return grouped(*n)
	}
	for i := range p.Topics {
		t := &p.Topics[i]
		for j := range t.Partitions {
			one := &t.Partitions[j]
			expires := "-"
			if one.Expires != nil {
				expires = one.Expires.Format("2006-01-02 15:04")
			}
			row(cleanLine(t.Name)+"/"+strconv.Itoa(int(one.Number)), grouped(one.First), one.Found, grouped(one.End), one.Ended, grouped(one.Offsets()),
				remote(one.Remote), grouped(one.Records), size(one.Bytes), grouped(one.InRange), expires)
		}
	}
	total := p.Total()
	row("total", "", "", "", "", grouped(total.End), remote(total.Remote), grouped(total.Records), size(total.Bytes), grouped(total.InRange), "")
	_ = w.Flush()
	fmt.Fprintln(out)
	if takes := p.Rates.Takes(total.Records, total.Bytes); takes > 0 {
		say(out, "One worker takes about %s for it at the given rates.", span(takes))
	} else if p.Rates == (replay.Rates{}) {
		say(out, "Without --rate-bytes and --rate-records it takes as long as the brokers and the destination do.")
	}
	for i, r := range remarks {
		if i == maxRemarks {
			say(out, "  ! and %d more remarks", len(remarks)-i)
			break
		}
		say(out, "  ! %s", r)
	}
}
