package evidence

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/compact"
)

// Tree is an RFC 6962 tree of which only the right edge is kept: the roots of the
// perfect trees that its leaves make up, at most one for each bit of its size.
// The zero Tree is empty. Copies share memory: Clone makes one of its own.
type Tree struct {
	edge *compact.Range
}

// hashing is what compact ranges need to know. It is never changed.
var hashing = &compact.RangeFactory{Hash: func(left, right []byte) []byte {
	h := hashNode(Hash(left), Hash(right))
	return h[:]
}}

// hashNode is the hash of an inner node.
func hashNode(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = prefixNode
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// Append adds a leaf.
func (t *Tree) Append(leaf Hash) { t.append(leaf, nil) }

// append adds a leaf and tells visit, if there is one, of all nodes that are
// complete with it.
func (t *Tree) append(leaf Hash, visit compact.VisitFn) {
	if t.edge == nil {
		t.edge = hashing.NewEmptyRange(0)
	}
	if err := t.edge.Append(leaf[:], visit); err != nil {
		panic("evidence: " + err.Error()) // a range that begins at 0 takes every leaf
	}
}

// Size is the number of leaves.
func (t Tree) Size() uint64 {
	if t.edge == nil {
		return 0
	}
	return t.edge.End()
}

// Root is the tree's hash; of the empty tree that of nothing (RFC 6962, 2.1).
func (t Tree) Root() Hash {
	if t.Size() == 0 {
		return sha256.Sum256(nil)
	}
	root, err := t.edge.GetRootHash(nil)
	if err != nil {
		panic("evidence: " + err.Error()) // the range begins at 0
	}
	return Hash(root)
}

// Clone is a copy that what is appended to t does not reach.
func (t Tree) Clone() Tree {
	if t.edge == nil {
		return Tree{}
	}
	// The hashes themselves are never written to, only their list is.
	edge, err := hashing.NewRange(0, t.edge.End(), append([][]byte(nil), t.edge.Hashes()...))
	if err != nil {
		panic("evidence: " + err.Error()) // the hashes of a range fit its size
	}
	return Tree{edge}
}

// encoding is base64 without padding, of which every text has one form.
var encoding = base64.RawURLEncoding.Strict()

// String is SIZE:HASHES, the hashes from left to right in one base64 text. A tree
// goes on from it as if it had never been written down.
func (t Tree) String() string {
	b := strconv.AppendUint(nil, t.Size(), 10)
	b = append(b, ':')
	if t.edge == nil {
		return string(b)
	}
	var all []byte
	for _, h := range t.edge.Hashes() {
		all = append(all, h...)
	}
	return string(encoding.AppendEncode(b, all))
}

// maxSize bounds the size of a tree that is read: more than Kafka can number.
const maxSize = 1 << 62

// ParseTree reads String's text.
func ParseTree(s string) (Tree, error) {
	number, hashes, ok := strings.Cut(s, ":")
	size, err := parseCount(number)
	if !ok || err != nil || size > maxSize {
		return Tree{}, errors.New("not the size of a tree and its hashes")
	}
	if strings.ContainsAny(hashes, "\r\n") { // the decoder skips them
		return Tree{}, errors.New("not base64")
	}
	all, err := encoding.DecodeString(hashes)
	if err != nil {
		return Tree{}, errors.New("not base64")
	}
	if size == 0 && len(all) == 0 {
		return Tree{}, nil
	}
	var list [][]byte
	for ; len(all) >= sha256.Size; all = all[sha256.Size:] {
		list = append(list, all[:sha256.Size:sha256.Size])
	}
	if len(all) > 0 {
		return Tree{}, errors.New("its hashes do not end with a whole one")
	}
	edge, err := hashing.NewRange(0, size, list)
	if err != nil {
		return Tree{}, fmt.Errorf("its %d hashes are not those of a tree of %d", len(list), size)
	}
	return Tree{edge}, nil
}

// parseCount reads a number in its shortest form.
func parseCount(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err == nil && strconv.FormatUint(n, 10) != s {
		err = errors.New("not a number in its shortest form")
	}
	return n, err
}

// parseOffset reads a number that may be below zero, in its shortest form.
func parseOffset(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && strconv.FormatInt(n, 10) != s {
		err = errors.New("not a number in its shortest form")
	}
	return n, err
}
