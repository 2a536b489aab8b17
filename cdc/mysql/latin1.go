package mysql

import (
	"slices"
	"unicode/utf8"
)

// windows1252 are the characters of the bytes 80 to 9f. MySQL's latin1 is Windows-1252, with the five bytes that have no
// character there as the control characters of ISO 8859-1
// (https://dev.mysql.com/doc/refman/9.0/en/charset-we-sets.html). All other bytes are their own code points.
var windows1252 = [32]rune{
	0x20ac, 0x0081, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008d, 0x017d, 0x008f,
	0x0090, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x009d, 0x017e, 0x0178,
}

// appendLatin1 appends latin1 text as UTF-8.
func appendLatin1(dst, v []byte) []byte {
	for {
		n := 0
		for n < len(v) && v[n] < utf8.RuneSelf {
			n++
		}
		dst = append(dst, v[:n]...)
		if n == len(v) {
			return dst
		}
		r := rune(v[n])
		if r < 0xa0 {
			r = windows1252[r-0x80]
		}
		dst, v = utf8.AppendRune(dst, r), v[n+1:]
	}
}

// latin1 is the inverse of appendLatin1. A character that latin1 does not have is an error.
func latin1(text string) ([]byte, error) {
	out := make([]byte, 0, len(text))
	for _, r := range text {
		i := slices.Index(windows1252[:], r)
		switch {
		case i >= 0:
			r = rune(0x80 + i)
		case r >= 0x80 && r < 0xa0 || r > 0xff:
			return nil, errNoValue
		}
		out = append(out, byte(r))
	}
	return out, nil
}
