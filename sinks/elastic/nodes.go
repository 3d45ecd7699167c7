package elastic

import (
	"net/url"
	"sync"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
)

// nodes hands out the configured nodes in turn. A node that gave no answer is
// left out for a while; when all are left out, the one that waited longest is
// tried, so there is always one to ask.
//
// The client's own pool leaves a node out for up to half an hour after a long
// outage, and after one of the whole cluster keeps to the first that came back.
type nodes struct {
	now func() time.Time

	mu    sync.Mutex
	conns []*elastictransport.Connection
	turn  int
}

// nodeRest is how long a node that gave no answer is left out.
const nodeRest = 15 * time.Second

// Next is the node to ask.
func (p *nodes) Next() (*elastictransport.Connection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rested := p.now().Add(-nodeRest)
	var oldest *elastictransport.Connection
	for range p.conns {
		c := p.conns[p.turn%len(p.conns)]
		p.turn++
		if !c.IsDead {
			return c, nil
		}
		if c.DeadSince.Before(rested) {
			// Only this request tries it; the others wait for what becomes of it.
			c.DeadSince = p.now()
			return c, nil
		}
		if oldest == nil || c.DeadSince.Before(oldest.DeadSince) {
			oldest = c
		}
	}
	return oldest, nil
}

// OnSuccess takes c in again.
func (p *nodes) OnSuccess(c *elastictransport.Connection) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.IsDead = false
	return nil
}

// OnFailure leaves c out for a while.
func (p *nodes) OnFailure(c *elastictransport.Connection) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.IsDead, c.DeadSince = true, p.now()
	return nil
}

// URLs are the addresses of all nodes.
func (p *nodes) URLs() []*url.URL {
	p.mu.Lock()
	defer p.mu.Unlock()
	urls := make([]*url.URL, len(p.conns))
	for i, c := range p.conns {
		urls[i] = c.URL
	}
	return urls
}

// ConcurrentSafe tells the client that it need not guard the pool.
func (p *nodes) ConcurrentSafe() {}
