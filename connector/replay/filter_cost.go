package replay

import (
	"fmt"
	"slices"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// expr bounds what an expression makes and not how long it takes, and cannot be
// stopped. So only expressions are taken whose time and memory are at most a
// constant, which who wrote it has chosen, times the size of what they look at,
// which a producer chooses.

// dear are the functions that are not linear, each for another reason: flatten
// copies once a level, toJSON indents, uniq compares all with all, reduce and
// repeat make as much as they like, fromJSON decodes without a bound. now comes to
// something else for who verifies the case.
var dear = []string{"flatten", "fromJSON", "now", "reduce", "repeat", "toJSON", "uniq"}

// givenFrom is from which of its arguments on a function takes only what is in the
// expression: with two from the record the cost would be their product, and a time
// zone is a file. (The first argument of date is the default zone.)
var givenFrom = map[string]int{"join": 1, "replace": 1, "trim": 1, "date": 3, "timezone": 0}

// free are the parts of a record that a producer cannot make large.
var free = []string{"topic", "partition", "offset", "time"}

// checkCost is nil when the expression is linear. The program must not be
// optimized.
//
// A predicate that is run for each element of a list of the record's must not look
// at the rest of the record: what it may look at is the element, and the elements
// are no more than the list, however deep predicates are nested.
func checkCost(p *vm.Program) (err error) {
	refuse := func(at ast.Node, format string, args ...any) {
		if err == nil {
			err = (&file.Error{Location: at.Location(), Message: fmt.Sprintf(format, args...)}).Bind(p.Source())
		}
	}
	walk(p.Node(), func(n ast.Node) {
		switch n := n.(type) {
		case *ast.BinaryNode:
			if n.Operator == "matches" && !given(n.Right) {
				refuse(n, "the pattern of matches has to be in the filter itself")
			}
			if n.Operator == ".." && !(given(n.Left) && given(n.Right)) {
				refuse(n, "the ends of a range have to be in the filter itself")
			}
		case *ast.BuiltinNode:
			if slices.Contains(dear, n.Name) {
				refuse(n, "a filter cannot use %s()", n.Name)
			}
			if from, ok := givenFrom[n.Name]; ok && from < len(n.Arguments) && !given(n.Arguments[from:]...) {
				refuse(n, "what %s() takes beside a value has to be in the filter itself", n.Name)
			}
			if _, list := n.Arguments[0].(*ast.ArrayNode); list && given(n.Arguments[0]) {
				return
			}
			for _, argument := range n.Arguments {
				if predicate, ok := argument.(*ast.PredicateNode); ok {
					if at := foreign(predicate); at != nil {
						refuse(at, "what %s() does for each element can look at the element only, and not at %s", n.Name, at.Value)
					}
				}
			}
		}
	})
	return err
}

// given reports whether nodes are made of what is in the expression alone.
func given(nodes ...ast.Node) bool {
	all := true
	for _, n := range nodes {
		walk(n, func(n ast.Node) {
			switch n.(type) {
			case *ast.IdentifierNode, *ast.PointerNode:
				all = false
			}
		})
	}
	return all
}

// foreign is the first name in a predicate that neither it has declared itself nor
// is free, nil when there is none. No name can be declared twice.
func foreign(predicate ast.Node) (at *ast.IdentifierNode) {
	known := slices.Clone(free)
	walk(predicate, func(n ast.Node) {
		if v, ok := n.(*ast.VariableDeclaratorNode); ok {
			known = append(known, v.Name)
		}
	})
	walk(predicate, func(n ast.Node) {
		if id, ok := n.(*ast.IdentifierNode); ok && at == nil && !slices.Contains(known, id.Value) {
			at = id
		}
	})
	return at
}

// walk shows f a node and all in it.
func walk(n ast.Node, f func(ast.Node)) { ast.Walk(&n, visitor(f)) }

type visitor func(ast.Node)

func (v visitor) Visit(n *ast.Node) { v(*n) }
