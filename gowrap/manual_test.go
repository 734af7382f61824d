package awa_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"testing"

	awa "github.com/awaqueue/awa/gowrap"
)

// The examples are the manual: each method is called in one of them.
func TestEveryMethodHasAnExample(t *testing.T) {
	files, err := filepath.Glob("example_*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				shown[selector.Sel.Name] = true
			}
			return true
		})
	}
	client := reflect.TypeFor[awa.Client]()
	for i := range client.NumMethod() {
		if name := client.Method(i).Name; !shown[name] {
			t.Errorf("no example calls %s", name)
		}
	}
}
