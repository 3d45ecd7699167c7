package config

import "fmt"

// Bytes is a number of bytes, written as 5MiB, 64KiB, 1GiB, 500kB or a plain
// number of bytes.
type Bytes int64

// String writes b in the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range []struct {
		size Bytes
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if b >= u.size && b%u.size == 0 {
			return fmt.Sprintf("%d%s", b/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d", int64(b))
}

// Secret is a value that must not be shown. It prints as *** in every format;
// Value is the only way to the text. A secret that was written as ${file:PATH}
// is read anew by each Value, so that a rotated secret is taken up without a
// restart.
type Secret struct {
	text string
	read func() (string, error)
}

// NewSecret is a secret with a fixed text.
func NewSecret(text string) Secret { return Secret{text: text} }

// Value is the secret's text.
//
// Errors: those of reading the file it is in.
func (s Secret) Value() (string, error) {
	if s.read != nil {
		return s.read()
	}
	return s.text, nil
}

// IsSet reports whether the configuration gave the secret at all.
func (s Secret) IsSet() bool { return s.text != "" || s.read != nil }

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
