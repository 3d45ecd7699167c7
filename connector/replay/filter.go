package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"

	"weir/buffer"
)

// Filter says which records of the range are wanted. It may be used by several
// goroutines.
type Filter struct {
	program  *vm.Program
	machines sync.Pool // of *vm.VM
	// What the expression looks at: the rest is not made for it.
	event, text, key, headers bool
}

// filterEnv is what an expression may name.
type filterEnv struct {
	Event     any               `expr:"event"` // the decoded JSON value, nil when it is none
	Text      string            `expr:"text"`  // the value as it is
	Key       string            `expr:"key"`
	Topic     string            `expr:"topic"`
	Partition int32             `expr:"partition"`
	Offset    int64             `expr:"offset"`
	Time      time.Time         `expr:"time"`
	Headers   map[string]string `expr:"headers"`
}

// ParseFilter reads an expression of the language of github.com/expr-lang/expr,
// which must come to true or false. The empty one is no filter, nil.
//
// Errors: what is wrong with it, and where.
func ParseFilter(text string) (*Filter, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no filter is what was asked for
	}
	program, err := expr.Compile(text, expr.Env(filterEnv{}), expr.AsBool(), expr.Timezone("UTC"))
	if err != nil {
		return nil, err
	}
	f := &Filter{program: program, machines: sync.Pool{New: func() any { return new(vm.VM) }}}
	node := program.Node()
	ast.Walk(&node, visitor(func(n *ast.Node) {
		if id, ok := (*n).(*ast.IdentifierNode); ok {
			all := id.Value == "$env"
			f.event = f.event || all || id.Value == "event"
			f.text = f.text || all || id.Value == "text"
			f.key = f.key || all || id.Value == "key"
			f.headers = f.headers || all || id.Value == "headers"
		}
	}))
	return f, nil
}

type visitor func(*ast.Node)

func (v visitor) Visit(n *ast.Node) { v(n) }

// Match reports whether a record is wanted.
//
// Errors: the expression does not fit the record. It has said nothing then.
func (f *Filter) Match(r *buffer.Record) (bool, error) {
	env := filterEnv{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Time}
	if f.text {
		env.Text = string(r.Value)
	}
	if f.key {
		env.Key = string(r.Key)
	}
	if f.headers && len(r.Headers) > 0 {
		env.Headers = make(map[string]string, len(r.Headers))
		for _, h := range r.Headers {
			env.Headers[h.Key] = string(h.Value)
		}
	}
	if f.event {
		d := json.NewDecoder(bytes.NewReader(r.Value))
		d.UseNumber()
		if err := d.Decode(&env.Event); err != nil {
			return false, errNoJSON
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return false, errNoJSON
		}
		env.Event = numbers(env.Event)
	}
	machine := f.machines.Get().(*vm.VM)
	defer f.machines.Put(machine)
	out, err := machine.Run(f.program, env)
	if err != nil {
		return false, err
	}
	ok, is := out.(bool)
	if !is {
		return false, fmt.Errorf("the filter comes to %T and not to true or false", out)
	}
	return ok, nil
}

// numbers is v with its numbers as an expression takes them: whole ones as int,
// others as float64.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.Atoi(v.String()); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	}
	return v
}

var errNoJSON = errors.New("its value is no JSON")
