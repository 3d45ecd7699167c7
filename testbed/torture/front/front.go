// Package front is the network side of the judge: servers that speak the
// protocols of backends and ask the account, in another process, what to do with
// each request. A front keeps nothing: killed, it loses no event's account.
package front

import (
	"errors"
	"net"
	"net/rpc"
	"time"

	"weir/testbed/torture/account"
)

// Spoil is how a request is treated badly.
type Spoil string

// The ways to treat a request badly.
const (
	Well      Spoil = ""
	Busy      Spoil = "429"         // refused whole
	Error     Spoil = "500"         // an error of the server
	Reset     Spoil = "reset"       // the connection is cut
	Half      Spoil = "half"        // the answer ends in its middle
	Short     Spoil = "wrong count" // the answer names fewer documents than were sent
	HTML      Spoil = "html"        // the answer of some proxy
	Never     Spoil = "never"       // no answer until the client gives up
	Forbidden Spoil = "401"         // wrong credentials
)

// Plan is what is to be done with one request.
type Plan struct {
	Wait   time.Duration // before anything else
	Before Spoil         // in place of storing
	After  Spoil         // in place of the answer, once all was stored
}

// Account is what a front asks of the judge.
type Account interface {
	// Plan says how to treat a request with these credentials.
	Plan(credentials string) (Plan, error)
	// Store takes documents and says what each is answered. late: the client may be
	// gone.
	Store(docs []account.Document, late bool) (answers []account.Status, receipt int64, err error)
	// Answered says whether the whole of the true answer was handed to the client.
	Answered(receipt int64, ok bool) error
}

// Protocol is one backend: how it is spoken to and how weir is told of it. A new
// backend is one more of these.
type Protocol struct {
	Name string
	// Serve answers clients of l until l is closed.
	Serve func(l net.Listener, a Account) error
	// Sink is the section of weir.yaml for a backend that is to be reached so.
	Sink func(t Target) map[string]any
}

// Target says how weir is to reach the backend.
type Target struct {
	URL        string
	Gzip       bool
	CAFile     string // verifies the server; empty: no TLS
	SecretFile string // holds what the front is shown as credentials; empty: none
}

// Protocols are all backends that can be played.
var Protocols = []Protocol{Elasticsearch}

// Find is the protocol of that name.
func Find(name string) (Protocol, error) {
	for _, p := range Protocols {
		if p.Name == name {
			return p, nil
		}
	}
	return Protocol{}, errors.New("no such protocol: " + name)
}

// remote is an Account at the other end of a socket.
type remote struct{ *rpc.Client }

// Dial reaches the account behind the socket at path.
func Dial(path string) (Account, error) {
	c, err := rpc.Dial("unix", path)
	return remote{c}, err
}

func (r remote) Plan(credentials string) (p Plan, err error) {
	err = r.Call("Judge.Plan", credentials, &p)
	return p, err
}

func (r remote) Store(docs []account.Document, late bool) ([]account.Status, int64, error) {
	var s Stored
	err := r.Call("Judge.Store", Store{Documents: docs, Late: late}, &s)
	return s.Answers, s.Receipt, err
}

func (r remote) Answered(receipt int64, ok bool) error {
	return r.Call("Judge.Answered", Answer{Receipt: receipt, OK: ok}, new(bool))
}

// Store, Stored and Answer are what travels.
type (
	Store struct {
		Documents []account.Document
		Late      bool
	}
	Stored struct {
		Answers []account.Status
		Receipt int64
	}
	Answer struct {
		Receipt int64
		OK      bool
	}
)

// Service answers the fronts' questions out of an Account in this process.
type Service struct{ Account Account }

// Plan is Account.Plan over the socket.
func (s *Service) Plan(credentials string, p *Plan) (err error) {
	*p, err = s.Account.Plan(credentials)
	return err
}

// Store is Account.Store over the socket.
func (s *Service) Store(in Store, out *Stored) (err error) {
	out.Answers, out.Receipt, err = s.Account.Store(in.Documents, in.Late)
	return err
}

// Answered is Account.Answered over the socket.
func (s *Service) Answered(a Answer, _ *bool) error { return s.Account.Answered(a.Receipt, a.OK) }

// Listen serves a to fronts at the socket at path until the listener is closed.
func Listen(path string, a Account) (net.Listener, error) {
	server := rpc.NewServer()
	if err := server.RegisterName("Judge", &Service{a}); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	go server.Accept(l)
	return l, nil
}
