package mirror

import (
	"bytes"
	"slices"
	"testing"
)

// By https://c2sp.org/tlog-tiles: files of 256, full or not, on as many levels as there are hashes.
func TestALogIsMadeOfThesePieces(t *testing.T) {
	for _, c := range []struct {
		size uint64
		want []string
	}{
		{0, nil},
		{1, []string{"tile/entries/000.p/1", "tile/0/000.p/1"}},
		{255, []string{"tile/entries/000.p/255", "tile/0/000.p/255"}},
		{256, []string{"tile/entries/000", "tile/0/000", "tile/1/000.p/1"}},
		{257, []string{"tile/entries/000", "tile/entries/001.p/1", "tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1"}},
		{513, []string{"tile/entries/000", "tile/entries/001", "tile/entries/002.p/1", "tile/0/000", "tile/0/001", "tile/0/002.p/1", "tile/1/000.p/2"}},
	} {
		var got []string
		for p := range pieces(c.size) {
			got = append(got, p.name())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d entries: %q, want %q", c.size, got, c.want)
		}
	}
	all := slices.Collect(pieces(256*256*256 + 256*256*3 + 256*7 + 9))
	if len(all) != 2*(256*256+3*256+7+1)+(256+3+1)+(1+1)+1 {
		t.Errorf("a log of four levels has %d pieces", len(all))
	}
	if last := all[len(all)-1].name(); last != "tile/3/000.p/1" || !slices.Contains(all, piece{1, 259, 7}) || !slices.Contains(all, piece{2, 1, 3}) {
		t.Errorf("a log of four levels ends with %s", last)
	}
}

// Whether a log has a piece is what listing all of its pieces says.
func TestAPieceIsOfALogThatListsIt(t *testing.T) {
	sizes := []uint64{0, 1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537, 66000}
	for _, small := range sizes {
		has := make(map[piece]bool)
		for p := range pieces(small) {
			has[p] = true
		}
		for _, large := range sizes {
			for p := range pieces(large) {
				if p.of(small) != has[p] {
					t.Errorf("%s is of a log of %d entries: %t, but listed: %t", p.name(), small, p.of(small), has[p])
				}
			}
		}
	}
}

func TestTheBeginningOfAFileIsCutAtItsParts(t *testing.T) {
	hashes := bytes.Repeat([]byte("0123456789abcdef0123456789ABCDEF"), 256)
	bundle := bytes.Repeat([]byte("\x00\x03abc\x00\x00"), 128) // of two entries, one of them empty
	for _, c := range []struct {
		name   string
		of     piece
		raw    []byte
		length int // -1: an error
	}{
		{"first hashes", piece{0, 0, 7}, hashes, 7 * 32},
		{"all hashes", piece{0, 0, 0}, hashes, 256 * 32},
		{"more than all", piece{0, 0, 0}, append(hashes, 1), 256 * 32},
		{"too few hashes", piece{0, 0, 7}, hashes[:7*32-1], -1},
		{"first entry", piece{entries, 0, 1}, bundle, 5},
		{"first entries", piece{entries, 0, 2}, bundle, 7},
		{"all entries", piece{entries, 0, 0}, bundle, len(bundle)},
		{"half a length", piece{entries, 0, 2}, bundle[:6], -1},
		{"half an entry", piece{entries, 0, 1}, bundle[:4], -1},
		{"nothing", piece{entries, 0, 1}, nil, -1},
	} {
		got, err := c.of.beginning(c.raw)
		if (err != nil) != (c.length < 0) || err == nil && !bytes.Equal(got, c.raw[:c.length]) {
			t.Errorf("%s: %d bytes, %v, want %d", c.name, len(got), err, c.length)
		}
	}
}

func FuzzBeginning(f *testing.F) {
	f.Add([]byte("\x00\x03abc\x00\x00"), uint8(2), true)
	f.Add(make([]byte, 64), uint8(1), false)
	f.Fuzz(func(t *testing.T, raw []byte, width uint8, isEntries bool) {
		p := piece{width: width}
		if isEntries {
			p.level = entries
		}
		got, err := p.beginning(raw)
		if err == nil && (!bytes.HasPrefix(raw, got) || !isEntries && len(got) != 32*p.count() || len(got) < 2*p.count()) {
			t.Errorf("%d bytes of %d are the beginning of %d", len(got), len(raw), p.count())
		}
	})
}
