package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// produceTimeout is how long the leader may wait for the replicas.
const produceTimeout = 10 * time.Second

// openRequests is how many requests may wait for their answers on one
// connection: no more than one a partition, which sees to their order.
const openRequests = 64

// produceConn is a connection to one broker, shared by the partitions it leads.
// It is used until it fails and never opened again: who finds out late that it
// failed cannot close another one's new connection.
type produceConn struct {
	addr   string
	once   sync.Once
	ctx    context.Context
	stop   context.CancelFunc
	dialer *contextDialer
	broker *sarama.Broker // nil: it was never opened
	err    error
}

// conn is an open connection to addr.
func (s *Sink) conn(addr string) (*produceConn, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	c := s.conns[addr]
	if c == nil {
		c = &produceConn{addr: addr}
		c.ctx, c.stop = context.WithCancel(s.ctx)
		s.conns[addr] = c
	}
	s.mu.Unlock()
	c.once.Do(func() { c.err = c.open(s.opts) })
	if c.err != nil {
		s.drop(c)
		return nil, c.err
	}
	return c, nil
}

// drop has nobody use c any more.
func (s *Sink) drop(c *produceConn) {
	s.mu.Lock()
	if s.conns[c.addr] == c {
		delete(s.conns, c.addr)
	}
	s.mu.Unlock()
	c.close()
}

func (c *produceConn) open(o Options) error {
	cfg, err := o.config() // reads the password anew
	if err != nil {
		return err
	}
	cfg.Net.ReadTimeout = produceTimeout + 10*time.Second
	cfg.Net.WriteTimeout = 10 * time.Second
	cfg.Net.MaxOpenRequests = openRequests
	c.dialer = &contextDialer{ctx: c.ctx, timeout: cfg.Net.DialTimeout}
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, c.dialer
	c.broker = sarama.NewBroker(c.addr)
	if err = c.broker.Open(cfg); err == nil {
		_, err = c.broker.Connected()
	}
	if err != nil {
		c.close()
		return o.explain(c.addr, err, &c.dialer.heard)
	}
	return nil
}

// close ends the connection and everything that waits for an answer on it.
func (c *produceConn) close() {
	c.stop()
	if c.broker != nil {
		_ = c.broker.Close() // one that is closed already says so
	}
}
