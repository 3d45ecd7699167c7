package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/compact"

	"github.com/transparency-dev/merkle/rfc6962"
)

// mth is the tree's hash as RFC 6962, 2.1 defines it, word for word.
func mth(leaves []Hash) Hash {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		left, right := mth(leaves[:k]), mth(leaves[k:])
		return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
	}
}

func someLeaves(n int) []Hash {
	leaves := make([]Hash, n)
	for i := range leaves {
		leaves[i] = Hash(rfc6962.DefaultHasher.HashLeaf([]byte(fmt.Sprint("leaf ", i))))
	}
	return leaves
}

func TestRootIsThatOfTheRFC(t *testing.T) {
	leaves := someLeaves(300)
	var tree Tree
	for i := range leaves {
		if got, want := tree.Root(), mth(leaves[:i]); got != want || tree.Size() != uint64(i) {
			t.Fatalf("the root of %d leaves is %s, want %s", tree.Size(), got, want)
		}
		tree.Append(leaves[i])
	}
}

// The roots that certificate-transparency-go's tests pin for these eight leaves.
func TestRootsThatOthersPublished(t *testing.T) {
	var tree Tree
	for i, leaf := range []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"} {
		b, err := hex.DecodeString(leaf)
		if err != nil {
			t.Fatal(err)
		}
		tree.Append(sha256.Sum256(append([]byte{prefixLeaf}, b...)))
		want := []string{
			"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
			"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
			"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
			"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
			"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
			"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
			"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
			"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
		}[i]
		if got := tree.Root().String(); got != want {
			t.Errorf("the root of %d leaves is %s, want %s", i+1, got, want)
		}
	}
}

// A tree that is written down and read again anywhere ends in the same root.
func TestTreeGoesOnFromItsText(t *testing.T) {
	leaves := someLeaves(200)
	for at := range leaves {
		var tree Tree
		for _, l := range leaves[:at] {
			tree.Append(l)
		}
		again, err := ParseTree(tree.String())
		if err != nil {
			t.Fatal(err)
		}
		if again.String() != tree.String() {
			t.Fatalf("%s became %s", tree, again)
		}
		before := tree.Clone()
		for _, l := range leaves[at:] {
			tree.Append(l)
			again.Append(l)
		}
		if want := mth(leaves); tree.Root() != want || again.Root() != want {
			t.Fatalf("interrupted after %d leaves, the root is %s and not %s", at, again.Root(), want)
		}
		if want := mth(leaves[:at]); before.Root() != want || before.Size() != uint64(at) {
			t.Fatalf("the copy of %d leaves has become another: %s", at, before)
		}
	}
}

func TestTreesThatAreNone(t *testing.T) {
	var three Tree
	for _, l := range someLeaves(3) {
		three.Append(l)
	}
	text := three.String()
	for _, s := range []string{"", ":", "0", "3", "03" + text[1:], "+3" + text[1:], "1" + text[1:], "4" + text[1:], "7" + text[1:],
		text[:len(text)-1], text + "A", text + "=", text + "\n", text[:10] + "\n" + text[10:], "18446744073709551615" + text[1:], "-3" + text[1:]} {
		if got, err := ParseTree(s); err == nil {
			t.Errorf("%q was read as a tree of %d", s, got.Size())
		}
	}
}

func FuzzParseTree(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		var tree Tree
		for _, l := range someLeaves(r.IntN(100)) {
			tree.Append(l)
		}
		f.Add(tree.String())
	}
	f.Add("4611686018427387904:" + strings.Repeat("A", 43))
	f.Fuzz(func(t *testing.T, s string) {
		tree, err := ParseTree(s)
		if err != nil {
			return
		}
		if tree.String() != s {
			t.Fatalf("%q has another form, %q", s, tree)
		}
		tree.Root()
		tree.Append(Hash{})
		tree.Root()
	})
}

// The tree's edge, and the nodes that it tells of, are those of the compact range
// that others use.
func TestTreeIsTheCompactRangeOfOthers(t *testing.T) {
	var tree Tree
	theirs := (&compact.RangeFactory{Hash: func(left, right []byte) []byte {
		h := hashNode(Hash(left), Hash(right))
		return h[:]
	}}).NewEmptyRange(0)
	for i, leaf := range someLeaves(300) {
		var told, want []string
		tell := func(into *[]string) compact.VisitFn {
			return func(id compact.NodeID, hash []byte) { *into = append(*into, fmt.Sprintf("%v %x", id, hash)) }
		}
		before := tree.Clone()
		text := before.String()
		tree.append(leaf, tell(&told))
		if err := theirs.Append(leaf[:], tell(&want)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told, want) {
			t.Fatalf("leaf %d: %q, want %q", i, told, want)
		}
		root, err := theirs.GetRootHash(nil)
		if err != nil || tree.Root() != Hash(root) || len(tree.edge) != len(theirs.Hashes()) {
			t.Fatalf("%d leaves: %v", i+1, err)
		}
		for j, h := range theirs.Hashes() {
			if tree.edge[j] != Hash(h) {
				t.Fatalf("%d leaves: hash %d", i+1, j)
			}
		}
		if before.String() != text {
			t.Fatal("what was appended reached a clone")
		}
	}
}
