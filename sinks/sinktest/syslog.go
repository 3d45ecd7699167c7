package sinktest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
)

// Syslog is a receiver of syslog messages (RFC 5424) over TCP or TLS. The zero value
// with a Framing is ready; its fields are set before it serves.
//
// It is strict where real ones are lenient: a message must have a valid header, and
// hold no control character but a tab.
type Syslog struct {
	// Framing is octet_counting or lf.
	Framing string
	// TLS makes it speak TLS; nil: plain TCP.
	TLS *tls.Config
	// Forget keeps only how many messages came.
	Forget bool
	// Each is called with every message, which is valid until it returns; nil: not
	// called. Several connections call it at a time.
	Each func(msg []byte)

	mu       sync.Mutex
	changed  sync.Cond // of count and broken
	script   []SyslogFault
	conns    map[net.Conn]bool
	accepted int
	count    int
	messages []string
	broken   []string
	closed   bool
}

// SyslogFault is what happens to one connection. The zero one is none.
type SyslogFault struct {
	// Refuse: it is reset as soon as it is there.
	Refuse bool
	// After that many messages it is ended. 0: never.
	After int
	// Reset: by a reset, and not in order.
	Reset bool
	// Wait: before anything is read of it.
	Wait <-chan struct{}
	// Say is written to the client first.
	Say []byte
}

// Fail queues faults: one for each of the next connections.
func (s *Syslog) Fail(faults ...SyslogFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, faults...)
}

// Serve accepts connections until l is closed, and then closes all.
func (s *Syslog) Serve(l net.Listener) {
	var all sync.WaitGroup
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		all.Go(func() { s.serve(c) })
	}
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	all.Wait()
}

func (s *Syslog) serve(c net.Conn) {
	f, ok := s.accept(c)
	defer s.end(c)
	if !ok {
		return
	}
	if f.Refuse {
		hardReset(c)
		return
	}
	stream := c
	if s.TLS != nil {
		secure := tls.Server(c, s.TLS)
		if err := secure.HandshakeContext(context.Background()); err != nil {
			return
		}
		stream = secure
	}
	if len(f.Say) > 0 {
		if _, err := stream.Write(f.Say); err != nil {
			return
		}
	}
	if f.Wait != nil {
		<-f.Wait
	}
	in := bufio.NewReaderSize(stream, 64<<10)
	for n := 1; ; n++ {
		msg, err := s.read(in)
		switch {
		case errors.Is(err, errSyslogFraming):
			s.note(nil, err)
			return
		case err != nil:
			return // the client has gone, maybe in the middle
		}
		s.note(msg, checkSyslog(msg))
		if n == f.After {
			if f.Reset {
				hardReset(c)
			} else {
				_ = stream.Close()
			}
			return
		}
	}
}

func (s *Syslog) accept(c net.Conn) (SyslogFault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var f SyslogFault
	if len(s.script) > 0 {
		f, s.script = s.script[0], s.script[1:]
	}
	if s.conns == nil {
		s.conns = map[net.Conn]bool{}
	}
	s.conns[c] = true
	s.accepted++
	return f, !s.closed
}

func (s *Syslog) end(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	_ = c.Close()
}

func hardReset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

var errSyslogFraming = errors.New("framing")

// maxSyslogMessage bounds a message.
const maxSyslogMessage = 64 << 20

// read reads one message. One that ends with the connection is torn, as every
// receiver would notice.
func (s *Syslog) read(in *bufio.Reader) ([]byte, error) {
	if s.Framing == "lf" {
		msg, err := in.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		return msg[:len(msg)-1], nil
	}
	digits, err := in.ReadBytes(' ')
	if err != nil {
		return nil, err
	}
	digits = digits[:len(digits)-1]
	n, err := strconv.ParseUint(string(digits), 10, 32)
	if err != nil || len(digits) == 0 || digits[0] == '0' || n > maxSyslogMessage {
		return nil, fmt.Errorf("%w: %.40q is no length", errSyslogFraming, digits)
	}
	msg := make([]byte, n)
	if _, err := io.ReadFull(in, msg); err != nil {
		return nil, err
	}
	return msg, nil
}

// syslogHeader is RFC 5424, 6, up to the MSG.
var syslogHeader = regexp.MustCompile(`^<(0|[1-9]\d{0,2})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)) ` +
	`([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) (-|(?:\[[!#-<>-\\^-~]{1,32}(?: [!#-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*\])+)(?: |$)`)

func checkSyslog(msg []byte) error {
	m := syslogHeader.FindSubmatch(msg)
	if m == nil {
		return fmt.Errorf("no header of RFC 5424: %.200q", msg)
	}
	if n, _ := strconv.Atoi(string(m[1])); n > 191 {
		return fmt.Errorf("priority %d", n)
	}
	if i := bytes.IndexFunc(msg, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("a control character at byte %d: %.200q", i, msg)
	}
	return nil
}

// SyslogMessage is what follows the header of a message; all of it when there is
// none.
func SyslogMessage(msg []byte) []byte {
	return msg[len(syslogHeader.Find(msg)):]
}

func (s *Syslog) note(msg []byte, err error) {
	if err == nil && s.Each != nil {
		s.Each(msg)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.broken = append(s.broken, err.Error())
	} else {
		s.count++
		if !s.Forget {
			s.messages = append(s.messages, string(msg))
		}
	}
	if s.changed.L != nil {
		s.changed.Broadcast()
	}
}

// WaitFor returns when n messages have come, or something was wrong with one.
func (s *Syslog) WaitFor(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.L = &s.mu
	for s.count < n && len(s.broken) == 0 {
		s.changed.Wait()
	}
}

// Messages are those that came whole, in no order across connections.
func (s *Syslog) Messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.messages...)
}

// Count is how many messages came whole.
func (s *Syslog) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Connections is how many there were.
func (s *Syslog) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Broken says what was wrong with what was sent: in a test it must be empty.
func (s *Syslog) Broken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.broken...)
}
