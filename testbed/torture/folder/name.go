package folder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// name is what the name of a file says.
type name struct {
	id        string // hash of the topic's
	partition int32
	span      span // of a file that is not open
	extension string
	open      bool
}

// span is the lowest and the highest of some offsets; that of none ends before it
// begins.
type span struct{ first, last int64 }

func (s span) with(offset int64) span {
	if s.last < s.first {
		return span{offset, offset}
	}
	return span{min(s.first, offset), max(s.last, offset)}
}

// nameForm: TOPIC-ID-pPARTITION-FIRST-LAST.ndjson.zst. The name of a file that is
// written to has no LAST.
var nameForm = regexp.MustCompile(`^.+-([0-9a-f]{16})-p(\d+)-(\d{19})(?:-(\d{19}))?(\.ndjson(?:\.zst|\.gz)?)(\.open)?$`)

func parseName(base string) (*name, error) {
	m := nameForm.FindStringSubmatch(base)
	if m == nil || (m[4] == "") != (m[6] != "") {
		return nil, errors.New("not the name of a file of an archive")
	}
	n := &name{id: m[1], extension: m[5], open: m[6] != ""}
	partition, err := strconv.ParseInt(m[2], 10, 32)
	if err == nil {
		n.partition = int32(partition)
		n.span.first, err = strconv.ParseInt(m[3], 10, 64)
	}
	if err == nil && !n.open {
		n.span.last, err = strconv.ParseInt(m[4], 10, 64)
	}
	return n, err
}

// fits says, as an error, that a record does not belong into the file.
func (n *name) fits(r *Record) error {
	log := "id:" + r.TopicID
	if r.TopicID == "" {
		log = "name:" + r.Cluster + "\x00" + r.Topic
	}
	sum := sha256.Sum256([]byte(log))
	if hex.EncodeToString(sum[:8]) != n.id || r.Partition != n.partition {
		return fmt.Errorf("%s/%d offset %d (topic id %s) does not belong into the file", r.Topic, r.Partition, r.Offset, r.TopicID)
	}
	return nil
}
