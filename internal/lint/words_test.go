package lint

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vague are package names that say nothing of what is inside.
var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "base", "misc"}

// A rule forbids something outside the packages that own it. Tests are free of it, or it is for them.
type rule struct {
	why    string
	tests  bool                  // in tests, and there only
	holds  func(pkg string) bool // where the rule holds
	call   string                // package and function: time.Sleep
	module string                // or the path of an import, itself or anything below it
	goes   bool                  // or what starts a goroutine: the statement, or Go of an errgroup or WaitGroup
}

var rules = []rule{
	{why: "wait on a condition or a timer", holds: library, call: "time.Sleep"},
	{why: "return an error; only main ends the process", holds: except("store"), call: "os.Exit"},      // where Pebble cannot go on
	{why: "take a context from the caller", holds: except("cdc/postgres"), call: "context.Background"}, // bounded by socket deadlines there
	{why: "take a context from the caller", holds: library, call: "context.TODO"},
	{why: "use log/slog", holds: library, module: "log"},
	{why: "the core has no clock: take the time as a value", holds: core, call: "time.Now"},
	{why: "the core has no clock: take the time as a value", holds: core, call: "time.Since"},
	{why: "the core has no disk", holds: core, module: "os"},
	{why: "the core has no network", holds: core, module: "net"},
	{why: "use internal/bubble", holds: library, call: "testing/synctest.Test", tests: true},
	{why: "whoever starts a goroutine waits for it; daemon and monitor do, the core and the store do not", holds: quiet, goes: true},
}

// core packages take values and return values.
func core(pkg string) bool {
	return slices.Contains([]string{"digest", "merkle", "finding", "status", "align", "names"}, pkg)
}

// library is all that others of ours import: not the commands, and not the two that run servers for tests and the demo.
func library(pkg string) bool {
	return pkg != "internal/dbtest" && pkg != "internal/demo" && !strings.HasPrefix(pkg, "cmd/")
}

// except is library without one package, which has a reason.
func except(pkg string) func(string) bool {
	return func(p string) bool { return library(p) && p != pkg }
}

// quiet packages start no goroutine.
func quiet(pkg string) bool {
	loud := []string{"daemon", "monitor", "cdc/postgres", "diff", "web", "alerts", "audit"} // audit: a queue that ended answers nobody
	return !slices.Contains(loud, pkg) && !listed(forTests, pkg) && !strings.HasPrefix(pkg, "cmd/") && !strings.HasPrefix(pkg, "internal/")
}

func TestPackageNamesSayWhatIsInside(t *testing.T) {
	for _, s := range sources(t) {
		for _, name := range []string{path.Base(s.pkg), strings.TrimSuffix(s.file.Name.Name, "_test")} {
			if slices.Contains(vague, name) {
				t.Errorf("%s: package %s is named for nothing in particular", s.path, name)
			}
		}
	}
}

func TestCallsStayWhereTheyBelong(t *testing.T) {
	for _, s := range sources(t) {
		for _, found := range s.violations() {
			t.Error(found)
		}
	}
}

func TestRulesFindWhatTheyForbid(t *testing.T) {
	const text = `package x
import ("context"; "log"; "log/slog"; "os"; "net/netip"; "sync"; "testing/synctest"; clock "time")
func f() { clock.Sleep(1); os.Exit(1); context.Background(); context.TODO(); clock.Now(); go f(); slog.Info(""); log.Print() }
func g(time interface{ Sleep() }) { time.Sleep(); var work sync.WaitGroup; work.Go(func() {}); synctest.Test() }`
	cases := []struct {
		path string
		want []string
	}{
		{"align/x.go", []string{"Sleep", "Exit", "Background", "TODO", "log", "Now", "os", "net/netip", "go", "Go"}},
		{"store/x.go", []string{"Sleep", "Background", "TODO", "log", "go", "Go"}},
		{"cdc/postgres/x.go", []string{"Sleep", "Exit", "TODO", "log"}},
		{"monitor/x.go", []string{"Sleep", "Exit", "Background", "TODO", "log"}},
		{"internal/dbtest/x.go", nil},
		{"cmd/lockstep/x.go", nil},
		{"align/x_test.go", []string{"Test"}},
	}
	for _, c := range cases {
		s, err := parse(token.NewFileSet(), c.path, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, found := range s.violations() {
			what, _, _ := strings.Cut(strings.SplitN(found, ": ", 2)[1], ":")
			got = append(got, what[strings.LastIndex(what, ".")+1:])
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.path, diff)
		}
	}
}

// violations lists what a file does against the rules, as "file:line:column: what: why", rule by rule.
func (s source) violations() []string {
	var found []string
	for _, r := range rules {
		if s.test != r.tests || !r.holds(s.pkg) {
			continue
		}
		for _, at := range s.matches(r) {
			found = append(found, at+": "+r.why)
		}
	}
	return found
}

func (s source) matches(r rule) []string {
	if r.module != "" {
		return s.importsOf(r.module)
	}
	var found []string
	qualifier, name := s.splitCall(r.call)
	ast.Inspect(s.file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			if r.goes {
				found = append(found, s.line(node).String()+": go")
			}
		case *ast.CallExpr:
			if f, ok := node.Fun.(*ast.SelectorExpr); ok && r.goes && f.Sel.Name == "Go" && len(node.Args) == 1 {
				found = append(found, s.line(node).String()+": .Go")
			}
		case *ast.SelectorExpr:
			if x, ok := node.X.(*ast.Ident); ok && qualifier != "" && x.Name == qualifier && node.Sel.Name == name {
				found = append(found, s.line(node).String()+": "+r.call)
			}
		}
		return true
	})
	return found
}

// splitCall splits time.Sleep, with the name that the file gives to package time; empty if it does not import it.
func (s source) splitCall(call string) (qualifier, name string) {
	pkg, name, ok := strings.Cut(call, ".")
	if !ok {
		return "", ""
	}
	return s.local(pkg), name
}

// importsOf finds an import and those below it; log/slog is not log's.
func (s source) importsOf(module string) []string {
	var found []string
	for _, spec := range s.file.Imports {
		to := strings.Trim(spec.Path.Value, "\"`")
		if to == module || strings.HasPrefix(to, module+"/") && to != "log/slog" {
			found = append(found, s.line(spec).String()+": "+to)
		}
	}
	return found
}
