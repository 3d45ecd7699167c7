package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a number of bytes, written as 5MiB, 64KiB, 1GiB, 500kB or a plain
// number of bytes.
type Bytes int64

// units of Bytes, the largest first; String uses the binary ones.
var units = []struct {
	name string
	size Bytes
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
}

// String writes b in the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range units[:3] {
		if b >= u.size && b%u.size == 0 {
			return fmt.Sprintf("%d%s", b/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d", int64(b))
}

var errNotBytes = errors.New("is not a size: write for example 5MiB, 64KiB, 500kB or a plain number of bytes")

// ParseBytes reads a size.
//
// Errors: what is wrong with it, to follow its name.
func ParseBytes(s string) (Bytes, error) {
	size := Bytes(1)
	for _, u := range units {
		if number, ok := strings.CutSuffix(s, u.name); ok {
			s, size = number, u.size
			break
		}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && n > math.MaxInt64/uint64(size):
		return 0, errors.New("is larger than any memory")
	case err != nil:
		return 0, errNotBytes
	}
	return Bytes(n) * size, nil
}

// parseDuration wants a unit: a bare 5 would be taken for nanoseconds. 0 needs
// none.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil {
		return d, nil
	}
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		return 0, fmt.Errorf("has no unit: write %sms or %ss", s, s)
	}
	return 0, errors.New("is not a duration: write for example 200ms, 5s or 1m30s")
}

// Secret is a value that must not be shown. It prints as *** in every format;
// Value is the only way to the text. A secret that was written with ${file:PATH}
// is read anew by each Value, so that a rotated secret is taken up without a
// restart.
type Secret struct {
	// read is a function even for a fixed text: fmt does not call the methods of
	// a Secret in someone's unexported field, and would print a text that is
	// kept here.
	read func() (string, error)
}

// NewSecret is a secret with a fixed text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{read: func() (string, error) { return text, nil }}
}

// Value is the secret's text, "" when it is not set. It is safe for concurrent
// use.
//
// Errors: those of reading the file it is in, naming the file.
func (s Secret) Value() (string, error) {
	if s.read == nil {
		return "", nil
	}
	return s.read()
}

// IsSet reports whether the configuration gave the secret at all.
func (s Secret) IsSet() bool { return s.read != nil }

// String hides the text.
func (s Secret) String() string {
	if !s.IsSet() {
		return ""
	}
	return "***"
}

// GoString hides the text from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides the text from every fmt verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) }

// MarshalText hides the text from JSON, YAML and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
