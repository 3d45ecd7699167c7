package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// maxText bounds a referenced file and the text a value comes to.
const maxText = 64 << 10

// references resolves the ${env:NAME} and ${file:PATH} in a value. Its errors
// name the variable or the file, never the value.
type references struct {
	dir string // of relative paths
	env map[string]string
}

var errReference = errors.New("has a ${ that is neither ${env:NAME} nor ${file:PATH}: write $${ for a plain ${")

// expand resolves every reference in s. file reports whether one was to a file.
func (r references) expand(s string) (text string, file bool, err error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "${")
		if !found {
			out.WriteString(s)
			break
		}
		if plain, ok := strings.CutSuffix(before, "$"); ok {
			out.WriteString(plain + "${")
			s = after
			continue
		}
		reference, rest, closed := strings.Cut(after, "}")
		kind, name, _ := strings.Cut(reference, ":")
		if !closed || name == "" {
			return "", false, errReference
		}
		var value string
		switch kind {
		case "env":
			value = r.env[name]
			if value == "" {
				return "", false, fmt.Errorf("needs the environment variable %q, which is not set or empty", name)
			}
		case "file":
			file = true
			if value, err = r.file(name); err != nil {
				return "", false, err
			}
		default:
			return "", false, errReference
		}
		out.WriteString(before + value)
		if out.Len() > maxText {
			return "", false, errors.New("comes to more than 64KiB")
		}
		s = rest
	}
	text = out.String()
	return text, file, printable(text)
}

// file is the content of a file without its last line's end.
func (r references) file(name string) (string, error) {
	name = r.locate(name)
	// A pipe could make us wait for ever, and would be empty the second time.
	if info, err := os.Stat(name); err != nil {
		return "", fmt.Errorf("needs a file that cannot be read: %w", printablePath(err))
	} else if !info.Mode().IsRegular() {
		return "", fmt.Errorf("needs the file %q, which is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("needs a file that cannot be read: %w", printablePath(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return "", fmt.Errorf("needs a file that cannot be read: %w", printablePath(err))
	}
	if len(data) > maxText {
		return "", fmt.Errorf("needs the file %q, which is larger than 64KiB", name)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("needs the file %q, which is empty", name)
	}
	return text, nil
}

// locate makes a relative path one from the folder of the YAML file.
func (r references) locate(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.dir, path)
}

// printable refuses control characters: in a name they would reach logs and
// paths, in a credential they are a line break too many.
func printable(text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("holds a control character (a line break?)")
	}
	return nil
}

// printablePath quotes the path in an error of package os.
func printablePath(err error) error {
	var in *os.PathError
	if errors.As(err, &in) {
		return fmt.Errorf("%q: %w", in.Path, in.Err)
	}
	return err
}
