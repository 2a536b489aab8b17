package digest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// The canonical form of a JSON value: a tag and what it needs, so that no value's form is the start of another's.
//
//	null n    true t    false f
//	number   +---+-------------------+
//	         | d | canonical decimal |
//	         +---+-------------------+
//	string   +---+-------------------------------------+
//	         | s | UTF-8, ended as in keys: see key.go |
//	         +---+-------------------------------------+
//	array    +---+-------+-------+-----+---+
//	         | [ | value | value | ... | ] |
//	         +---+-------+-------+-----+---+
//	object   +---+--------+-------+--------+-------+-----+---+
//	         | { | string | value | string | value | ... | } |   by names, ascending; of equal names the last
//	         +---+--------+-------+--------+-------+-----+---+
const maxJSONDepth = 10000

var (
	errJSON          = errors.New("is not valid JSON")
	errJSONDepth     = fmt.Errorf("is nested more than %d levels deep", maxJSONDepth)
	errJSONSurrogate = errors.New("has an escape of half a surrogate pair, which is no character")
)

// jsonParser turns JSON text into its canonical form. It keeps its buffers from one value to the next.
type jsonParser struct {
	in      []byte
	pos     int
	out     []byte
	members []member // of the objects that are open, innermost last
	sorted  []byte
	depth   int
}

// member is one member of an object: out[start:middle] is its name, out[middle:end] its value.
type member struct{ start, middle, end int }

// appendCanonical appends the canonical form of text to dst.
func (p *jsonParser) appendCanonical(dst, text []byte) ([]byte, error) {
	p.in, p.pos, p.out, p.depth, p.members = text, 0, dst, 0, p.members[:0]
	err := p.value()
	if err == nil && p.peek() != 0 {
		err = errJSON
	}
	out := p.out
	p.in, p.out = nil, nil
	if err != nil {
		return dst, err
	}
	return out, nil
}

// peek skips white space and returns the next byte, or 0 at the end.
func (p *jsonParser) peek() byte {
	for ; p.pos < len(p.in); p.pos++ {
		switch c := p.in[p.pos]; c {
		case ' ', '\t', '\n', '\r':
		case 0:
			return 0xff // not the end, and nothing that JSON knows
		default:
			return c
		}
	}
	return 0
}

func (p *jsonParser) value() error {
	switch c := p.peek(); c {
	case '{', '[':
		return p.nested(c)
	case '"':
		return p.string()
	case 'n':
		return p.word("null")
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	default:
		return p.number()
	}
}

// nested reads an array or an object.
func (p *jsonParser) nested(bracket byte) (err error) {
	if p.depth++; p.depth > maxJSONDepth {
		return errJSONDepth
	}
	p.out = append(p.out, bracket)
	p.pos++
	if bracket == '{' {
		err = p.object()
	} else {
		err = p.array()
	}
	p.depth--
	return err
}

func (p *jsonParser) word(w string) error {
	if !bytes.HasPrefix(p.in[p.pos:], []byte(w)) {
		return errJSON
	}
	p.pos += len(w)
	p.out = append(p.out, w[0])
	return nil
}

func (p *jsonParser) number() error {
	end := p.pos
	for end < len(p.in) && isNumberByte(p.in[end]) {
		end++
	}
	text := p.in[p.pos:end]
	digits := bytes.TrimPrefix(text, []byte("-"))
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return errJSON
	}
	out, err := appendDecimal(append(p.out, 'd'), text)
	p.out, p.pos = out, end
	return err
}

func isNumberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

func (p *jsonParser) array() error {
	if p.peek() == ']' {
		p.close(']')
		return nil
	}
	for {
		if err := p.value(); err != nil {
			return err
		}
		switch p.peek() {
		case ',':
			p.pos++
		case ']':
			p.close(']')
			return nil
		default:
			return errJSON
		}
	}
}

func (p *jsonParser) close(bracket byte) {
	p.out = append(p.out, bracket)
	p.pos++
}

func (p *jsonParser) object() error {
	first, start := len(p.members), len(p.out)
	for more := p.peek() != '}'; more; {
		if err := p.member(); err != nil {
			return err
		}
		switch p.peek() {
		case ',':
			p.pos++
		case '}':
			more = false
		default:
			return errJSON
		}
	}
	p.sort(start, p.members[first:])
	p.members = p.members[:first]
	p.close('}')
	return nil
}

func (p *jsonParser) member() error {
	m := member{start: len(p.out)}
	if p.peek() != '"' {
		return errJSON
	}
	if err := p.string(); err != nil {
		return err
	}
	m.middle = len(p.out)
	if p.peek() != ':' {
		return errJSON
	}
	p.pos++
	if err := p.value(); err != nil {
		return err
	}
	m.end = len(p.out)
	p.members = append(p.members, m)
	return nil
}

// sort puts the members of one object, which are all of out from start on, in order and drops all but the last of each
// name. Most objects are in order, and are not copied: deep nesting would copy the innermost value once a level.
func (p *jsonParser) sort(start int, members []member) {
	name := func(m member) []byte { return p.out[m.start:m.middle] }
	inOrder := true
	for i := 1; i < len(members) && inOrder; i++ {
		inOrder = bytes.Compare(name(members[i-1]), name(members[i])) < 0
	}
	if inOrder {
		return
	}
	slices.SortStableFunc(members, func(a, b member) int { return bytes.Compare(name(a), name(b)) })
	p.sorted = p.sorted[:0]
	for i, m := range members {
		if i+1 < len(members) && bytes.Equal(name(m), name(members[i+1])) {
			continue
		}
		p.sorted = append(p.sorted, p.out[m.start:m.end]...)
	}
	p.out = append(p.out[:start], p.sorted...)
}

func (p *jsonParser) string() error {
	p.pos++
	p.out = append(p.out, 's')
	for {
		run := p.pos
		for p.pos < len(p.in) && p.in[p.pos] >= ' ' && p.in[p.pos] != '"' && p.in[p.pos] != '\\' {
			p.pos++
		}
		p.out = append(p.out, p.in[run:p.pos]...)
		if p.pos == len(p.in) || p.in[p.pos] < ' ' {
			return errJSON
		}
		p.pos++
		if p.in[p.pos-1] == '"' {
			p.out = append(p.out, textEnd, textEnded)
			return nil
		}
		if err := p.escape(); err != nil {
			return err
		}
	}
}

var jsonEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads what follows a backslash.
func (p *jsonParser) escape() error {
	if p.pos == len(p.in) {
		return errJSON
	}
	c := p.in[p.pos]
	if c == 'u' {
		return p.unicodeEscape()
	}
	if jsonEscapes[c] == 0 {
		return errJSON
	}
	p.pos++
	p.out = append(p.out, jsonEscapes[c])
	return nil
}

func (p *jsonParser) unicodeEscape() error {
	r, ok := p.hex4()
	if !ok {
		return errJSON
	}
	if utf16.IsSurrogate(r) {
		if p.pos == len(p.in) || p.in[p.pos] != '\\' {
			return errJSONSurrogate
		}
		p.pos++
		low, ok := p.hex4()
		if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
			return errJSONSurrogate
		}
	}
	if r == 0 {
		p.out = append(p.out, textEnd, textZero)
		return nil
	}
	p.out = utf8.AppendRune(p.out, r)
	return nil
}

// hex4 reads the u and four digits of an escape.
func (p *jsonParser) hex4() (r rune, ok bool) {
	if len(p.in)-p.pos < 5 || p.in[p.pos] != 'u' {
		return 0, false
	}
	for _, c := range p.in[p.pos+1 : p.pos+5] {
		d, ok := hexDigit(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	p.pos += 5
	return r, true
}

func hexDigit(c byte) (d byte, ok bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
