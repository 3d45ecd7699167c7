package evidence

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// TreeHead is what is known of a whole tree.
type TreeHead struct {
	Size uint64 `json:"size"`
	Root Hash   `json:"root"`
}

// Head is t's.
func (t Tree) Head() TreeHead { return TreeHead{t.Size(), t.Root()} }

// KeyName names the signer of a case's checkpoints: weir.rehydrate/CLUSTER/CASE.
// The names in it are escaped as in the path of a URL, and have neither spaces nor
// pluses.
func KeyName(cluster, caseID string) string {
	return strings.Join([]string{"weir.rehydrate", escape(cluster), escape(caseID)}, "/")
}

// Origin names a tree of a case: its KeyName, the topic, the partition, and
// records or gaps.
func checkpointOrigin(keyName, topic string, partition int32, tree string) string {
	return strings.Join([]string{keyName, escape(topic), strconv.Itoa(int(partition)), tree}, "/")
}

// What the trees of a partition are called.
const (
	treeRecords = "records"
	treeGaps    = "gaps"
)

func escape(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(url.PathEscape(s), "+", "%2B")
}

// Checkpoint signs a tree's head: a C2SP tlog-checkpoint (https://c2sp.org/tlog-checkpoint)
// with an Ed25519 signature (https://c2sp.org/signed-note).
//
// One key signs all trees of a case under one name, so that whoever checks them
// needs one verifier key and not one a partition: the specification says that the
// name should be the origin, and does not insist.
func Checkpoint(key ed25519.PrivateKey, keyName, origin string, head TreeHead) ([]byte, error) {
	signer, err := newSigner(key, keyName)
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: checkpointText(origin, head)}, signer)
}

func checkpointText(origin string, head TreeHead) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, head.Size, base64.StdEncoding.EncodeToString(head.Root[:]))
}

// VerifierKey is the key in the form of signed notes, as other tools take it:
// NAME+HASH+KEY.
func VerifierKey(key ed25519.PublicKey, keyName string) (string, error) {
	return note.NewEd25519VerifierKey(keyName, key)
}

// OpenCheckpoint checks the signature of a checkpoint and returns its tree.
// Signatures of others, such as witnesses, are not looked at.
func OpenCheckpoint(key ed25519.PublicKey, keyName string, text []byte) (origin string, head TreeHead, err error) {
	if len(text) > MaxCheckpoint {
		return "", head, fmt.Errorf("longer than the %d bytes that a checkpoint may have", MaxCheckpoint)
	}
	vkey, err := VerifierKey(key, keyName)
	if err != nil {
		return "", head, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", head, err
	}
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return "", head, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	// The package is not strict about base64, and skips signatures that come twice.
	again := n.Text + "\n"
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		raw, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != s.Base64 {
			return "", head, errors.New("a signature is not in base64")
		}
		again += "— " + s.Name + " " + s.Base64 + "\n"
	}
	if len(again) != len(text) {
		return "", head, errors.New("not a checkpoint: there is more to it")
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] == "" || lines[3] != "" {
		return "", head, errors.New("not a checkpoint: its text has not three lines")
	}
	origin = lines[0]
	if head.Size, err = parseCount(lines[1]); err != nil {
		return "", head, errors.New("not a checkpoint: its second line is no size")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(head.Root) {
		return "", head, errors.New("not a checkpoint: its third line is no hash")
	}
	head.Root = Hash(root)
	return origin, head, nil
}

// MaxCheckpoint bounds a checkpoint that is read: it may carry signatures of
// witnesses.
const MaxCheckpoint = 64 << 10

// signer signs notes. The package's own wants a key in a text of its own.
type signer struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
}

func newSigner(key ed25519.PrivateKey, name string) (*signer, error) {
	vkey, err := VerifierKey(key.Public().(ed25519.PublicKey), name)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &signer{name, v.KeyHash(), key}, nil
}

func (s *signer) Name() string                    { return s.name }
func (s *signer) KeyHash() uint32                 { return s.hash }
func (s *signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }
