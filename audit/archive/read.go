package archive

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// File is what a statement says of a file.
type File struct {
	Name   string
	Length int64
	SHA256 [sha256.Size]byte
}

// Statement is the first file of an archive.
type Statement struct {
	Name string
	Most int64 // bytes that it may have, packed or not
	// Verify says which files come after it, in their order. Nothing of them has been looked at then.
	Verify func(content []byte) ([]File, error)
}

// ErrNone says that something is no archive at all.
var ErrNone = errors.New("it is no ZIP archive")

// Read unpacks an archive of so many bytes. Until its statement is verified it takes no more memory and time than that may
// have, and then no more than that says. All that is not as [Write] would have it is an error.
func Read(r io.ReaderAt, size int64, s Statement) (map[string][]byte, error) {
	a := &reader{r: r, size: size, seen: make(map[string]bool)}
	if err := a.begin(); err != nil {
		return nil, err
	}
	statement, err := a.next(File{Name: s.Name, Length: -1}, s.Most)
	if err != nil {
		return nil, err
	}
	files, err := s.Verify(statement)
	if err == nil {
		err = a.declare(s.Name, files)
	}
	if err != nil {
		return nil, err
	}
	contents := map[string][]byte{s.Name: statement}
	for _, f := range files {
		if contents[f.Name], err = a.next(f, f.Length); err != nil {
			return nil, err
		}
	}
	return contents, a.finish()
}

// reader goes through an archive once, from its begin to its end.
type reader struct {
	r        io.ReaderAt
	size, at int64
	entries  []*entry
	seen     map[string]bool
	declared map[string]bool // nil: it is not known yet what there is to be
}

// begin tells what is no archive from one that has something in front of it.
func (a *reader) begin() error {
	head, err := a.bytes(4)
	if err == nil && bytes.Equal(head, signature(fileSignature)) {
		return nil
	}
	tail := make([]byte, min(a.size, endLength+1<<16))
	if _, err := a.r.ReadAt(tail, a.size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Contains(tail, signature(endSignature)) {
		return ErrNone
	}
	return errors.New("other bytes lie before its first file")
}

func signature(s uint32) []byte { return binary.LittleEndian.AppendUint32(nil, s) }

// bytes are the next n, which are not passed over.
func (a *reader) bytes(n int) ([]byte, error) {
	if a.size-a.at < int64(n) {
		return nil, errors.New("it is cut off")
	}
	b := make([]byte, n)
	if _, err := a.r.ReadAt(b, a.at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// declare checks what a statement says, before any of it is looked for.
func (a *reader) declare(statement string, files []File) error {
	a.declared = map[string]bool{statement: true}
	folded := map[string]bool{strings.ToLower(statement): true} // as some file systems have names
	if len(files) > Most {
		return fmt.Errorf("%s names %d files, more than %d", statement, len(files), Most)
	}
	for _, f := range files {
		err := usable(f.Name)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", statement, err)
		case folded[strings.ToLower(f.Name)]:
			return fmt.Errorf("%s names %s twice", statement, f.Name)
		case f.Length < 0 || f.Length > MostBytes:
			return fmt.Errorf("%s gives no length of %s that an archive may have", statement, f.Name)
		}
		a.declared[f.Name], folded[strings.ToLower(f.Name)] = true, true
	}
	return nil
}

// next unpacks the next file, which must be the one that is wanted. A length below zero is one that nothing has said.
func (a *reader) next(want File, most int64) ([]byte, error) {
	header, name, err := a.header(want.Name)
	if err != nil {
		return nil, err
	}
	if name != want.Name {
		return nil, a.other(name, want.Name)
	}
	e := &entry{
		name: name, crc: binary.LittleEndian.Uint32(header[14:]), packed: binary.LittleEndian.Uint32(header[18:]),
		length: binary.LittleEndian.Uint32(header[22:]), offset: uint32(a.at),
	}
	if err := e.check(header, want, most); err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	a.at += int64(len(header))
	if int64(e.packed) > a.size-a.at {
		return nil, fmt.Errorf("%s is cut off", name)
	}
	content, err := e.unpack(bufio.NewReader(io.NewSectionReader(a.r, a.at, int64(e.packed))))
	if err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	if want.Length >= 0 && sha256.Sum256(content) != want.SHA256 {
		return nil, fmt.Errorf("%s was changed", name)
	}
	a.at += int64(e.packed)
	a.entries, a.seen[name] = append(a.entries, e), true
	return content, nil
}

// header reads the header of the next file with its name.
func (a *reader) header(want string) (header []byte, name string, err error) {
	header, err = a.bytes(fileLength)
	if err == nil && !bytes.Equal(header[:4], signature(fileSignature)) {
		if after := header[:4]; bytes.Equal(after, signature(directorySignature)) || bytes.Equal(after, signature(endSignature)) {
			return nil, "", fmt.Errorf("%s is missing", want)
		}
		return nil, "", fmt.Errorf("other bytes lie before %s", want)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s is missing: %w", want, err)
	}
	n := int(binary.LittleEndian.Uint16(header[26:]))
	if n > longestName {
		return nil, "", errors.New("the name of a file is longer than any of a report")
	}
	if header, err = a.bytes(fileLength + n); err != nil {
		return nil, "", fmt.Errorf("%s: %w", want, err)
	}
	return header, string(header[fileLength:]), nil
}

// other says why a file is not the one that is wanted in its place.
func (a *reader) other(name, want string) error {
	bad := usable(name)
	switch {
	case a.seen[name]:
		return fmt.Errorf("%s is there a second time", name)
	case bad != nil:
		return bad
	case a.declared != nil && !a.declared[name]:
		return fmt.Errorf("%s is not of this report", name)
	case a.declared != nil:
		return fmt.Errorf("%s is missing, or not in its place: there is %s", want, name)
	default:
		return fmt.Errorf("it begins with %s and not with %s, as lockstep writes archives: ask for it as it was written, since others pack them in ways that hide files", name, want)
	}
}

// check holds a header against what is wanted and against the one that [Write] would have made.
func (e *entry) check(header []byte, want File, most int64) error {
	flags, method := binary.LittleEndian.Uint16(header[6:]), binary.LittleEndian.Uint16(header[8:])
	switch {
	case flags&1 != 0:
		return errors.New("is encrypted")
	case method != deflated:
		return fmt.Errorf("is packed by method %d; reports have %d, deflate", method, deflated)
	case flags&8 != 0 || e.packed > MostBytes || e.length > MostBytes:
		return errors.New("does not say before its content how long that is, as files of a report do")
	case want.Length >= 0 && int64(e.length) != want.Length:
		return fmt.Errorf("was changed: it is to have %d bytes, and the archive has %d of it", want.Length, e.length)
	case int64(e.length) > most:
		return fmt.Errorf("has %d bytes, more than the %d that are read of it", e.length, most)
	case uint64(e.packed) > mostPacked(uint64(e.length)) || uint64(e.length) > mostUnpacked(uint64(e.packed)):
		return fmt.Errorf("has %d bytes, which cannot be %d when they are packed", e.length, e.packed)
	case !bytes.Equal(header, e.local()):
		return errors.New("has a header that is not of a report")
	}
	return nil
}

// mostPacked is how long deflate makes a content at most: 5 bytes more for each block that it stores, and for one that ends it.
func mostPacked(length uint64) uint64 { return length + 5*(length/(16<<10)+2) }

// mostUnpacked is of how many bytes deflate can have made so many: 258 bytes take 2 bits at least.
func mostUnpacked(packed uint64) uint64 { return 1032 * packed }

// unpack unpacks a content, which must be as long as its header says, packed and not.
func (e *entry) unpack(packed *bufio.Reader) ([]byte, error) {
	content := make([]byte, e.length)
	z := flate.NewReader(packed)
	if _, err := io.ReadFull(z, content); err != nil {
		return nil, fmt.Errorf("cannot be unpacked to the %d bytes that it is to have: %w", e.length, err)
	}
	var more [1]byte
	switch n, err := io.ReadFull(z, more[:]); {
	case n > 0:
		return nil, fmt.Errorf("unpacks to more than the %d bytes that it is to have", e.length)
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("cannot be unpacked: %w", err)
	}
	if _, err := packed.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has other bytes behind its content")
	}
	if crc32.ChecksumIEEE(content) != e.crc {
		return nil, errors.New("has another checksum than its header says")
	}
	return content, nil
}

// finish holds the directory, and what ends it, against the files that were read.
func (a *reader) finish() error {
	if head, err := a.bytes(4); err == nil && bytes.Equal(head, signature(fileSignature)) {
		_, name, err := a.header("the directory")
		if err == nil {
			err = a.other(name, "the directory")
		}
		return err
	}
	begin, length := a.at, 0
	for _, e := range a.entries {
		want := e.listed()
		got, err := a.bytes(len(want))
		if err != nil {
			return fmt.Errorf("the directory: %w", err)
		}
		if !bytes.Equal(got, want) {
			return e.listedOtherwise(got)
		}
		a.at, length = a.at+int64(len(want)), length+len(want)
	}
	want := end(len(a.entries), length, begin)
	got, err := a.bytes(len(want))
	switch {
	case err != nil:
		return fmt.Errorf("the end of the directory: %w", err)
	case bytes.Equal(got[:4], signature(directorySignature)):
		return errors.New("the directory lists more files than there are")
	case bytes.Equal(got[:4], signature(fileSignature)) || !bytes.Equal(got[:4], signature(endSignature)):
		return errors.New("other bytes lie behind the directory")
	case !bytes.Equal(got[:endLength-2], want[:endLength-2]):
		return errors.New("the end of the directory is not that of this directory")
	case !bytes.Equal(got, want):
		return errors.New("a comment lies behind the directory")
	case a.size > a.at+int64(len(want)):
		return fmt.Errorf("%d other bytes lie behind its end", a.size-a.at-int64(len(want)))
	}
	return nil
}

// listedOtherwise says in what a header of the directory differs from what the file is.
func (e *entry) listedOtherwise(got []byte) error {
	const linkMode, typeMode = 0o120000, 0o170000
	switch mode := binary.LittleEndian.Uint32(got[38:]) >> 16; {
	case !bytes.Equal(got[:4], signature(directorySignature)):
		return fmt.Errorf("the directory does not list %s", e.name)
	case mode&typeMode == linkMode:
		return fmt.Errorf("%s is listed as a link", e.name)
	case string(got[directoryLength:]) != e.name:
		return fmt.Errorf("%s is listed by another name, or in another place", e.name)
	default:
		return fmt.Errorf("%s is listed otherwise than it is there", e.name)
	}
}
