package evidence

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/compact"
)

// Tree is an RFC 6962 tree of which only the right edge is kept: the roots of the
// perfect trees that its leaves make up, at most one for each bit of its size.
// The zero Tree is empty. Copies share memory: Clone makes one of its own.
type Tree struct {
	edge []Hash // from left to right, and so from the largest down
	size uint64
}

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
//
// It is the compact range of github.com/transparency-dev/merkle, without the two
// pieces of garbage that one makes of each leaf.
func (t *Tree) append(leaf Hash, visit compact.VisitFn) {
	h, level, index := leaf, uint(0), t.size
	tell := func() {
		if visit != nil {
			kept := h
			visit(compact.NewNodeID(level, index), kept[:])
		}
	}
	tell()
	// Each one at the end of the size is a perfect tree that the new one completes.
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.edge) - 1
		h = hashNode(t.edge[last], h)
		t.edge = t.edge[:last]
		level, index = level+1, index>>1
		tell()
	}
	t.edge = append(t.edge, h)
	t.size++
}

// Size is the number of leaves.
func (t Tree) Size() uint64 { return t.size }

// Root is the tree's hash; of the empty tree that of nothing (RFC 6962, 2.1).
func (t Tree) Root() Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	h := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		h = hashNode(t.edge[i], h)
	}
	return h
}

// Clone is a copy that what is appended to t does not reach.
func (t Tree) Clone() Tree { return Tree{slices.Clone(t.edge), t.size} }

// encoding is base64 without padding, of which every text has one form.
var encoding = base64.RawURLEncoding.Strict()

// String is SIZE:HASHES, the hashes from left to right in one base64 text. A tree
// goes on from it as if it had never been written down.
func (t Tree) String() string {
	b := strconv.AppendUint(nil, t.Size(), 10)
	b = append(b, ':')
	var all []byte
	for i := range t.edge {
		all = append(all, t.edge[i][:]...)
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
	t := Tree{size: size}
	for ; len(all) >= sha256.Size; all = all[sha256.Size:] {
		t.edge = append(t.edge, Hash(all[:sha256.Size]))
	}
	if len(all) > 0 {
		return Tree{}, errors.New("its hashes do not end with a whole one")
	}
	if len(t.edge) != bits.OnesCount64(size) {
		return Tree{}, fmt.Errorf("its %d hashes are not those of a tree of %d", len(t.edge), size)
	}
	return t, nil
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
