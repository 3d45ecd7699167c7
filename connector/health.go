package connector

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"

	"weir/sinks"
)

// pause says how long to wait before the next attempt.
type pause interface {
	NextBackOff() time.Duration
	Reset()
}

// newBackoff doubles from RetryInitial to RetryMax with jitter and never ends:
// there is no giving up.
func (c *Connector) newBackoff() pause {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(c.opt.RetryInitial),
		backoff.WithMaxInterval(c.opt.RetryMax),
		backoff.WithMultiplier(2),
		backoff.WithMaxElapsedTime(0),
	)
	b.Reset()
	return b
}

// health is what the connector knows about its sink as a whole. A sink is down
// when a round of requests failed without one answer in between; then one
// attempt at a time, ever more rarely, finds out when it is back.
type health struct {
	failures int       // requests failed since the last answer
	hold     time.Time // no request starts before
	down     error
	since    time.Time
	pause    pause
}

// downAfter is how many requests have to fail in a row, however small the
// window is, before the sink counts as down.
const downAfter = 3

// failed notes a request that failed as a whole.
func (h *health) failed(c *Connector, err *sinks.RequestError) {
	if !crowded(err) || c.window.InFlight() == 0 {
		// A refusal for lack of room while other requests are being served is the
		// window's matter: the sink is there.
		h.failures++
	}
	now := time.Now()
	if err.RetryAfter > 0 {
		h.later(now.Add(min(err.RetryAfter, maxRetryAfter)))
	}
	if h.down == nil && h.failures < max(c.window.Limit(), downAfter) {
		return
	}
	if h.down == nil {
		h.since = now
		c.window.Collapse()
		c.report(slog.LevelWarn, "down", "the sink does not take requests: one attempt at a time from now on, nothing is lost", "error", err)
	} else if h.down.Error() != err.Error() {
		c.report(slog.LevelWarn, "still down", "the sink still does not take requests", "error", err)
	}
	h.down = err
	h.later(now.Add(h.pause.NextBackOff()))
}

// crowded reports whether the sink said that it has no room now.
func crowded(err *sinks.RequestError) bool { return err.Status == 429 || err.Status == 503 }

func (h *health) later(t time.Time) {
	if t.After(h.hold) {
		h.hold = t
	}
}

// answered notes that the sink answered a request, whatever the verdicts.
func (h *health) answered(c *Connector) {
	h.failures = 0
	if h.down == nil {
		return
	}
	c.report(slog.LevelInfo, "up", "the sink takes requests again", "down_for", time.Since(h.since).Round(time.Millisecond))
	h.down, h.hold, h.since = nil, time.Time{}, time.Time{}
	h.pause.Reset()
	// What failed with the sink need not wait any longer.
	for _, b := range c.retries {
		if b.whole {
			b.due, b.pause = time.Time{}, nil
		}
	}
}

// reportEvery is how often the log repeats itself at most about one matter.
const reportEvery = 10 * time.Second

// report is what the log has not said yet about one matter.
type report struct {
	last    time.Time
	skipped int
}

// report logs, but about one matter at most every reportEvery: a storm of the
// same line hides what matters.
func (c *Connector) report(level slog.Level, matter, msg string, args ...any) {
	r := c.reported[matter]
	if r == nil {
		r = &report{}
		c.reported[matter] = r
	}
	now := time.Now()
	if now.Sub(r.last) < reportEvery {
		r.skipped++
		return
	}
	if r.skipped > 0 {
		args = append(args, "times_not_said", r.skipped)
	}
	r.last, r.skipped = now, 0
	c.opt.Log.Log(context.Background(), level, msg, args...)
}

func (c *Connector) reportRejects(b *batch, o sinks.Outcome) {
	r := b.Records[0]
	where := "they go to the dead-letter destination"
	if c.opt.DeadLetter == nil {
		where = "no dead_letter is configured: their lanes stand still"
	}
	c.report(slog.LevelWarn, "rejected", "records rejected; "+where, "records", len(b.Records),
		"topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "reason", c.describe(o))
}

func (c *Connector) reportRetries(b *batch, o sinks.Outcome) {
	if o.Note != sinks.Misconfigured && !b.stuck {
		return
	}
	r := b.Records[0]
	c.report(slog.LevelWarn, "refused", "the sink refuses single records and may go on to: a setting is wrong, not the event; trying again for ever",
		"records", len(b.Records), "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "reason", c.describe(o))
}

// describe puts an outcome in words.
func (c *Connector) describe(o sinks.Outcome) string {
	switch {
	case o.Status != 0 && o.Reason != "":
		return fmt.Sprintf("status %d, %s", o.Status, o.Reason)
	case o.Status != 0:
		return fmt.Sprintf("status %d", o.Status)
	case o.Reason != "":
		return o.Reason
	default:
		return "no reason given"
	}
}
