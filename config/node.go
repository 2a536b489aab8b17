package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// node is one value of the file: where it stands and how users call it. The zero ast means that it is not there.
type node struct {
	ast  ast.Node
	path string
	line int
	*problems
	// describes is what is noted of how the value is read; nil: it is only read. With it there is no file, and every key seems to be
	// there, with one item in every list.
	describes *Schema
}

func (n node) present() bool { return n.ast != nil || n.describes != nil }

func (n node) fail(problem, remedy string) { n.add(n.line, n.path, problem, remedy) }

// parseYAML returns the one document's root; not ok if the problems say why there is none.
func parseYAML(p *problems, data []byte) (root node, ok bool) {
	if line, problem := tooMuch(data); problem != "" {
		p.add(line, "", problem, "no configuration needs that: is it the right file?")
		return node{}, false
	}
	file, err := safeParse(data)
	if err != nil {
		line, message := 1, err.Error()
		if e := yaml.Error(nil); errors.As(err, &e) && e.GetToken() != nil {
			line, message = e.GetToken().Position.Line, e.GetMessage()
		}
		p.add(line, "", message, "the file has to be YAML")
		return node{}, false
	}
	var docs []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d.Body)
		}
	}
	if len(docs) != 1 {
		p.add(1, "", fmt.Sprintf("the file holds %d YAML documents", len(docs)), "write exactly one")
		return node{}, false
	}
	return node{ast: docs[0], line: lineOf(docs[0], 1), problems: p}, true
}

// Bounds of a file. The parser takes time and stack that grow faster than the depth: 100,000 brackets took it 40 seconds.
const (
	maxBytes  = 1 << 20
	maxDepth  = 32
	maxIndent = 200 // columns
)

// tooMuch says what is beyond the bounds, and on which line; nothing if all is within. The lexer takes a time that grows as the file.
func tooMuch(data []byte) (line int, problem string) {
	if len(data) > maxBytes {
		return 1, fmt.Sprintf("the file has more than %d bytes", maxBytes)
	}
	brackets, inLine := 0, 0 // depths: of brackets, and of what opens another level on one line
	for _, t := range lexer.Tokenize(string(data)) {
		if t.Position.Line != line {
			line, inLine = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			inLine++
		}
		if brackets+inLine > maxDepth || t.Position.Column > maxIndent && inLine == 0 && t.Prev != nil && t.Prev.Position.Line < line {
			return line, fmt.Sprintf("more than %d levels are nested", maxDepth)
		}
	}
	return 0, ""
}

// safeParse keeps a panic of the YAML parser, which reads bytes that we did not write, from being one of ours.
func safeParse(data []byte) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed YAML (%v)", r)
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

func lineOf(n ast.Node, otherwise int) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return otherwise
	}
	return n.GetToken().Position.Line
}

func pairs(n ast.Node) (values []*ast.MappingValueNode, ok bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

// fields reads a mapping. Keys that are not among known, or come twice, are reported; all known keys are in the result.
func (n node) fields(known ...string) map[string]node {
	found := make(map[string]node, len(known))
	for _, key := range known {
		found[key] = node{path: join(n.path, key), line: n.line, problems: n.problems, describes: n.describes.of(key)}
	}
	values, ok := pairs(n.ast)
	if !ok {
		if n.ast != nil {
			n.fail(kind(n.ast)+" where a mapping belongs", "its keys are "+strings.Join(known, ", "))
		}
		return found
	}
	for _, v := range values {
		n.field(found, known, v)
	}
	return found
}

func (n node) field(found map[string]node, known []string, v *ast.MappingValueNode) {
	line := lineOf(v.Key, n.line)
	key := ""
	if v.Key != nil && v.Key.GetToken() != nil {
		key = v.Key.GetToken().Value
	}
	switch {
	case !slices.Contains(known, key):
		n.add(line, n.path, fmt.Sprintf("unknown key %q", key), unknownKeyRemedy(key, known))
	case found[key].present():
		n.add(line, join(n.path, key), fmt.Sprintf("is set a second time, first on line %d", found[key].line), "keep one")
	default:
		f := found[key]
		f.line, f.ast = line, v.Value
		if isNull(v.Value) {
			f.fail("has no value", "give it one"+orLeaveOut)
		}
		found[key] = f
	}
}

// items reads a sequence.
func (n node) items() []node {
	if n.describes != nil {
		return []node{{path: n.path, problems: n.problems, describes: n.describes.item()}}
	}
	if !n.present() || isNull(n.ast) {
		return nil
	}
	seq, ok := n.ast.(*ast.SequenceNode)
	if !ok {
		n.fail(kind(n.ast)+" where a list belongs", "write it as [...] or as lines that start with -")
		return nil
	}
	items := make([]node, len(seq.Values))
	for i, v := range seq.Values {
		items[i] = node{ast: v, path: fmt.Sprintf("%s[%d]", n.path, i), line: lineOf(v, n.line), problems: n.problems}
	}
	return items
}

// text reads a string; empty if there is none. Nothing of the value is printed: it may be a secret.
func (n node) text() string {
	n.describes.a("string")
	switch v := n.ast.(type) {
	case nil, *ast.NullNode:
		return ""
	case *ast.StringNode:
		if strings.TrimSpace(v.Value) == "" {
			n.empty()
		}
		return v.Value
	case *ast.LiteralNode:
		return strings.TrimSuffix(v.Value.Value, "\n")
	default:
		n.fail(kind(v)+" where text belongs", "put it in quotes")
		return ""
	}
}

// empty is about a value of nothing but spaces.
func (n node) empty() {
	if strings.HasSuffix(n.path, "]") {
		n.fail("is empty", "give it a value, or take it out of the list")
		return
	}
	n.fail("is empty", "give it a value"+orLeaveOut)
}

// word reads one of a few words; empty if it is none of them, which wrong says of it.
func (n node) word(wrong string, known ...string) string {
	if n.describes != nil {
		n.describes.Enum = known
	}
	text := n.text()
	if text != "" && !slices.Contains(known, text) {
		n.fail(fmt.Sprintf(wrong, text), "write "+alternatives(known))
		return ""
	}
	return text
}

// words reads a list of them.
func (n node) words(wrong string, known ...string) []string {
	var list []string
	for _, item := range n.items() {
		if s := item.word(wrong, known...); s != "" {
			list = append(list, s)
		}
	}
	return list
}

func alternatives(list []string) string {
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

// texts reads a list of strings.
func (n node) texts() []string {
	var list []string
	for _, item := range n.items() {
		if s := item.text(); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// duration reads a positive duration, or returns otherwise.
func (n node) duration(otherwise time.Duration) time.Duration {
	if n.describes != nil && n.describes.Type == "" {
		n.describes.Type, n.describes.Pattern = "string", durations
	}
	if n.ast == nil || isNull(n.ast) {
		return otherwise
	}
	if kind(n.ast) == "a number" {
		text := n.ast.GetToken().Value
		n.fail(fmt.Sprintf("%s has no unit", text), fmt.Sprintf("write %ss or %sm", text, text))
		return otherwise
	}
	text := n.text()
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		n.fail(fmt.Sprintf("%q is not a duration", text), "write it like 30s, 2m or 1h30m")
		return otherwise
	}
	if d <= 0 {
		n.fail(fmt.Sprintf("%q is not positive", text), "write it like 30s, 2m or 1h30m")
		return otherwise
	}
	if d > longest {
		n.fail(fmt.Sprintf("%q is more than ten years", text), "write less, or leave the key out")
		return otherwise
	}
	return d
}

// Bounds of durations, beyond which there is a mistake in the unit.
const (
	longest       = 10 * 365 * 24 * time.Hour
	longestBudget = 30 * 24 * time.Hour
)

// lagBudget reads how long a difference may last: for so long nobody is told of any.
func (n node) lagBudget(otherwise time.Duration) time.Duration {
	d := n.duration(otherwise)
	if d > longestBudget {
		n.fail(fmt.Sprintf("%q is more than 30 days, for which nobody would be told of a difference", n.text()), "write it like 30s, 2m or 1h30m")
		return otherwise
	}
	return d
}

// sizeUnits are PostgreSQL's.
var sizeUnits = map[string]int64{"MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}

// sizeOrOff reads a number of bytes, or 0 for off; otherwise if there is none.
func (n node) sizeOrOff(otherwise int64) int64 {
	const remedy = "write it like 512MB, 10GB or 1TB, or off"
	if n.describes != nil {
		n.describes.Type, n.describes.Pattern = "string", "^ *[0-9]*[1-9][0-9]* *(MB|GB|TB)$|^off$"
	}
	if !n.present() || isNull(n.ast) {
		return otherwise
	}
	if kind(n.ast) == "a number" {
		n.fail(n.ast.GetToken().Value+" has no unit", remedy)
		return otherwise
	}
	text := n.text()
	if text == "off" || text == "" {
		return 0
	}
	number := strings.TrimRight(text, "BGMT")
	unit := sizeUnits[text[len(number):]]
	size, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
	if err != nil || unit == 0 || size <= 0 {
		n.fail(fmt.Sprintf("%q is not a size", text), remedy)
		return otherwise
	}
	return size * unit
}

// interval reads the time between two of what is not to be done all the time.
func (n node) interval(otherwise time.Duration) time.Duration {
	d := n.duration(otherwise)
	if d < leastEvery {
		n.fail(fmt.Sprintf("%v is too often", d), fmt.Sprintf("write at least %v", leastEvery))
	}
	return d
}

// durationOrOff reads a duration or off. YAML has a boolean of that meaning too, which is not taken for it.
func (n node) durationOrOff(otherwise time.Duration) (d time.Duration, off bool) {
	if n.describes != nil {
		n.describes.Type, n.describes.Pattern = "string", durations+"|^off$"
	}
	if n.present() && kind(n.ast) == "text" && n.text() == "off" {
		return 0, true
	}
	if n.present() && kind(n.ast) == "a boolean" {
		n.fail("a boolean where a duration belongs", "write it like 24h, or off")
		return otherwise, false
	}
	return n.duration(otherwise), false
}

// count reads a positive whole number, or returns otherwise.
func (n node) count(otherwise int64) int64 {
	if n.describes != nil {
		n.describes.Type, n.describes.Minimum = "integer", 1
	}
	if n.ast == nil || isNull(n.ast) {
		return otherwise
	}
	text := ""
	if t := n.ast.GetToken(); t != nil {
		text = t.Value
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
	if _, number := n.ast.(*ast.IntegerNode); !number || err != nil || v <= 0 {
		n.fail(fmt.Sprintf("%q is not a positive whole number", text), fmt.Sprintf("write it like %d", otherwise))
		return otherwise
	}
	return v
}

// claim reads a boolean; one that is left out is false.
func (n node) claim() bool {
	n.describes.a("boolean")
	switch v := n.ast.(type) {
	case nil, *ast.NullNode:
		return false
	case *ast.BoolNode:
		return v.Value
	}
	n.fail(kind(n.ast)+" where a boolean belongs", "write true or false")
	return false
}

func (n node) isList() bool {
	_, list := n.ast.(*ast.SequenceNode)
	return list
}

func isNull(n ast.Node) bool {
	_, null := n.(*ast.NullNode)
	return null
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// kind says what a value is, for people.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "a boolean"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias, which this file may not have,"
	case *ast.TagNode:
		return "a tag, which this file may not have,"
	case *ast.NullNode:
		return "nothing"
	}
	return "something else"
}
