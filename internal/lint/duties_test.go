package lint

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// The table of goroutines in docs/design.md names every duty, and no other.
func TestDutiesAreInTheTableOfGoroutines(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "design.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	section := regexp.MustCompile(`(?s)\n## Goroutines\n.*?\n## `).FindString(string(text))
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented[row[1]] = true
	}
	there := make(map[string]bool)
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, name := range s.duties(t) {
			there[name] = true
			if !documented[name] {
				t.Errorf("%s: duty %s is not in the table of goroutines of docs/design.md", s.path, name)
			}
		}
	}
	for name := range documented {
		if !there[name] {
			t.Errorf("docs/design.md has a duty %s, which there is not", name)
		}
	}
}

// duties lists the names of a file's duties: what is given as Name of one.
func (s source) duties(t *testing.T) (names []string) {
	if s.local(module+"duty") == "" {
		return nil
	}
	ast.Inspect(s.file, func(node ast.Node) bool {
		field, ok := node.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		key, isName := field.Key.(*ast.Ident)
		value, isText := field.Value.(*ast.BasicLit)
		if isName && isText && key.Name == "Name" {
			name, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		return true
	})
	return names
}
