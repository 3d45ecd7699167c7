package kafka

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// maxAnswer is the longest answer that is read, in bytes.
const maxAnswer = 100 << 20

// errAnswerSize: an answer is longer than maxAnswer.
var errAnswerSize = errors.New("the answer is too long to be read")

// fetchDialer makes the connections that are fetched over. sarama logs in on
// them, picks the versions, and writes the requests; it logs in anew when a
// session has come to its end (KIP-368). But it decodes a fetch answer as a
// whole and in its own way, so the answer is kept from it: see fetchConn.
type fetchDialer struct {
	clearDialer
	conn *fetchConn // made last
}

func (d *fetchDialer) Dial(network, addr string) (net.Conn, error) {
	conn, err := d.clearDialer.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	d.conn = &fetchConn{Conn: conn}
	return d.conn, nil
}

// clearDialer makes connections on which requests and answers can be seen as
// they are: TLS is spoken here and not by sarama.
type clearDialer struct {
	contextDialer
	tls *tls.Config // nil: plaintext
}

// newClearDialer takes TLS over from cfg, which then has none.
func newClearDialer(ctx context.Context, cfg *sarama.Config) clearDialer {
	d := clearDialer{contextDialer: contextDialer{ctx: ctx, timeout: cfg.Net.DialTimeout}}
	if cfg.Net.TLS.Enable {
		d.tls = cfg.Net.TLS.Config
		cfg.Net.TLS.Enable, cfg.Net.TLS.Config = false, nil
	}
	return d
}

func (d *clearDialer) Dial(network, addr string) (net.Conn, error) {
	conn, err := d.contextDialer.Dial(network, addr)
	if err != nil || d.tls == nil {
		return conn, err
	}
	return d.handshake(conn, addr)
}

func (d *clearDialer) handshake(conn net.Conn, addr string) (net.Conn, error) {
	cfg := d.tls.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr) // it was dialled
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// fetchConn is a connection that keeps the answer to a fetch request, and gives
// sarama the same answer without any partition in its place. It can ask in a newer
// version than sarama does.
//
// It relies on how sarama.Broker works: a request is one Write, nothing is read
// before a request was written, and there is one request at a time, since we
// send none before the last one has been answered. Answers to all other requests
// pass through.
type fetchConn struct {
	net.Conn
	question []byte // to be asked in place of what sarama writes next: see question
	fetching bool   // what was written last is a fetch request, not answered yet
	version  int16
	answer   []byte // the body of the last answer to one; its memory is used again
	left     []byte // what sarama is still to be given
}

// What a request begins with: its length, the API's key and version, the
// request's id.
const requestHead = 12

const apiFetch = 1

func (c *fetchConn) Write(p []byte) (int, error) {
	c.fetching = len(p) >= requestHead && binary.BigEndian.Uint16(p[4:]) == apiFetch
	if !c.fetching {
		return c.Conn.Write(p)
	}
	c.version = int16(binary.BigEndian.Uint16(p[6:]))
	if c.version != fetchByID-1 || c.question == nil {
		return c.Conn.Write(p)
	}
	// Of sarama's request its head remains, which ends with the name of this client
	// and no tags.
	head := requestHead + 2 + int(binary.BigEndian.Uint16(p[requestHead:])) + 1
	out := append(slices.Clone(p[:head]), c.question...)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	binary.BigEndian.PutUint16(out[6:], fetchByID)
	c.version = fetchByID
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *fetchConn) Read(p []byte) (int, error) {
	if c.fetching {
		c.fetching = false
		if err := c.keep(); err != nil {
			return 0, err
		}
	}
	if len(c.left) > 0 {
		n := copy(p, c.left)
		c.left = c.left[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// keep reads a fetch answer and makes the empty one.
func (c *fetchConn) keep() error {
	var head [8]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return err
	}
	size := int64(int32(binary.BigEndian.Uint32(head[:]))) - 4
	if size > maxAnswer {
		return fmt.Errorf("%w: %d MiB, at most %d", errAnswerSize, size>>20, maxAnswer>>20)
	}
	if size < 0 {
		return fmt.Errorf("an answer with a length of %d", size+4)
	}
	if err := c.read(int(size)); err != nil {
		return err
	}
	body := fields{b: c.answer, flexible: c.version >= 12}
	out := append([]byte(nil), head[:]...)
	if body.flexible {
		body.tags(nil) // of the header
		out = append(out, 0)
	}
	c.answer = body.b
	if c.version >= 1 {
		out = binary.BigEndian.AppendUint32(out, uint32(body.int32())) // for how long we are throttled
	}
	if c.version >= 7 {
		out = append(out, 0, 0, 0, 0, 0, 0) // no error, no session
	}
	if body.flexible {
		out = append(out, 1, 0) // no topics, no tags
	} else {
		out = append(out, 0, 0, 0, 0)
	}
	if body.bad {
		return errors.New("an answer that ends in its head")
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	c.left = out
	return nil
}

// answerStep is how much memory is taken for an answer on its word alone; the
// rest is taken as the answer comes. A broker that sends as much within
// fetchTimeout is taken for alive.
const answerStep = 1 << 20

// read reads an answer's n bytes.
func (c *fetchConn) read(n int) error {
	if cap(c.answer) > 4*answerStep {
		c.answer = nil // a large one is seldom
	}
	c.answer = c.answer[:0]
	for len(c.answer) < n {
		step := min(n-len(c.answer), max(answerStep, len(c.answer)))
		at := len(c.answer)
		if cap(c.answer)-at < step {
			c.answer = append(make([]byte, 0, at+step), c.answer...)
		}
		c.answer = c.answer[:at+step]
		for at < len(c.answer) {
			if err := c.SetReadDeadline(time.Now().Add(fetchTimeout)); err != nil {
				return err
			}
			end := min(at+answerStep, len(c.answer))
			if _, err := io.ReadFull(c.Conn, c.answer[at:end]); err != nil {
				return err
			}
			at = end
		}
	}
	return nil
}
