package cdc

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in a member's own log, in order. For PostgreSQL it is the byte position in the WAL, compared as a
// number, never as text: PostgreSQL 19 prints it padded with zeros. For MySQL and MariaDB see cdc/mysql.
type LSN uint64

// String prints the LSN as PostgreSQL does: two hexadecimal halves.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// MarshalText prints the LSN.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText parses the LSN.
func (l *LSN) UnmarshalText(b []byte) error {
	p, err := ParseLSN(string(b))
	if err != nil {
		return err
	}
	*l = p
	return nil
}

// ParseLSN reads PostgreSQL's text form of an LSN.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("parse LSN %q: want two hexadecimal numbers, such as 0/15261D0", s)
	}
	return LSN(h<<32 | l), nil
}
