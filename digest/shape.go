package digest

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// validate checks all that the encoder and the key decoder rely on.
func (s Shape) validate() error {
	if len(s.Columns) > math.MaxUint16+1 {
		return fmt.Errorf("table %s has %d columns, more than lockstep can number", s.Table, len(s.Columns))
	}
	for i, c := range s.Columns {
		if i > 0 && s.Columns[i-1].Name >= c.Name {
			return fmt.Errorf("table %s: column %q follows %q: columns must be sorted by name and unique", s.Table, c.Name, s.Columns[i-1].Name)
		}
		if err := c.validate(); err != nil {
			return fmt.Errorf("table %s: column %q %w", s.Table, c.Name, err)
		}
	}
	return s.validateKey()
}

func (s Shape) validateKey() error {
	if len(s.Key) == 0 {
		return fmt.Errorf("table %s has no key column", s.Table)
	}
	for i, col := range s.Key {
		switch {
		case col < 0 || col >= len(s.Columns):
			return fmt.Errorf("table %s: key column number %d is not among the %d columns", s.Table, col, len(s.Columns))
		case slices.Contains(s.Key[:i], col):
			return fmt.Errorf("table %s: key names column %q twice", s.Table, s.Columns[col].Name)
		case s.Columns[col].Class == JSON:
			return fmt.Errorf("table %s: column %q is json, which has no order and cannot be part of a key", s.Table, s.Columns[col].Name)
		}
	}
	return nil
}

func (c Column) validate() error {
	switch {
	case c.Name == "":
		return errors.New("has no name")
	case c.Class < Int || c.Class > Verbatim:
		return fmt.Errorf("has the unknown class %d", uint8(c.Class))
	case c.Class == Verbatim && c.Type == "":
		return errors.New("is verbatim but does not name its type")
	case c.Wide && !c.Class.varies():
		return fmt.Errorf("is marked wide, but a value of class %s is always sent", c.Class)
	}
	return nil
}

// varies reports whether values of the class can be so long that a server keeps them apart from their row.
func (c Class) varies() bool {
	switch c {
	case Decimal, Text, Bytes, JSON, Verbatim:
		return true
	}
	return false
}
