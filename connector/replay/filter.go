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
	"github.com/expr-lang/expr/file"
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
	large                     sync.Mutex // held for a record above fewValues or fewBytes
}

// What a filter looks at of a record: no more than maxLooked bytes in no more than
// maxValues values, each of which can take some 350 bytes once it is decoded.
// Lanes judge at the same time; of the records that are larger than most, one
// after the other, so that what they take is there once.
const (
	maxLooked, fewBytes  = 4 << 20, 64 << 10
	maxValues, fewValues = 50_000, 2_000
)

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
// Errors: what is wrong with it, and where; it could cost more than a look at the
// record, see checkCost.
func ParseFilter(text string) (*Filter, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no filter is what was asked for
	}
	options := []expr.Option{expr.Env(filterEnv{}), expr.AsBool(), expr.Timezone("UTC")}
	// As it was written: in an optimized one not every node is shown to a visitor.
	written, err := expr.Compile(text, append(options, expr.Optimize(false))...)
	if err != nil {
		return nil, err
	}
	if err := checkCost(written); err != nil {
		return nil, err
	}
	program, err := expr.Compile(text, options...)
	if err != nil {
		return nil, err
	}
	f := &Filter{program: program, machines: sync.Pool{New: func() any { return new(vm.VM) }}}
	walk(written.Node(), func(n ast.Node) {
		if id, ok := n.(*ast.IdentifierNode); ok {
			all := id.Value == "$env"
			f.event = f.event || all || id.Value == "event"
			f.text = f.text || all || id.Value == "text"
			f.key = f.key || all || id.Value == "key"
			f.headers = f.headers || all || id.Value == "headers"
		}
	})
	return f, nil
}

// Match reports whether a record is wanted.
//
// Errors: the expression does not fit the record, or the record is too large to be
// looked at. It has said nothing then. The error holds nothing of the record.
func (f *Filter) Match(r *buffer.Record) (bool, error) {
	bytes, values := f.size(r)
	if bytes > maxLooked || values > maxValues {
		return false, fmt.Errorf("a filter looks at %d bytes and %d values at most, and here are %d and %d", maxLooked, maxValues, bytes, values)
	}
	if bytes > fewBytes || values > fewValues {
		f.large.Lock()
		defer f.large.Unlock()
	}
	return f.match(r)
}

// size is how much the filter looks at of a record.
func (f *Filter) size(r *buffer.Record) (bytes, values int) {
	if f.event || f.text {
		bytes += len(r.Value)
	}
	if f.key {
		bytes += len(r.Key)
	}
	if f.headers {
		values += len(r.Headers)
		for i := range r.Headers {
			bytes += len(r.Headers[i].Key) + len(r.Headers[i].Value)
		}
	}
	if f.event && bytes <= maxLooked {
		values += countValues(r.Value)
	}
	return bytes, values
}

// countValues is how many values are in JSON, nested ones included, or a few more:
// an empty object or array counts as two.
func countValues(v []byte) int {
	n := 1
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '{', '[', ',':
			n++
		case '"':
			for i++; i < len(v) && v[i] != '"'; i++ {
				if v[i] == '\\' {
					i++
				}
			}
		}
	}
	return n
}

func (f *Filter) match(r *buffer.Record) (bool, error) {
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
		// What expr says can quote the event.
		if at, ok := errors.AsType[*file.Error](err); ok {
			return false, fmt.Errorf("the expression does not fit it at %d:%d", at.Line, at.Column+1)
		}
		return false, errors.New("the expression does not fit it")
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
