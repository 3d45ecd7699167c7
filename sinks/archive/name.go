package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"weir/buffer"
	"weir/sinks/template"
)

// layout is the path of folders below the archive's own, one template each, so
// that no text of a record can add a folder to it or leave it.
type layout []*template.Template

// maxFolders bounds the folders of a path.
const maxFolders = 16

// parseLayout reads folders with slashes between them, such as
// {topic}/{time:2006-01-02}. An empty one is the archive's own folder.
func parseLayout(s string) (layout, error) {
	var l layout
	if s == "" {
		return nil, nil
	}
	for folder := range strings.SplitSeq(s, "/") {
		t, err := template.Parse(folder)
		switch {
		case err != nil && strings.Count(folder, "{") != strings.Count(folder, "}"):
			return nil, fmt.Errorf("path %q: a brace without its other half; no slash may stand between braces: write {time:2006}/{time:01}", s)
		case err != nil:
			return nil, fmt.Errorf("path: %w", err)
		case folder == "" || folder == "." || folder == "..":
			return nil, fmt.Errorf("path %q: folders with a slash between them are needed, relative to dir", s)
		}
		if text, ok := t.Constant(); ok && string(appendName(nil, []byte(text))) != text {
			return nil, fmt.Errorf("path %q: a folder may hold a-z A-Z 0-9 . _ - = + @ , only, not begin with a dot, and be %d bytes long", s, maxName)
		}
		l = append(l, t)
	}
	if len(l) > maxFolders {
		return nil, fmt.Errorf("path %q: more than %d folders", s, maxFolders)
	}
	return l, nil
}

// same reports whether it is known without making them that a's and b's paths
// are the same.
func (l layout) same(a, b *buffer.Record) bool {
	if a.Origin != b.Origin {
		return false
	}
	for _, t := range l {
		if !t.Same(a, b) {
			return false
		}
	}
	return true
}

// needsEvent reports whether a path can hold content of events.
func (l layout) needsEvent() bool {
	for _, t := range l {
		if t.NeedsEvent() {
			return true
		}
	}
	return false
}

// append appends r's folders to dst, each made a legal name, with a slash behind
// each.
//
// Errors: those of Template.Append. They are about this record.
func (l layout) append(dst []byte, r *buffer.Record) ([]byte, error) {
	var room [256]byte
	for _, t := range l {
		text, err := t.Append(room[:0], r)
		if err != nil {
			return dst, err
		}
		dst = append(appendName(dst, text), '/')
	}
	return dst, nil
}

// maxName is how long the name of a folder, and a topic in the name of a file,
// can get. File systems take 255 bytes.
const maxName = 120

// appendName appends text as a name that every file system takes: everything but
// letters, digits and . _ - = + @ , becomes % and two hexadecimal digits, and so
// does a dot that would come first. A name that would get too long is cut, and a
// hash of the whole stands for the rest; an empty text is _.
func appendName(dst, text []byte) []byte {
	start := len(dst)
	for i, c := range text {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_-=+@,", c) >= 0, c == '.' && i > 0:
			dst = append(dst, c)
		default:
			dst = hex.AppendEncode(append(dst, '%'), []byte{c})
		}
	}
	if len(dst) == start {
		dst = append(dst, '_')
	}
	if len(dst)-start > maxName {
		sum := sha256.Sum256(text)
		hash := hex.EncodeToString(sum[:8])
		dst = append(append(dst[:start+maxName-len(hash)-1], '-'), hash...)
	}
	return dst
}

// filePrefix is what the names of all files of o's records begin with:
// TOPIC-IDENTITY-pPARTITION-.
func filePrefix(o *buffer.Origin) string {
	p := append(appendName(nil, []byte(o.Topic)), '-')
	p = append(append(p, identity(o)...), "-p"...)
	return string(append(strconv.AppendInt(p, int64(o.Partition), 10), '-'))
}

// openSuffix marks a file that is still written to. tornSuffix marks what was cut
// off one.
const (
	openSuffix = ".open"
	tornSuffix = ".torn"
)

// A fileName is what comes behind the prefix in the name of a file: FIRST.EXT.open
// while it is written to, FIRST-LAST.EXT once it is finished. FIRST is the lowest
// offset of what was written first; in the name of a finished file the two are the
// lowest and the highest of all.
type fileName struct {
	span  span // of an open file only the first is meant
	codec codec
	open  bool
}

func (n fileName) String() string {
	if n.open {
		return fmt.Sprintf("%019d%s%s", n.span.first, extensions[n.codec], openSuffix)
	}
	return fmt.Sprintf("%019d-%019d%s", n.span.first, n.span.last, extensions[n.codec])
}

var errNotOurs = errors.New("not the name of an archive file")

// parseFileName reads the part of a name behind its prefix.
func parseFileName(s string) (fileName, error) {
	var n fileName
	s, n.open = strings.CutSuffix(s, openSuffix)
	known := false
	for c, ext := range extensions {
		if numbers, ok := strings.CutSuffix(s, ext); ok {
			s, n.codec, known = numbers, codec(c), true
			break
		}
	}
	first, last, two := strings.Cut(s, "-")
	if !known || two == n.open {
		return n, errNotOurs
	}
	if n.open {
		last = first
	}
	for _, p := range []struct {
		text string
		to   *int64
	}{{first, &n.span.first}, {last, &n.span.last}} {
		o, err := strconv.ParseUint(p.text, 10, 63)
		if err != nil || len(p.text) != 19 {
			return n, errNotOurs
		}
		*p.to = int64(o)
	}
	if n.span.last < n.span.first {
		return n, errNotOurs
	}
	return n, nil
}

// openPrefix is the prefix in the name of an open file; empty: it is none.
func openPrefix(name string) string {
	at := strings.LastIndexByte(name, '-') + 1
	if n, err := parseFileName(name[at:]); err != nil || !n.open {
		return ""
	}
	return name[:at]
}
