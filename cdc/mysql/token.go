package mysql

import (
	"strings"
	"unicode/utf8"
)

// tokenKind says what a piece of a statement is.
type tokenKind uint8

const (
	word    tokenKind = iota + 1 // a keyword or a name without quotes
	quoted                       // a name in quotes; its text is without them
	literal                      // a string without its quotes, or a number
	mark                         // one character of anything else
)

// token is one piece of a statement.
type token struct {
	kind tokenKind
	text string
	hex  bool // a literal in hexadecimal, whose digits are kept: X'7831' and 0x7831
}

// is reports whether the token is a certain keyword, or mark.
func (t token) is(text string) bool {
	return t.kind == word && strings.EqualFold(t.text, text) || t.kind == mark && t.text == text
}

// in reports whether the token is one of several keywords or marks.
func (t token) in(texts ...string) bool {
	for _, text := range texts {
		if t.is(text) {
			return true
		}
	}
	return false
}

// name reports whether the token may be the name of something.
func (t token) name() bool { return t.kind == word || t.kind == quoted }

// dialect is what a session's sql_mode says of how its statements are read.
type dialect struct {
	ansiQuotes  bool // "..." is a name
	noBackslash bool // \ in a string is just a character
}

// tokenize takes a statement apart. What MySQL takes for a comment is left out, but for the insides of /*! */, which some
// versions run. It takes any bytes: what has no end ends with the statement.
func tokenize(statement string, d dialect) []token {
	var tokens []token
	run := false // inside /*! */
	for rest := statement; rest != ""; {
		switch c := rest[0]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			rest = rest[1:]
		case c == '#', strings.HasPrefix(rest, "--") && (len(rest) == 2 || rest[2] <= ' '):
			rest = afterFirst(rest, "\n")
		case strings.HasPrefix(rest, "/*"):
			var runs bool
			rest, runs = skipComment(rest)
			run = run || runs
		case run && strings.HasPrefix(rest, "*/"):
			rest, run = rest[2:], false
		default:
			var t token
			t, rest = cutToken(rest, d)
			tokens = append(tokens, t)
		}
	}
	return tokens
}

// skipComment goes over a comment, or into one whose insides may be run: /*!50001 ... */ and MariaDB's /*M!100100 ... */.
func skipComment(rest string) (after string, runs bool) {
	inside, runs := strings.CutPrefix(rest, "/*!")
	if !runs {
		inside, runs = strings.CutPrefix(rest, "/*M!")
	}
	if !runs {
		return afterFirst(rest[2:], "*/"), false
	}
	return strings.TrimLeft(inside, "0123456789"), true
}

func afterFirst(s, end string) string {
	_, rest, _ := strings.Cut(s, end)
	return rest
}

// cutToken cuts off the first token. rest is not empty and does not begin with space.
func cutToken(rest string, d dialect) (token, string) {
	c := rest[0]
	switch {
	case c == '`', c == '"' && d.ansiQuotes:
		text, rest := cutQuoted(rest, false)
		return token{kind: quoted, text: text}, rest
	case c == '\'', c == '"':
		text, rest := cutQuoted(rest, !d.noBackslash)
		return token{kind: literal, text: text}, rest
	case (c == 'x' || c == 'X') && len(rest) > 1 && rest[1] == '\'':
		digits, rest := cutQuoted(rest[1:], false)
		return token{kind: literal, text: digits, hex: true}, rest
	}
	n := 0
	for n < len(rest) && inWord(rest[n]) {
		n++
	}
	switch {
	case n == 0:
		_, n = utf8.DecodeRuneInString(rest)
		return token{kind: mark, text: rest[:n]}, rest[n:]
	case n > 2 && rest[0] == '0' && rest[1]|0x20 == 'x' && isHex(rest[2:n]):
		return token{kind: literal, text: rest[2:n], hex: true}, rest[n:]
	case strings.Trim(rest[:n], "0123456789") == "":
		return token{kind: literal, text: rest[:n]}, rest[n:]
	}
	return token{kind: word, text: rest[:n]}, rest[n:]
}

// inWord reports whether a byte may be part of a name without quotes. Bytes of UTF-8 are.
func inWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// cutQuoted cuts off what begins with a quote, up to the next one that is not doubled.
func cutQuoted(rest string, backslash bool) (text, after string) {
	quote, doubled := rest[0], false
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && backslash:
			i++
		case rest[i] != quote:
		case i+1 < len(rest) && rest[i+1] == quote:
			doubled = true
			i++
		default:
			text = rest[1:i]
			if doubled {
				text = strings.ReplaceAll(text, rest[:1]+rest[:1], rest[:1])
			}
			return text, rest[i+1:]
		}
	}
	return rest[1:], ""
}
