package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/names"
)

// Error is one problem of a configuration file.
type Error struct {
	File    string
	Line    int
	Path    string // groups[0].members[1].dsn; empty for the file as a whole
	Problem string // with the value, unless it may hold a secret
	Remedy  string // what to write instead; may be empty
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Problem)
	if e.Remedy != "" {
		b.WriteString(": " + e.Remedy)
	}
	return strings.ReplaceAll(b.String(), "\n", " ")
}

// problems collects all that is wrong with one file.
type problems struct {
	file     string
	list     []*Error
	required []string // keys that cannot be left out
}

func (p *problems) add(line int, path, problem, remedy string) {
	p.list = append(p.list, &Error{File: p.file, Line: line, Path: path, Problem: problem, Remedy: remedy})
}

// orLeaveOut ends the remedy for a key that has no value, if it may be left out.
const orLeaveOut = ", or leave the key out"

// err joins the problems in the order of the file's lines; nil if there are none.
func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	errs := make([]error, len(p.list))
	for i, e := range p.list {
		if slices.Contains(p.required, e.Path) {
			e.Remedy = strings.TrimSuffix(e.Remedy, orLeaveOut)
		}
		errs[i] = e
	}
	return errors.Join(errs...)
}

// later are the keys that the documentation plans, so that their absence is not taken for a typing error.
var later = []string{"max_retained_wal", "pagerduty", "slack", "audit"}

// unknownKeyRemedy suggests the nearest of the known keys.
func unknownKeyRemedy(key string, known []string) string {
	if slices.Contains(later, key) {
		return "this version of lockstep does not have it; remove it"
	}
	if nearest := names.Nearest(key, known); nearest != "" {
		return fmt.Sprintf("did you mean %q?", nearest)
	}
	return "known here are " + strings.Join(known, ", ")
}
