// Package archive is the container of a report: a ZIP archive in which there is room for nothing but the files that its
// first one, a signed statement, names.
//
// Any program unpacks it. But to ZIP in general the same bytes may mean different files to different programs: names twice,
// directories that say something else than what they are of, bytes in between. So all but the packed content is a function
// of names, sizes and checksums here, and is held against what [Write] makes of them, byte by byte:
//
//	local header, content, deflated    of the statement
//	local header, content, deflated    of each file of it, in its order
//	directory: a header each
//	end of the directory
package archive

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"strings"
)

// Content is a file that goes into an archive.
type Content struct {
	Name  string
	Bytes []byte
}

// Most is how many files an archive may have beside its statement, and MostBytes how long it, or one of them, may be: what fits
// without ZIP64, by which an archive could say its sizes twice.
const (
	Most      = math.MaxUint16 - 1
	MostBytes = math.MaxUint32 - 1
)

// The parts of a ZIP archive: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, section 4.3.
const (
	fileSignature      = 0x04034b50
	directorySignature = 0x02014b50
	endSignature       = 0x06054b50
	fileLength         = 30
	directoryLength    = 46
	endLength          = 22

	deflated    = 8
	version     = 20             // 2.0: deflate
	madeBy      = 3<<8 | version // Unix
	regular     = 0o100644 << 16 // its mode
	modified    = 1<<5 | 1       // 1980-01-01, which says nothing
	longestName = 255
)

// entry is what headers say of a file.
type entry struct {
	name           string
	crc            uint32
	packed, length uint32
	offset         uint32
}

func (e *entry) common(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, 0) // flags
	b = binary.LittleEndian.AppendUint16(b, deflated)
	b = binary.LittleEndian.AppendUint16(b, 0) // time of day
	b = binary.LittleEndian.AppendUint16(b, modified)
	b = binary.LittleEndian.AppendUint32(b, e.crc)
	b = binary.LittleEndian.AppendUint32(b, e.packed)
	b = binary.LittleEndian.AppendUint32(b, e.length)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.name)))
	return binary.LittleEndian.AppendUint16(b, 0) // no extra field
}

// local is the header in front of the content.
func (e *entry) local() []byte {
	return append(e.common(binary.LittleEndian.AppendUint32(nil, fileSignature)), e.name...)
}

// listed is the header in the directory.
func (e *entry) listed() []byte {
	b := binary.LittleEndian.AppendUint32(nil, directorySignature)
	b = e.common(binary.LittleEndian.AppendUint16(b, madeBy))
	b = append(b, 0, 0, 0, 0, 0, 0) // no comment, disk 0, no internal attributes
	b = binary.LittleEndian.AppendUint32(b, regular)
	return append(binary.LittleEndian.AppendUint32(b, e.offset), e.name...)
}

// end is what ends the directory, which is so long and begins there.
func end(files, length int, at int64) []byte {
	b := append(binary.LittleEndian.AppendUint32(nil, endSignature), 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(files))
	b = binary.LittleEndian.AppendUint16(b, uint16(files))
	b = binary.LittleEndian.AppendUint32(b, uint32(length))
	return append(binary.LittleEndian.AppendUint32(b, uint32(at)), 0, 0)
}

// Write writes an archive of files in their order, of which the first one is the statement.
func Write(w io.Writer, files []Content) error {
	if len(files) > Most+1 {
		return fmt.Errorf("%d files are more than the %d that an archive may have: choose a shorter period", len(files), Most+1)
	}
	at := int64(0)
	var directory []byte
	for _, f := range files {
		e, packed, err := pack(f, at)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		directory = append(directory, e.listed()...)
		for _, part := range [][]byte{e.local(), packed} {
			if _, err := w.Write(part); err != nil {
				return err
			}
			at += int64(len(part))
		}
	}
	if at > MostBytes {
		return errLong
	}
	_, err := w.Write(append(directory, end(len(files), len(directory), at)...))
	return err
}

var errLong = fmt.Errorf("it is longer than the %d bytes that an archive may have: choose a shorter period", int64(MostBytes))

func pack(f Content, at int64) (*entry, []byte, error) {
	if err := usable(f.Name); err != nil {
		return nil, nil, err
	}
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.DefaultCompression)
	if err == nil {
		_, err = z.Write(f.Bytes)
	}
	if err = cmp.Or(err, z.Close()); err != nil {
		return nil, nil, err
	}
	if max(int64(len(f.Bytes)), int64(packed.Len()), at) > MostBytes {
		return nil, nil, errLong
	}
	e := &entry{f.Name, crc32.ChecksumIEEE(f.Bytes), uint32(packed.Len()), uint32(len(f.Bytes)), uint32(at)}
	return e, packed.Bytes(), nil
}

// usable reports names that could leave the folder into which an archive is unpacked, or be taken for another one there.
func usable(name string) error {
	odd := strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+/", r))
	})
	switch {
	case strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../"):
		return fmt.Errorf("%.80q lies outside of the folder that it is unpacked into", name)
	case odd || !fs.ValidPath(name) || name == "." || len(name) > longestName:
		return fmt.Errorf("%.80q is no name of a file of a report", name)
	}
	return nil
}
