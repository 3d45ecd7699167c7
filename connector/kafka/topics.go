package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// watch looks at the topics every now and then, and at once when a fetch looked
// as if one had been deleted: which of them are there, and are they still the
// same ones?
func (g *Group) watch(ctx context.Context) {
	tick := time.NewTicker(g.cfg.watch())
	defer tick.Stop()
	var discovered time.Time
	for {
		names := g.cfg.Topics
		if g.cfg.Pattern != nil {
			if names = g.subscription(); len(names) == 0 || time.Since(discovered) >= g.cfg.discover() {
				names = nil // all
				discovered = time.Now()
			}
		}
		heard, err := g.cluster.refresh(ctx, names...)
		if ctx.Err() != nil {
			return
		}
		g.fault(faultBrokers, err)
		if err == nil {
			g.topicsAre(heard, len(names) == 0)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.look:
			// A broker may not know yet what another one does: not again at once.
			if !sleep(ctx, g.cfg.retry()/4) {
				return
			}
		}
	}
}

// topicsAre notes what was heard of the topics to read; all: of every topic
// there is.
func (g *Group) topicsAre(heard map[string]topicState, all bool) {
	wanted := g.cfg.Topics
	if g.cfg.Pattern != nil {
		wanted = nil
		for name, t := range heard {
			if !t.internal && g.cfg.Pattern.MatchString(name) {
				wanted = append(wanted, name)
			}
		}
		if all {
			for _, name := range g.subscription() {
				if _, ok := heard[name]; !ok {
					wanted = append(wanted, name) // deleted
				}
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noteGeneration()
	present := make(map[string]bool)
	missing := make(map[string]error)
	for _, name := range wanted {
		t, ok := heard[name]
		had := slices.Contains(g.topics, name)
		switch {
		case ok && t.err == nil && len(t.partitions) > 0:
			present[name] = true
			g.gone[name] = 0
			g.topicIs(name, t.id)
		case had && g.gone[name] == 0:
			// Once is no proof: the broker asked may just have started.
			g.gone[name]++
			present[name] = true
			signal(g.look)
		case g.cfg.Pattern != nil:
		default:
			missing[name] = t.err
			if missing[name] == nil {
				missing[name] = sarama.ErrUnknownTopicOrPartition
			}
			if old, said := g.missing[name]; !said || !alike(old, missing[name]) {
				g.sayMissing(name, missing[name])
			}
		}
	}
	for name := range g.missing {
		if present[name] {
			g.log.Info("a topic is there now", "topic", name)
		}
	}
	if g.cfg.Pattern != nil && len(present) == 0 && (len(g.topics) > 0 || !g.saidNone) {
		g.saidNone = true
		g.log.Warn("no topic matches the pattern, waiting for one", "pattern", g.cfg.Pattern.String())
	}
	g.missing = missing
	if topics := slices.Sorted(maps.Keys(present)); !slices.Equal(topics, g.topics) {
		g.topics = topics
		signal(g.change)
	}
}

func (g *Group) sayMissing(name string, err error) {
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		g.log.Warn("a topic does not exist, waiting for it to be made", "topic", name)
		return
	}
	g.log.Warn("a topic cannot be read, trying again", "topic", name, "err", g.cfg.Options.Explain(err))
}

// topicIs notes a topic's id. If it is another one than a lane reads, that lane
// ends, drained, and begins anew on the new log. Under g.mu.
func (g *Group) topicIs(name, id string) {
	if old, ok := g.ids[name]; ok && old != id {
		g.remade[name] = true
	}
	g.ids[name] = id
	for c := range g.claims {
		if c.topic == name && c.restart != nil && c.topicID != id {
			c.restart(errRecreated)
		}
	}
}

// wasRemade reports whether a topic was deleted and made again while we ran, or
// was so since its id was seen last. Kafka forgets a deleted topic's offsets: a
// group without one then begins at the new log's start, whatever Start says.
func (g *Group) wasRemade(name, id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, ok := g.ids[name]
	return g.remade[name] || (ok && old != id)
}
