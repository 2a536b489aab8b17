package mirror

import (
	"crypto/md5" // by which S3 has content checked
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
)

// entries is the level of the files that hold the entries themselves.
const entries = -1

// piece is a tile or a file of entries, full or of the first few of its hashes or entries (https://c2sp.org/tlog-tiles).
type piece struct {
	level int // 0 is the lowest of the tiles
	index uint64
	width uint8 // 1 to 255; 0: full
}

// pieces yields what a log of a size is made of: all that is full and, on each level, the one at its end that is not.
func pieces(size uint64) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		for level := entries; level <= 0 || size>>(layout.TileHeight*level) > 0; level++ {
			full, rest := widths(level, size)
			for i := range full {
				if !yield(piece{level: level, index: i}) {
					return
				}
			}
			if rest > 0 && !yield(piece{level, full, rest}) {
				return
			}
		}
	}
}

// widths is how many pieces of a level are full in a log of a size, and how wide the one behind them is.
func widths(level int, size uint64) (full uint64, rest uint8) {
	size >>= layout.TileHeight * max(level, 0)
	return size / layout.TileWidth, uint8(size % layout.TileWidth)
}

// of reports whether a log of a size has the piece as well.
func (p piece) of(size uint64) bool {
	full, rest := widths(p.level, size)
	if p.width == 0 {
		return p.index < full
	}
	return p.index == full && p.width == rest
}

func (p piece) name() string {
	if p.level == entries {
		return layout.EntriesPath(p.index, p.width)
	}
	return layout.TilePath(uint64(p.level), p.index, p.width)
}

// count is how many hashes or entries the piece has.
func (p piece) count() int {
	if p.width == 0 {
		return layout.TileWidth
	}
	return int(p.width)
}

// beginning is as much of a file as makes the piece. A tile has hashes, one after the other:
//
//	| hash, 32 bytes | ...
//
// A file of entries has each behind its length, with the high byte first:
//
//	| length, 2 bytes | entry | ...
func (p piece) beginning(raw []byte) ([]byte, error) {
	end := 0
	for n := range p.count() {
		next := rfc6962.DefaultHasher.Size()
		if p.level == entries {
			next = 2
			if len(raw)-end >= 2 {
				next += int(binary.BigEndian.Uint16(raw[end:]))
			}
		}
		if len(raw)-end < next {
			return nil, fmt.Errorf("it has %d whole parts of %d", n, p.count())
		}
		end += next
	}
	return raw[:end], nil
}

func md5Of(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}
