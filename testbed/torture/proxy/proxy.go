// Package proxy is a TCP proxy on loopback whose link can be cut, made silent or
// slow.
package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Mode is what the link is like.
type Mode struct {
	// Cut: connections are reset, and new ones too.
	Cut bool
	// Silent: connections stay and nothing goes through, as when packets are
	// dropped on the way.
	Silent bool
	// Delay and BytesPerSecond make the link slow, each connection and direction by
	// itself; zero: as fast as it can.
	Delay          time.Duration
	BytesPerSecond int
}

// Proxy forwards connections. It is safe for concurrent use.
type Proxy struct {
	l      net.Listener
	target string

	mu      sync.Mutex
	mode    Mode
	changed chan struct{} // closed with each change of mode
	conns   map[net.Conn]struct{}
	wg      sync.WaitGroup
	met     atomic.Int64
}

// Start listens on addr and forwards to target.
func Start(addr, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &Proxy{l: l, target: target, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Met counts what the mode was felt by: connections that were made or reset, and
// pieces that a client sent.
func (p *Proxy) Met() int64 { return p.met.Load() }

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Set changes the mode, for connections that exist as well.
func (p *Proxy) Set(m Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
	if m.Cut {
		p.resetAll()
	}
}

// resetAll ends all connections with an RST. Under p.mu.
func (p *Proxy) resetAll() {
	for c := range p.conns {
		p.met.Add(1)
		abort(c)
	}
}

// abort ends c with an RST.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// Close ends the proxy and all connections.
func (p *Proxy) Close() error {
	err := p.l.Close()
	p.Set(Mode{Cut: true})
	p.wg.Wait()
	return err
}

func (p *Proxy) state() (Mode, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.changed
}

// hold keeps c to be reset; false: the link is cut.
func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode.Cut {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, for example
			continue
		}
		p.met.Add(1)
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.drop(client)
	if !p.hold(client) {
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	defer p.drop(server)
	if !p.hold(server) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(server, client, &p.met) })
	wg.Go(func() { p.copy(client, server, new(atomic.Int64)) })
	wg.Wait()
}

// copy forwards until an end closes, which then closes both: the protocols that
// go through here do not use half a connection. It counts the pieces.
func (p *Proxy) copy(to, from net.Conn, pieces *atomic.Int64) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			pieces.Add(1)
			if !p.pass(n) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				abort(to) // a reset goes through as one
			}
			return
		}
	}
}

// pass waits as long as n bytes take now; false: the link was cut.
func (p *Proxy) pass(n int) bool {
	for {
		m, changed := p.state()
		if m.Cut {
			return false
		}
		var due <-chan time.Time
		if !m.Silent {
			d := m.Delay
			if m.BytesPerSecond > 0 {
				d += time.Duration(n) * time.Second / time.Duration(m.BytesPerSecond)
			}
			if d == 0 {
				return true
			}
			due = time.After(d)
		}
		select {
		case <-due:
			return true
		case <-changed: // by the new mode
		}
	}
}
