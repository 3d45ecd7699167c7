package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Elastic is an Elasticsearch node.
type Elastic struct {
	URL            string // without credentials
	User, Password string // empty: security is off

	set *Set
	dir string
	env []string
}

// ElasticOptions say which node a test needs. The zero value is any node
// without security.
type ElasticOptions struct {
	Version  string // e.g. 9.1.3; empty: the 8.19 that the testbed names
	Password string // not empty: security on, user elastic
}

// Elastic finds or starts a node. WEIR_TEST_ES is used for the zero options
// only: what version runs there and whether it asks for a password is not known.
//
// Errors: ErrNone when there is no way to such a node; what the start script
// said.
func (s *Set) Elastic(ctx context.Context, o ElasticOptions) (*Elastic, error) {
	plain := o == ElasticOptions{}
	if url := os.Getenv("WEIR_TEST_ES"); url != "" && plain {
		return &Elastic{URL: url}, nil
	}
	if s.testbed == "" {
		if !plain {
			return nil, ErrNone
		}
		if err := s.compose(ctx, "elasticsearch"); err != nil {
			return nil, err
		}
		return &Elastic{URL: "http://127.0.0.1:9200"}, nil
	}
	port, err := freePorts(25000+os.Getpid()%25*200, 1, 0, 100) // HTTP and transport
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "es-"+strconv.Itoa(port))
	e := &Elastic{
		URL: fmt.Sprintf("http://127.0.0.1:%d", port),
		set: s,
		dir: dir,
		env: []string{"ES_PORT=" + strconv.Itoa(port), "ES_DIR=" + dir},
	}
	start := e.env
	if o.Version != "" {
		start = append(start[:len(start):len(start)], "ES_VERSION="+o.Version)
	}
	if o.Password != "" {
		e.User, e.Password = "elastic", o.Password
		start = append(start[:len(start):len(start)], "ES_PASSWORD="+o.Password)
	}
	s.atClose(func() error {
		return errors.Join(s.script(context.Background(), "search/es-down", e.env), os.RemoveAll(dir))
	})
	if err := s.script(ctx, "search/es-up", start); err != nil {
		return nil, err
	}
	e.env = append(start[:len(start):len(start)], "ES_KEEP=1")
	return e, nil
}

// Owned reports whether the node is ours to stop and start.
func (e *Elastic) Owned() bool { return e.set != nil }

// Stop stops the node; its data stays.
func (e *Elastic) Stop(ctx context.Context) error {
	return e.set.script(ctx, "search/es-down", e.env)
}

// Start starts a stopped node again with the data it had.
func (e *Elastic) Start(ctx context.Context) error {
	return e.set.script(ctx, "search/es-up", e.env)
}
