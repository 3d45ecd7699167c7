package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"weir/config"
	"weir/connector/kafka"
)

// topicMaker makes the dead-letter topics that a running bridge finds missing,
// and keeps account of it.
type topicMaker struct {
	open func() (*auditLog, error) // nil: the brokers are the demo's own, and nobody keeps account

	mu      sync.Mutex
	refused map[string]string // by topic: the last failure that was noted
}

// keepAccount has every topic that is made written to the audit log, which is
// opened only then: see openAudit.
func (m *topicMaker) keepAccount(c config.Log, path string, errs io.Writer) {
	m.open = func() (*auditLog, error) { return openAudit(c, path, errs) }
}

// make makes topic unless it is there. The same failure is noted once: every
// delivery tries again.
//
// Errors: those of kafka.EnsureTopic and of the audit log. Without that the topic
// is not made.
func (m *topicMaker) make(ctx context.Context, o kafka.Options, topic string) error {
	note := func(error) error { return nil }
	if m.open != nil {
		trail, err := m.open()
		if err != nil {
			return err
		}
		defer trail.close()
		note = func(failure error) error { return trail.note(makeTopic, topic, failure) }
	}
	made, err := kafka.EnsureTopic(ctx, o, topic, kafka.DeadLetterPartitions, kafka.DeadLetterReplication)
	if made || err != nil && m.isNew(topic, err) {
		err = errors.Join(err, note(err))
	}
	return err
}

// isNew reports whether failure is another one than that of the last attempt.
func (m *topicMaker) isNew(topic string, failure error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused == nil {
		m.refused = map[string]string{}
	}
	before := m.refused[topic]
	m.refused[topic] = failure.Error()
	return before != failure.Error()
}
