package replay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseTime reads an RFC 3339 time, or one relative to now, such as -72h, -21d or
// -30m.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now.UTC(), nil
	}
	if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
		d, err := ParseDuration(s)
		if err != nil {
			return time.Time{}, err
		}
		return now.Add(d).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-01-31T08:00:00Z nor one relative to now such as -72h or -21d", s)
	}
	return t.UTC(), nil
}

// ParseDuration is time.ParseDuration with days of 24 hours: 21d.
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err == nil && n > -100_000 && n < 100_000 {
			return time.Duration(n * float64(24*time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration such as 90m, 72h or 21d", s)
	}
	return d, nil
}

// CheckRange says what is wrong with a time range.
func CheckRange(from, to, now time.Time) error {
	switch {
	case to.After(now):
		return fmt.Errorf("--to %s lies in the future (it is %s): records of that time are still to come, and a plan is of what is there",
			to.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !from.Before(to):
		return fmt.Errorf("--from %s is not before --to %s", from.Format(time.RFC3339), to.Format(time.RFC3339))
	case from.UnixMilli() < 0:
		return errors.New("--from lies before 1970: no record is older")
	}
	return nil
}
