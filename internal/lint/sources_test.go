// Package lint holds tests that read the module's own source: who may import whom, and which calls belong where.
package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// source is one file of the module.
type source struct {
	path, pkg string // as in the module: cdc/lsn.go, cdc
	test      bool
	file      *ast.File
	set       *token.FileSet
}

// sources parses every file once for all tests.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var parsed = sync.OnceValues(func() (all []source, err error) {
	root, set := os.DirFS(filepath.Join("..", "..")), token.NewFileSet()
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		s, err := parse(set, name, text)
		all = append(all, s)
		return err
	})
	return all, err
})

func parse(set *token.FileSet, name string, text []byte) (source, error) {
	file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	return source{name, path.Dir(name), strings.HasSuffix(name, "_test.go"), file, set}, err
}

func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		if unquoted, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, unquoted)
		}
	}
	return paths
}

// local is the name under which the file uses a package of the standard library; empty if it does not import it.
func (s source) local(importPath string) string {
	for _, spec := range s.file.Imports {
		if spec.Path.Value != strconv.Quote(importPath) {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

func (s source) line(node ast.Node) token.Position { return s.set.Position(node.Pos()) }
