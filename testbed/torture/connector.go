package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weir/testbed/bridge"
	"weir/testbed/torture/account"
	"weir/testbed/torture/folder"
	"weir/testbed/torture/front"
)

// backend is what a round writes to: one protocol, or several at a time, each by a
// connector of its own.
type backend struct {
	name      string
	protocols []front.Protocol
}

// backends are all that there are. The order is part of what a seed means.
var backends = []backend{
	{"elasticsearch", []front.Protocol{front.Elasticsearch}},
	{"splunk_hec", []front.Protocol{front.Splunk}},
	{"splunk_hec_ack", []front.Protocol{front.SplunkAcks}},
	{"file", []front.Protocol{front.File}},
	{"fan-out", []front.Protocol{front.Elasticsearch, front.SplunkAcks}},
	{"rehydrate", []front.Protocol{front.Rehydrate}},
	{"opensearch", []front.Protocol{front.OpenSearch}},
	{"http", []front.Protocol{front.HTTP}},
}

// findBackend is the backend of that name.
func findBackend(name string) (*backend, error) {
	var names []string
	for i := range backends {
		if backends[i].name == name {
			return &backends[i], nil
		}
		names = append(names, backends[i].name)
	}
	return nil, fmt.Errorf("no such backend: %s; there are %s", name, strings.Join(names, ", "))
}

// waits reports whether weir has to wait for acknowledgements.
func (b *backend) waits() bool {
	return slices.ContainsFunc(b.protocols, func(p front.Protocol) bool { return p.Rules.AckTimeout > 0 })
}

// connector is one connector of a round and what is judged of it: it has a group,
// dead letters and an account of its own.
type connector struct {
	round    *round
	protocol front.Protocol
	group    string
	letters  string // topic; empty: its backend refuses nothing
	account  *account.Account
	judge    *judge // nil: it writes to folders
}

func newConnector(r *round, p front.Protocol) *connector {
	c := &connector{round: r, protocol: p, group: r.name + "." + p.Name}
	if !p.Rules.Folders {
		c.letters = c.group + ".dlq"
	}
	if r.plan.replay != nil {
		c.group = "weir.rehydrate." + r.name
	}
	c.account = account.New(r.name, r.plan.ordered, p.Rules)
	return c
}

// config is the connector's part of the weir.yaml of the process started at place.
func (c *connector) config(place, process int) bridge.M {
	r := c.round
	names := make([]string, len(r.topics))
	for i, t := range r.topics {
		names[i] = t.name
	}
	t := r.bed.target
	t.Gzip, t.Ordered = r.plan.gzip, r.plan.ordered
	t.Process = fmt.Sprintf("process-%d", process)
	if c.judge != nil {
		scheme := "http://"
		if t.CAFile != "" {
			scheme = "https://"
		}
		t.URL = scheme + c.judge.proxy.Addr()
	} else {
		t.Dir = c.folder(place)
	}
	m := bridge.M{
		"name":      c.protocol.Name,
		"topics":    names,
		"group":     c.group,
		"ordered":   r.plan.ordered,
		"drain":     drain.String(),
		"batch":     bridge.M{"records": r.plan.records, "linger": r.plan.linger.String()},
		"in_flight": bridge.M{"max": r.plan.inFlight},
		"retry":     bridge.M{"initial": "50ms", "max": "1s"},
		"sink":      c.protocol.Sink(t),
	}
	if c.letters != "" {
		m["dead_letter"] = bridge.M{"topic": c.letters}
	}
	return m
}

// folder is where the weir at that place keeps its archive.
func (c *connector) folder(place int) string {
	return filepath.Join(c.round.dir, fmt.Sprintf("archive-%d", place+1))
}

// watchFolders reads all archives over and over.
func (c *connector) watchFolders(ctx context.Context) {
	for sleep(ctx, 500*time.Millisecond) {
		c.readFolders(ctx)
	}
}

// readFolders has what the archives hold judged: it has to be all that was
// committed when the reading began, and all that was there before.
func (c *connector) readFolders(ctx context.Context) {
	marks := c.account.Marks()
	folders := map[int]iter.Seq[account.Document]{}
	for place := range maxMembers {
		if dir := c.folder(place); exists(dir) {
			folders[place] = c.archived(dir)
		}
	}
	if ctx.Err() == nil {
		c.account.Found(marks, folders)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// archived are the events of an archive.
func (c *connector) archived(dir string) iter.Seq[account.Document] {
	return func(yield func(account.Document) bool) {
		for rec, err := range folder.Read(dir) {
			if err != nil {
				c.account.Violation("the archive cannot be read: %v", err)
				continue
			}
			if !yield(account.Document{
				Event: rec.Value, Whole: true, Number: numberOf(rec.Value),
				Topic: rec.Topic, TopicID: rec.TopicID, Partition: rec.Partition, Offset: rec.Offset,
			}) {
				return
			}
		}
	}
}

const (
	// stallLooks is how long a connector may stand still while nothing but another
	// one's backend is in trouble, in looks at its commits: 10 s or more.
	stallLooks = 200
	// catchUpLooks is how long it may take to commit what was produced when it was
	// looked at: 3 min or more.
	catchUpLooks = 3600
	// catchUps is how often that is asked of it during one trouble, and restLooks how
	// many looks are between two times: long enough for the other one's memory to be
	// full.
	catchUps  = 5
	restLooks = 40
)

// keepsUp judges whether c delivers and commits all that is produced while
// something happens that must not concern it.
func (c *connector) keepsUp(ctx context.Context, what string) {
	for range catchUps {
		ends := c.account.Acknowledged()
		began := c.account.Looks()
		moved, left := began, c.account.Behind(ends)
		for n := left; n > 0 || c.account.Looks() < began+restLooks; n = c.account.Behind(ends) {
			now := c.account.Looks()
			if n < left {
				moved, left = now, n
			}
			if n > 0 && (now-moved > stallLooks || now-began > catchUpLooks) {
				c.account.Violation("HELD UP by %s: %d looks later %d records of those that were there are not committed, for %d looks none was", what, now-began, n, now-moved)
				return
			}
			if !sleep(ctx, 20*time.Millisecond) {
				return
			}
		}
	}
}
