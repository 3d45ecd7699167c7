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
	Well        Spoil = ""
	Busy        Spoil = "429"         // refused whole
	Unavailable Spoil = "503"         // refused whole
	Error       Spoil = "500"         // an error of the server
	Reset       Spoil = "reset"       // the connection is cut
	Half        Spoil = "half"        // the answer ends in its middle
	Short       Spoil = "wrong count" // the answer names fewer documents, or acknowledgements, than were sent
	HTML        Spoil = "html"        // the answer of some proxy
	Never       Spoil = "never"       // no answer until the client gives up
	Forbidden   Spoil = "401"         // wrong credentials

	// Of an HTTP Event Collector.
	NearlyFull Spoil = "24"    // the true answer, and that the queue is nearly full
	AcksFull   Spoil = "27"    // refused whole: too many acknowledgements are waited for
	NoID       Spoil = "no id" // success without the acknowledgement id, and lost
	False      Spoil = "false" // no acknowledgement, whatever is indexed
)

// Request says what is asked of a backend.
type Request struct {
	Credentials string
	Acks        bool // acknowledgements are asked for
}

// Plan is what is to be done with one request.
type Plan struct {
	Wait   time.Duration // before anything else
	Before Spoil         // in place of storing
	After  Spoil         // in place of the answer, once all was stored
	// Lose loses the documents behind an answer that says that they were accepted.
	Lose bool
	// Of a backend that acknowledges later: how much later it indexes the documents, and
	// whether it does although nobody will ever be told.
	Late  time.Duration
	Index bool
}

// Account is what a front asks of the judge.
type Account interface {
	// Plan says how to treat a request.
	Plan(Request) (Plan, error)
	// Store takes documents and says what each is answered.
	Store(account.Delivery) (answers []account.Status, receipt int64, err error)
	// Accept takes documents that are not safe until Index is told the receipt.
	Accept(account.Delivery) (receipt int64, err error)
	Index(receipt int64) error
	// Answered says whether the whole of the true answer was handed to the client;
	// after Accept that is the acknowledgement.
	Answered(receipt int64, ok bool) error
	// Doubt says that an answer may be lost in a channel of acknowledgements.
	Doubt(channel string) error
}

// Protocol is one backend: how it is spoken to, how weir is told of it and what may
// be asked of it. A new backend is one more of these.
type Protocol struct {
	Name  string
	Grade string
	Rules account.Rules
	// Serve answers clients of l until l is closed. Nil: weir writes to a folder,
	// which the judge reads.
	Serve func(l net.Listener, a Account) error
	// Sink is the section of weir.yaml for a backend that is to be reached so.
	Sink func(t Target) map[string]any
}

// Target says how weir is to reach the backend.
type Target struct {
	URL        string
	Dir        string // in place of the URL, where it writes to a folder
	Gzip       bool
	Ordered    bool   // the connector keeps the order
	CAFile     string // verifies the server; empty: no TLS
	SecretFile string // holds what the front is shown as credentials; empty: none
	// Process is another name for each process of weir, which a front that has to
	// know them is shown as credentials unless there is a SecretFile.
	Process string
}

// common adds what all sections have in common that are written to by HTTP.
func (t Target) common(section map[string]any) {
	if t.Gzip {
		section["compression"] = "gzip"
	}
	if t.CAFile != "" {
		section["tls"] = map[string]any{"ca_file": t.CAFile}
	}
}

// Protocols are all backends that can be played.
var Protocols = []Protocol{Elasticsearch, Splunk, SplunkAcks, File, Rehydrate, OpenSearch, HTTP}

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

func (r remote) Plan(q Request) (p Plan, err error) {
	err = r.Call("Judge.Plan", q, &p)
	return p, err
}

func (r remote) Store(d account.Delivery) ([]account.Status, int64, error) {
	var s Stored
	err := r.Call("Judge.Store", d, &s)
	return s.Answers, s.Receipt, err
}

func (r remote) Accept(d account.Delivery) (receipt int64, err error) {
	err = r.Call("Judge.Accept", d, &receipt)
	return receipt, err
}

func (r remote) Index(receipt int64) error { return r.Call("Judge.Index", receipt, new(bool)) }

func (r remote) Answered(receipt int64, ok bool) error {
	return r.Call("Judge.Answered", Answer{Receipt: receipt, OK: ok}, new(bool))
}

func (r remote) Doubt(channel string) error { return r.Call("Judge.Doubt", channel, new(bool)) }

// Stored and Answer are what travels, beside what an Account knows.
type (
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
func (s *Service) Plan(q Request, p *Plan) (err error) {
	*p, err = s.Account.Plan(q)
	return err
}

// Store is Account.Store over the socket.
func (s *Service) Store(d account.Delivery, out *Stored) (err error) {
	out.Answers, out.Receipt, err = s.Account.Store(d)
	return err
}

// Accept is Account.Accept over the socket.
func (s *Service) Accept(d account.Delivery, receipt *int64) (err error) {
	*receipt, err = s.Account.Accept(d)
	return err
}

// Index is Account.Index over the socket.
func (s *Service) Index(receipt int64, _ *bool) error { return s.Account.Index(receipt) }

// Answered is Account.Answered over the socket.
func (s *Service) Answered(a Answer, _ *bool) error { return s.Account.Answered(a.Receipt, a.OK) }

// Doubt is Account.Doubt over the socket.
func (s *Service) Doubt(channel string, _ *bool) error { return s.Account.Doubt(channel) }

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
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go server.ServeConn(conn)
		}
	}()
	return l, nil
}
