package monitor

import (
	"crypto/rand"
	"encoding/base32"
	"time"
)

// crockford is the alphabet of ULIDs: digits and letters that are not mistaken for one another.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// NewID names what is found or asked for. It returns a ULID (github.com/ulid/spec): 48 bits of milliseconds and 80 random
// bits, in 26 characters that sort by time. Base32 groups from the front, the specification from the back, so two zero
// bits lead.
func NewID(at time.Time) string {
	var b [17]byte // 2 leading zero bits, then 128 bits, then 6 unused
	ms := uint64(at.UnixMilli())
	var id [16]byte
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	rand.Read(id[6:]) // never fails: crypto/rand
	carry := byte(0)
	for i, x := range id {
		b[i] = carry<<6 | x>>2
		carry = x & 3
	}
	b[16] = carry << 6
	return crockford.EncodeToString(b[:])[:26]
}
