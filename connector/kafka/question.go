package kafka

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/IBM/sarama"
)

// fetchByID is the version of a fetch request from which on topics are named by
// their ids (KIP-516, Kafka 3.1).
const fetchByID = 13

// Errors of a request that names topics by their ids, which sarama does not know: the
// topic was deleted, or made again under its name; or the broker has not heard of it.
const (
	errUnknownTopicID      sarama.KError = 100
	errInconsistentTopicID sarama.KError = 103
)

// question is the body of a fetch request of the version fetchByID, which is one
// more than sarama knows, for the same as req asks for.
//
// A topic that is deleted and made again has another log under the same name. Asked
// for by its name it is read on from there, if the new log is as long, and nothing
// in the answer says so: only the id tells them apart.
//
// False when a topic has no id: its brokers give none, or gave none when we asked.
func question(req *sarama.FetchRequest, asks []ask) (body []byte, ok bool) {
	var topics [][16]byte
	of := map[[16]byte][]ask{}
	for _, a := range asks {
		id, err := base64.RawURLEncoding.DecodeString(a.r.origin.TopicID)
		if err != nil || len(id) != 16 {
			return nil, false
		}
		key := [16]byte(id)
		if of[key] == nil {
			topics = append(topics, key)
		}
		of[key] = append(of[key], a)
	}
	b := binary.BigEndian.AppendUint32(nil, ^uint32(0)) // no replica
	b = binary.BigEndian.AppendUint32(b, uint32(req.MaxWaitTime))
	b = binary.BigEndian.AppendUint32(b, uint32(req.MinBytes))
	b = binary.BigEndian.AppendUint32(b, uint32(req.MaxBytes))
	b = append(b, byte(req.Isolation))
	b = binary.BigEndian.AppendUint32(b, uint32(req.SessionID))
	b = binary.BigEndian.AppendUint32(b, uint32(req.SessionEpoch))
	b = appendCount(b, len(topics))
	for _, id := range topics {
		b = append(b, id[:]...)
		b = appendCount(b, len(of[id]))
		for _, a := range of[id] {
			b = binary.BigEndian.AppendUint32(b, uint32(a.r.origin.Partition))
			b = binary.BigEndian.AppendUint32(b, uint32(a.epoch))
			b = binary.BigEndian.AppendUint64(b, uint64(a.from))
			b = binary.BigEndian.AppendUint32(b, ^uint32(0)) // the epoch of what was read last: not said
			b = binary.BigEndian.AppendUint64(b, ^uint64(0)) // the log's start: a replica's
			b = binary.BigEndian.AppendUint32(b, uint32(a.bytes()))
			b = append(b, 0)
		}
		b = append(b, 0)
	}
	b = appendCount(b, 0) // no session, nothing to be forgotten in it
	b = appendCount(b, len(req.RackID))
	b = append(b, req.RackID...)
	return append(b, 0), true
}

// appendCount appends a count or length (KIP-482).
func appendCount(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)+1) }
