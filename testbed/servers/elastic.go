package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Elastic is an Elasticsearch or OpenSearch node.
type Elastic struct {
	URL            string // without credentials
	Flavor         string // elasticsearch or opensearch
	User, Password string // empty: security is off

	set      *Set
	dir      string
	up, down string // the scripts
	env      []string
}

// ElasticOptions say which node a test needs. The zero value is any node
// without security.
type ElasticOptions struct {
	Version    string // e.g. 9.1.3; empty: the one that the testbed names
	Password   string // not empty: security on, user elastic
	OpenSearch bool   // and not Elasticsearch
	Settings   string // of a node that is started: "name=value name=value"
}

// Elastic finds or starts a node. WEIR_TEST_ES, or WEIR_TEST_OPENSEARCH, is not used
// for a version or a password: what runs there and whether it asks is not known.
//
// Errors: ErrNone when there is no way to such a node; what the start script
// said.
func (s *Set) Elastic(ctx context.Context, o ElasticOptions) (*Elastic, error) {
	flavor, kind, prefix, named := "elasticsearch", "es", "ES_", "WEIR_TEST_ES"
	if o.OpenSearch {
		flavor, kind, prefix, named = "opensearch", "os", "OS_", "WEIR_TEST_OPENSEARCH"
	}
	plain := o.Version == "" && o.Password == ""
	if url := os.Getenv(named); url != "" && plain {
		return &Elastic{URL: url, Flavor: flavor}, nil
	}
	if s.testbed == "" {
		if !plain || o.OpenSearch {
			return nil, ErrNone
		}
		if err := s.compose(ctx, "elasticsearch"); err != nil {
			return nil, err
		}
		return &Elastic{URL: "http://127.0.0.1:9200", Flavor: flavor}, nil
	}
	port, err := freePorts(25000+os.Getpid()%25*200, 1, 0, 100) // HTTP and transport
	if err != nil {
		return nil, err
	}
	e := &Elastic{
		URL:    fmt.Sprintf("http://127.0.0.1:%d", port),
		Flavor: flavor,
		set:    s,
		dir:    filepath.Join(s.dir, kind+"-"+strconv.Itoa(port)),
		up:     "search/" + kind + "-up",
		down:   "search/" + kind + "-down",
	}
	setting := func(name, value string) {
		if value != "" {
			e.env = append(e.env, prefix+name+"="+value)
		}
	}
	setting("PORT", strconv.Itoa(port))
	setting("DIR", e.dir)
	setting("VERSION", o.Version)
	setting("OPTS", o.Settings)
	if setting("PASSWORD", o.Password); o.Password != "" {
		e.User, e.Password = "elastic", o.Password
	}
	s.atClose(func() error {
		return errors.Join(s.script(context.Background(), e.down, e.env), os.RemoveAll(e.dir))
	})
	if err := s.script(ctx, e.up, e.env); err != nil {
		return nil, err
	}
	setting("KEEP", "1") // from now on
	return e, nil
}

// Owned reports whether the node is ours to stop and start.
func (e *Elastic) Owned() bool { return e.set != nil }

// Stop stops the node; its data stays.
func (e *Elastic) Stop(ctx context.Context) error {
	return e.set.script(ctx, e.down, e.env)
}

// Start starts a stopped node again with the data it had.
func (e *Elastic) Start(ctx context.Context) error {
	return e.set.script(ctx, e.up, e.env)
}
