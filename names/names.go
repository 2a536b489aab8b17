// Package names says whether what people call by a name is there, and if not, which name is the nearest.
//
// A filter with a typing mistake finds nothing, and that must not look like an answer. So every name that comes from a command
// line or a request goes through here, and one that is not there is an [*Unknown].
package names

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Group is what there is in a group.
type Group struct {
	Name    string
	Members []string
	Tables  []string // nil: not known, so any may be there
}

// Groups are all that there are.
type Groups []Group

// Wanted is what somebody names. An empty Group stands for all of them.
type Wanted struct {
	Group           string
	Members, Tables []string
}

// Check returns an [*Unknown] for the first name that is not there. Members and tables are looked for in the group that is named.
func (g Groups) Check(w Wanted) error {
	within, where := g, ""
	if w.Group != "" {
		if err := Check("group", w.Group, "", g.list(func(one Group) []string { return []string{one.Name} })); err != nil {
			return err
		}
		within = slices.DeleteFunc(slices.Clone(g), func(one Group) bool { return one.Name != w.Group })
	}
	if len(within) == 1 {
		where = "group " + show(within[0].Name)
	}
	members := within.list(func(one Group) []string { return one.Members })
	for _, name := range w.Members {
		if err := Check("member", name, where, members); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(within, func(one Group) bool { return one.Tables == nil }) {
		return nil
	}
	tables := within.list(func(one Group) []string { return one.Tables })
	for _, name := range w.Tables {
		if err := Check("table", name, where, tables); err != nil {
			return err
		}
	}
	return nil
}

func (g Groups) list(of func(Group) []string) (all []string) {
	for _, one := range g {
		all = append(all, of(one)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Check returns an [*Unknown] unless the name is one of those that are known. where says in what; it may be empty.
func Check(kind, name, where string, known []string) error {
	if slices.Contains(known, name) {
		return nil
	}
	return &Unknown{kind, name, where, Nearest(name, known), known}
}

// Unknown is a name that nothing has.
type Unknown struct {
	Kind, Name string
	Where      string   // in what it was looked for; may be empty
	Nearest    string   // the name that was meant, perhaps; empty: none is near
	known      []string // all names
}

func (u *Unknown) Error() string {
	text := fmt.Sprintf("no %s %s", u.Kind, show(u.Name))
	if u.Where != "" {
		text += " in " + u.Where
	}
	switch {
	case u.Nearest != "":
		return text + "; nearest: " + show(u.Nearest)
	case len(u.known) == 0:
		return text + "; there is none"
	case len(u.known) == 1:
		return text + "; there is only " + show(u.known[0])
	}
	return text + "; there are " + some(u.known)
}

// Complete returns the one of the ids that begins so; whether letters are capitals does not matter.
func Complete(kind, beginning string, ids []string) (string, error) {
	var fits, cut []string
	for _, id := range ids {
		switch {
		case strings.EqualFold(id, beginning):
			return id, nil
		case len(id) > len(beginning) && strings.EqualFold(id[:len(beginning)], beginning):
			fits = append(fits, id)
		}
		cut = append(cut, id[:min(len(id), len(beginning))])
	}
	switch len(fits) {
	case 1:
		return fits[0], nil
	case 0:
		u := &Unknown{Kind: kind, Name: beginning, known: ids}
		if i := slices.Index(cut, Nearest(beginning, cut)); i >= 0 {
			u.Nearest = ids[i]
		}
		return "", u
	}
	return "", &Ambiguous{kind, beginning, fits}
}

// Ambiguous is the beginning of several ids.
type Ambiguous struct {
	Kind, Beginning string
	IDs             []string
}

func (a *Ambiguous) Error() string {
	return fmt.Sprintf("several %ss begin with %s: %s; write more of the one", a.Kind, show(a.Beginning), some(a.IDs))
}

// most is how many names a message lists.
const most = 10

func some(names []string) string {
	var list []string
	for _, name := range names[:min(len(names), most)] {
		list = append(list, show(name))
	}
	if more := len(names) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}

// show quotes a name that could be taken for something else.
func show(name string) string {
	odd := func(r rune) bool { return r == ' ' || r == '"' || r == ',' || r == ';' || !unicode.IsGraphic(r) }
	if name == "" || strings.ContainsFunc(name, odd) {
		return strconv.Quote(name)
	}
	return name
}

// Nearest returns the one of the known names that a typing error would make the name of; empty: none. A table may be named
// without its schema.
func Nearest(name string, known []string) string {
	best, distance := "", max(2, min(len(name), longest)/4)+1
	for _, k := range known {
		d := edits(name, k)
		if _, table, qualified := strings.Cut(k, "."); qualified && !strings.Contains(name, ".") {
			d = min(d, edits(name, table)+1)
		}
		if d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	return best
}

// longest bounds the names that are compared: longer ones are nobody's typing error.
const longest = 200

// edits is Levenshtein's distance of two names, whose letters may be capitals or not.
func edits(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if a == b {
		return 0
	}
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			substituted := diagonal
			if a[i-1] != b[j-1] {
				substituted++
			}
			diagonal = row[j]
			row[j] = min(substituted, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
