package mysql

import (
	"errors"

	"github.com/lockstep-cdc/lockstep/digest"
)

// Readers of dates and times in row images. There are three sorts: those of today, those of before MySQL 5.6, which
// have no fraction, and those with a fraction of MariaDB with mysql56_temporal_format=OFF, which have a bigger number in
// the table's files than in the type's name (sql/field.cc of MariaDB's source, "_hires").
//
// A fraction of n digits takes (n+1)/2 bytes.

var errTime = errors.New("holds a date or time that cannot be read")

const (
	second = 1_000_000 // microseconds
	minute = 60 * second
	hour   = 60 * minute
)

// powers are those of ten.
var powers = [...]int64{1, 10, 100, 1000, 10_000, 100_000, 1_000_000}

// fractionSize is how many bytes a fraction of so many digits takes.
func fractionSize(digits int) int { return (digits + 1) / 2 }

// microseconds reads a fraction, which is counted in units of its last byte: hundredths, ten-thousandths, millionths.
func microseconds(fraction uint64, digits int) int64 {
	return int64(fraction) * powers[6-2*fractionSize(digits)]
}

// readDate reads day 5 bits | month 4 | year, the lowest first.
func readDate(c *planColumn, e *digest.Encoder, v []byte) error {
	packed := int(v[0]) | int(v[1])<<8 | int(v[2])<<16
	e.CivilDate(c.target, packed>>9, packed>>5&15, packed&31)
	return nil
}

// readDatetime reads, from the highest bit on, 1 | year*13 + month, 17 bits | day 5 | hour 5 | minute 6 | second 6, and the
// fraction.
func readDatetime(c *planColumn, e *digest.Encoder, v []byte) error {
	packed := int64(bigEndian(v[:5])) - 1<<39
	if packed < 0 {
		return errTime
	}
	months, clock := int(packed>>22), packed&(1<<17-1)
	return datetime(c, e, months, int(packed>>17&31), clock>>12, clock>>6&63, clock&63, microseconds(bigEndian(v[5:]), c.digits))
}

// datetime sets a column to a date, given in months of 13 to the year, and a time.
func datetime(c *planColumn, e *digest.Encoder, months, day int, h, m, s, us int64) error {
	if h > 23 || m > 59 || s > 59 || us >= second {
		return errTime
	}
	e.CivilTimestamp(c.target, months/13, months%13, day, h*hour+m*minute+s*second+us)
	return nil
}

// readTimestamp reads seconds since 1970 and the fraction.
func readTimestamp(c *planColumn, e *digest.Encoder, v []byte) error {
	return instant(c, e, bigEndian(v[:4]), microseconds(bigEndian(v[4:]), c.digits))
}

// instant sets a column to so many seconds and microseconds since 1970, of which none is the zero timestamp.
func instant(c *planColumn, e *digest.Encoder, seconds uint64, us int64) error {
	switch {
	case us >= second:
		return errTime
	case seconds == 0 && us == 0:
		e.CivilInstant(c.target, 0, 0, 0, 0)
	default:
		e.Instant(c.target, int64(seconds)*second+us)
	}
	return nil
}

// readTime reads, from the highest bit on, a sign and 0 | hour 10 bits | minute 6 | second 6, and the fraction, all
// together with 2^23 added to what is before the point: so the bytes of negative times are in order, too.
func readTime(c *planColumn, e *digest.Encoder, v []byte) error {
	bits := 8 * fractionSize(c.digits)
	packed := int64(bigEndian(v)) - 1<<(23+bits)
	negative := packed < 0
	if negative {
		packed = -packed
	}
	clock, fraction := packed>>bits, packed&(1<<bits-1)
	return duration(c, e, negative, clock>>12&1023, clock>>6&63, clock&63, microseconds(uint64(fraction), c.digits))
}

func duration(c *planColumn, e *digest.Encoder, negative bool, h, m, s, us int64) error {
	if h > 838 || m > 59 || s > 59 || us >= second {
		return errTime
	}
	us += h*hour + m*minute + s*second
	if negative {
		us = -us
	}
	e.Time(c.target, us)
	return nil
}

// readOldDatetime reads the number that the digits YYYYMMDDhhmmss make.
func readOldDatetime(c *planColumn, e *digest.Encoder, v []byte) error {
	n := littleEndian(v)
	if n > 99991231235959 {
		return errTime
	}
	date, clock := int(n/1_000_000), int64(n%1_000_000)
	return datetime(c, e, date/10_000*13+date/100%100, date%100, clock/10_000, clock/100%100, clock%100, 0)
}

func readOldTimestamp(c *planColumn, e *digest.Encoder, v []byte) error {
	return instant(c, e, littleEndian(v), 0)
}

// readOldTime reads the number that the digits hhmmss make, with a sign, in 3 bytes.
func readOldTime(c *planColumn, e *digest.Encoder, v []byte) error {
	n := int64(int32(littleEndian(v)<<8) >> 8)
	negative := n < 0
	if negative {
		n = -n
	}
	return duration(c, e, negative, n/10_000, n/100%100, n%100, 0)
}

// The sizes of times with a fraction of so many digits, as MariaDB keeps them with mysql56_temporal_format=OFF.
var (
	oldDatetimeSizes = [...]int{8, 6, 6, 7, 7, 7, 8}
	oldTimeSizes     = [...]int{3, 4, 4, 5, 5, 5, 6}
)

// readOldFineTimestamp reads seconds and the fraction, in its own digits.
func readOldFineTimestamp(c *planColumn, e *digest.Encoder, v []byte) error {
	return instant(c, e, bigEndian(v[:4]), int64(bigEndian(v[4:]))*powers[6-c.digits])
}

// readOldFineDatetime reads one number made of all parts, each times the range of those below it.
func readOldFineDatetime(c *planColumn, e *digest.Encoder, v []byte) error {
	n := int64(bigEndian(v))
	scale := powers[c.digits]
	us, n := n%scale*powers[6-c.digits], n/scale
	s, n := n%60, n/60
	m, n := n%60, n/60
	h, n := n%24, n/24
	if n < 0 || n>>5 > 13*10_000 {
		return errTime
	}
	return datetime(c, e, int(n>>5), int(n&31), h, m, s, us)
}

// readOldFineTime reads such a number with the one added that makes it positive: a second more than the longest time.
func readOldFineTime(c *planColumn, e *digest.Encoder, v []byte) error {
	scale := powers[c.digits]
	n := int64(bigEndian(v)) - (838*3600+59*60+59+1)*scale
	negative := n < 0
	if negative {
		n = -n
	}
	us, n := n%scale*powers[6-c.digits], n/scale
	return duration(c, e, negative, n/3600, n/60%60, n%60, us)
}
