package mysql

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
)

// labels are those of an enum or a set, in UTF-8.
type labels struct {
	text   [][]byte
	sorted []int // the labels' numbers, by their text
}

func newLabels(text [][]byte) labels {
	l := labels{text: text, sorted: make([]int, len(text))}
	for i := range l.sorted {
		l.sorted[i] = i
	}
	slices.SortFunc(l.sorted, func(a, b int) int { return cmp.Or(bytes.Compare(text[a], text[b]), cmp.Compare(a, b)) })
	return l
}

// Values that a server prints alike are not one value: an empty text may be an enum's empty label or its number 0, which stands where
// a label was asked for that does not exist; and of a set it may be none of its labels or an empty one, which is printed beside
// others, too, as nothing. So a number 0 is noLabel here, and an empty label of a set is what stands before a comma.

// noLabel is no text, and so no label.
var noLabel = []byte{0xff}

// enum is the text of an enum's number, counted from 1.
func (l *labels) enum(n uint64) ([]byte, error) {
	switch {
	case n == 0:
		return noLabel, nil
	case n > uint64(len(l.text)):
		return nil, errNoLabel
	}
	return l.text[n-1], nil
}

// has reports whether a set can have the value.
func (l *labels) has(bits uint64) bool { return len(l.text) >= 64 || bits>>len(l.text) == 0 }

// appendSet appends the labels of a set's value, in the order of their texts: members that define them in another order
// have the same value then.
func (l *labels) appendSet(dst []byte, bits uint64) []byte {
	first, start := true, len(dst)
	for _, i := range l.sorted {
		if bits>>i&1 == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		dst, first = append(dst, l.text[i]...), false
	}
	if !first && len(dst) == start {
		dst = append(dst, ',')
	}
	return dst
}

var (
	errLabels  = errors.New("has labels that cannot be read in its definition")
	errHidden  = errors.New("has a label with a question mark, which may stand for a character that the catalog cannot show; set binlog_row_metadata=FULL")
	errForeign = errors.New("has labels in a character set that lockstep cannot turn into UTF-8; convert it to utf8mb4")
)

// parseLabels reads the labels from the text of a type: enum('a','it”s'). The servers escape what cannot be seen.
func parseLabels(columnType string) ([]string, error) {
	_, rest, ok := strings.Cut(columnType, "(")
	var list []string
	for more := ok; more; {
		label, after, ok := cutLabel(rest)
		if !ok || after == "" {
			return nil, errLabels
		}
		list = append(list, label)
		more, rest = after[0] == ',', after[1:]
		if !more && after[0] != ')' {
			return nil, errLabels
		}
	}
	if len(list) == 0 {
		return nil, errLabels
	}
	return list, nil
}

// cutLabel reads a quoted label.
func cutLabel(text string) (label, rest string, ok bool) {
	if text == "" || text[0] != '\'' {
		return "", "", false
	}
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'' && i+1 < len(text) && text[i+1] == '\'':
			out.WriteByte(c)
			i++
		case c == '\'':
			return out.String(), text[i+1:], true
		case c == '\\' && i+1 < len(text):
			i++
			out.WriteByte(unescaped(text[i]))
		default:
			out.WriteByte(c)
		}
	}
	return "", "", false
}

func unescaped(c byte) byte {
	switch c {
	case '0':
		return 0
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	}
	return c
}

// charset says how the bytes of a character set are turned into UTF-8.
type charset byte

const (
	otherCharset charset = iota // not at all
	utf8Charset                 // they are
	latin1Charset
)

func charsetOf(name string) charset {
	switch name {
	case "utf8mb4", "utf8mb3", "utf8", "ascii":
		return utf8Charset
	case "latin1":
		return latin1Charset
	}
	return otherCharset
}

// labelText turns the text of a label, or of several, into UTF-8. In a character set that we do not know it may have only
// characters that are the same in all that have ASCII's, down to the national variants of it.
func labelText(charsetName string, text []byte) ([]byte, error) {
	switch charsetOf(charsetName) {
	case utf8Charset:
		return text, nil
	case latin1Charset:
		return appendLatin1(nil, text), nil
	}
	if strings.HasPrefix(charsetName, "utf") || charsetName == "ucs2" || !invariant(text) { // utf16, utf32: not of bytes
		return nil, errForeign
	}
	return text, nil
}

// invariant reports whether all characters are of ISO 646's invariant set.
func invariant(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > 'z' || strings.IndexByte("#$@[\\]^`", c) >= 0 {
			return false
		}
	}
	return true
}
