// Command reference writes docs/configuration.md from the types of package
// config: their keys, their defaults, and the comments on their fields. It runs
// by go generate ./config.
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"weir/config"
)

// output is where the reference goes, from the folder of package config.
const output = "../docs/configuration.md"

func main() {
	page, err := render(".")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(output), 0o755)
	}
	if err == nil {
		err = os.WriteFile(output, page, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

//go:embed configuration.md.tmpl
var layout string

// section is one mapping of weir.yaml with the scalars directly in it.
type section struct {
	Path, Meaning string
	Keys          []key
}

type key struct {
	config.Key
	Name, Meaning string
}

// render is the reference, from the sources of package config in dir.
func render(dir string) ([]byte, error) {
	meaning := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := comments(file, meaning); err != nil {
			return nil, err
		}
	}
	example, err := os.ReadFile(filepath.Join(dir, "testdata", "weir.yaml"))
	if err != nil {
		return nil, err
	}
	// The keys come depth first, so a section's own scalars are not in one run.
	sections := []*section{{}}
	at := map[string]*section{"": sections[0]}
	var variables []config.Key
	for _, k := range config.Keys() {
		text, ok := meaning[k.Struct+"."+k.Field]
		if !ok {
			return nil, fmt.Errorf("%s.%s (%s) has no comment", k.Struct, k.Field, k.Path)
		}
		if k.Variable != "" {
			variables = append(variables, k)
		}
		if k.Type == "" {
			s := &section{Path: k.Path, Meaning: text}
			at[s.Path] = s
			sections = append(sections, s)
			continue
		}
		parent, name := "", k.Path
		if i := strings.LastIndexByte(k.Path, '.'); i >= 0 {
			parent, name = k.Path[:i], k.Path[i+1:]
		}
		at[parent].Keys = append(at[parent].Keys, key{k, name, text})
	}

	t, err := template.New("").Funcs(template.FuncMap{
		"cell": func(s string) string { return strings.ReplaceAll(s, "|", `\|`) },
	}).Parse(layout)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = t.Execute(&page, map[string]any{
		"Example": string(example), "Sections": sections, "Variables": variables,
	})
	return page.Bytes(), err
}

// comments finds the comment on each field of each struct in a Go file, by
// Type.Field, on one line.
func comments(file string, found map[string]string) error {
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		s, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, f := range s.Fields.List {
			if f.Doc == nil {
				continue
			}
			for _, name := range f.Names {
				found[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
			}
		}
		return false
	})
	return nil
}
