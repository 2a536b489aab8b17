package archive

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// statement is one without a signature: a line a file.
const statement = "statement"

func stated(files []Content) Content {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%s %d %x\n", f.Name, len(f.Bytes), sha256.Sum256(f.Bytes))
	}
	return Content{statement, []byte(b.String())}
}

func parse(content []byte) (files []File, err error) {
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, errors.New("a line that says nothing")
		}
		f := File{Name: fields[0]}
		if f.Length, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
			return nil, err
		}
		sum, err := hex.DecodeString(fields[2])
		if err != nil || len(sum) != len(f.SHA256) {
			return nil, errors.New("no digest")
		}
		copy(f.SHA256[:], sum)
		files = append(files, f)
	}
	return files, nil
}

const most = 1 << 16

func read(b []byte) (map[string][]byte, error) {
	return Read(bytes.NewReader(b), int64(len(b)), Statement{Name: statement, Most: most, Verify: parse})
}

// packed is an archive of files with their statement.
func packed(t testing.TB, files ...Content) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, append([]Content{stated(files)}, files...)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var (
	page  = Content{"report.html", []byte(strings.Repeat("<p>one</p>", 100))}
	lists = Content{"ranges/00ff", []byte("x")}
	none  = Content{"zero.csv", nil}
)

// What is written is read back, by us and by any other program.
func TestAnArchiveIsReadAsItWasWritten(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	noise := func(n int) []byte {
		b := make([]byte, n)
		_, _ = random.Read(b)
		return b
	}
	files := []Content{page, lists, none}
	for _, n := range []int{1, 2, 3, 100, 16383, 16384, 16385, 65535, 65536, 1<<20 + 1} { // which deflate makes longer
		files = append(files, Content{fmt.Sprintf("noise/%d", n), noise(n)}, Content{fmt.Sprintf("zeros/%d", n), make([]byte, n)})
	}
	b := packed(t, files...)
	got, err := read(b)
	if err != nil || len(got) != len(files)+1 {
		t.Fatal(len(got), err)
	}
	for _, f := range files {
		if !bytes.Equal(got[f.Name], f.Bytes) {
			t.Errorf("%s is read otherwise", f.Name)
		}
	}
	sameAsOthersRead(t, b, got)
}

// sameAsOthersRead holds what we have read against what another program reads.
func sameAsOthersRead(t *testing.T, b []byte, got map[string][]byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(z.File) != len(got) || z.Comment != "" {
		t.Fatalf("of %d files, another program says %v", len(got), err)
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(content, got[f.Name]) || !f.Mode().IsRegular() || f.Comment != "" {
			t.Fatalf("%s is read otherwise by another program: %v", f.Name, err)
		}
	}
}

// forged is a file of an archive whose headers say what they are told to.
type forged struct {
	entry
	content []byte // packed
	local   func(header []byte)
	listed  func(header []byte)
	before  []byte // bytes in front of it
	hidden  bool   // it is not in the directory
	ghost   bool   // it is in the directory only
}

// forge makes an archive, with other bytes before and behind its directory.
func forge(files []forged, behind, tail []byte) []byte {
	var b, directory []byte
	n := 0
	change := func(header []byte, by func([]byte)) []byte {
		if by != nil {
			by(header)
		}
		return header
	}
	for _, f := range files {
		b = append(b, f.before...)
		f.offset = uint32(len(b))
		if !f.ghost {
			b = append(append(b, change(f.entry.local(), f.local)...), f.content...)
		}
		if !f.hidden {
			directory = append(directory, change(f.entry.listed(), f.listed)...)
			n++
		}
	}
	b = append(b, behind...)
	return append(append(append(b, directory...), end(n, len(directory), int64(len(b)))...), tail...)
}

func deflate(b []byte) []byte {
	var packed bytes.Buffer
	z, _ := flate.NewWriter(&packed, flate.DefaultCompression)
	_, _ = z.Write(b)
	_ = z.Close()
	return packed.Bytes()
}

// honest is a file as it is to be.
func honest(c Content) forged {
	content := deflate(c.Bytes)
	return forged{entry: entry{name: c.Name, crc: crc32.ChecksumIEEE(c.Bytes), packed: uint32(len(content)), length: uint32(len(c.Bytes))}, content: content}
}

func put16(at int, v uint16) func([]byte) {
	return func(h []byte) { binary.LittleEndian.PutUint16(h[at:], v) }
}
func put32(at int, v uint32) func([]byte) {
	return func(h []byte) { binary.LittleEndian.PutUint32(h[at:], v) }
}

// Whatever makes an archive mean different things to different programs, or takes more than it says, is refused.
func TestEveryAttackOnAnArchiveIsRefused(t *testing.T) {
	declared := []Content{page, lists, none}
	for name, c := range map[string]struct {
		change func(f []forged) ([]forged, []byte, []byte)
		want   string // nothing: it is read
	}{
		"nothing":                 {func(f []forged) ([]forged, []byte, []byte) { return f, nil, nil }, ""},
		"a second file of a name": {func(f []forged) ([]forged, []byte, []byte) { return append(f, honest(page)), nil, nil }, "report.html is there a second time"},
		"a second one, other case": {func(f []forged) ([]forged, []byte, []byte) {
			return append(f, honest(Content{"REPORT.html", nil})), nil, nil
		}, "REPORT.html is not of this report"},
		"a second one, in between": {func(f []forged) ([]forged, []byte, []byte) { return []forged{f[0], f[1], f[1], f[2], f[3]}, nil, nil }, "report.html is there a second time"},
		"a second one, in front":   {func(f []forged) ([]forged, []byte, []byte) { return append([]forged{f[1]}, f...), nil, nil }, "it begins with report.html and not with statement"},
		"a second one, unlisted": {func(f []forged) ([]forged, []byte, []byte) {
			g := honest(page)
			g.hidden = true
			return append(f, g), nil, nil
		}, "report.html is there a second time"},
		"a second statement": {func(f []forged) ([]forged, []byte, []byte) { return append(f, f[0]), nil, nil }, "statement is there a second time"},
		"listed twice":       {func(f []forged) ([]forged, []byte, []byte) { g := f[1]; g.ghost = true; return append(f, g), nil, nil }, "the directory lists more files than there are"},
		"not listed":         {func(f []forged) ([]forged, []byte, []byte) { f[3].hidden = true; return f, nil, nil }, "the directory"},
		"an undeclared file": {func(f []forged) ([]forged, []byte, []byte) {
			return append(f, honest(Content{"more.csv", []byte("x")})), nil, nil
		}, "more.csv is not of this report"},
		"an undeclared folder": {func(f []forged) ([]forged, []byte, []byte) {
			return append(f, honest(Content{"ranges/", nil})), nil, nil
		}, `"ranges/" is no name of a file of a report`},
		"a missing file": {func(f []forged) ([]forged, []byte, []byte) { return f[:3], nil, nil }, "zero.csv is missing"},
		"another order":  {func(f []forged) ([]forged, []byte, []byte) { return []forged{f[0], f[2], f[1], f[3]}, nil, nil }, "report.html is missing, or not in its place: there is ranges/00ff"},
		"bytes before": {func(f []forged) ([]forged, []byte, []byte) {
			f[0].before = []byte("MZ and a program")
			return f, nil, nil
		}, "other bytes lie before its first file"},
		"bytes between":              {func(f []forged) ([]forged, []byte, []byte) { f[2].before = []byte("x"); return f, nil, nil }, "other bytes lie before ranges/00ff"},
		"bytes before the directory": {func(f []forged) ([]forged, []byte, []byte) { return f, []byte("x"), nil }, "the directory does not list statement"},
		"bytes after":                {func(f []forged) ([]forged, []byte, []byte) { return f, nil, []byte("<script>") }, "8 other bytes lie behind its end"},
		"a whole archive after":      {func(f []forged) ([]forged, []byte, []byte) { return f, nil, forge([]forged{honest(page)}, nil, nil) }, "other bytes lie behind its end"},
		"a comment": {func(f []forged) ([]forged, []byte, []byte) {
			b := forge(f, nil, nil)
			put16(len(b)-2, 3)(b)
			return nil, b, []byte("abc")
		}, "a comment lies behind the directory"},
		"a path out of the folder": {func(f []forged) ([]forged, []byte, []byte) {
			return append(f, honest(Content{"../../etc/cron.d/x", nil})), nil, nil
		}, "lies outside of the folder"},
		"a path from the root": {func(f []forged) ([]forged, []byte, []byte) {
			return append(f, honest(Content{"/etc/passwd", nil})), nil, nil
		}, "lies outside of the folder"},
		"a path of Windows": {func(f []forged) ([]forged, []byte, []byte) { return append(f, honest(Content{`..\x`, nil})), nil, nil }, "is no name of a file of a report"},
		"what a terminal obeys": {func(f []forged) ([]forged, []byte, []byte) {
			return append(f, honest(Content{"\x1b[2J", nil})), nil, nil
		}, `"\x1b[2J" is no name of a file of a report`},
		"a link":                  {func(f []forged) ([]forged, []byte, []byte) { f[2].listed = put32(38, 0o120777<<16); return f, nil, nil }, "ranges/00ff is listed as a link"},
		"a device":                {func(f []forged) ([]forged, []byte, []byte) { f[2].listed = put32(38, 0o020777<<16); return f, nil, nil }, "ranges/00ff is listed otherwise than it is there"},
		"an encrypted file":       {func(f []forged) ([]forged, []byte, []byte) { f[1].local = put16(6, 1); return f, nil, nil }, "report.html is encrypted"},
		"encrypted, by the list":  {func(f []forged) ([]forged, []byte, []byte) { f[1].listed = put16(8, 1); return f, nil, nil }, "report.html is listed otherwise"},
		"an encrypted statement":  {func(f []forged) ([]forged, []byte, []byte) { f[0].local = put16(6, 1); return f, nil, nil }, "statement is encrypted"},
		"stored":                  {func(f []forged) ([]forged, []byte, []byte) { f[1].local = put16(8, 0); return f, nil, nil }, "report.html is packed by method 0"},
		"bzip2":                   {func(f []forged) ([]forged, []byte, []byte) { f[1].local = put16(8, 12); return f, nil, nil }, "report.html is packed by method 12"},
		"lengths behind the file": {func(f []forged) ([]forged, []byte, []byte) { f[1].local = put16(6, 8); return f, nil, nil }, "does not say before its content how long that is"},
		"ZIP64":                   {func(f []forged) ([]forged, []byte, []byte) { f[1].local = put32(18, 1<<32-1); return f, nil, nil }, "does not say before its content how long that is"},
		"an extra field":          {func(f []forged) ([]forged, []byte, []byte) { f[1].local = put16(28, 4); return f, nil, nil }, "report.html has a header that is not of a report"},
		"another time":            {func(f []forged) ([]forged, []byte, []byte) { f[1].local = put16(10, 7); return f, nil, nil }, "report.html has a header that is not of a report"},
		"listed with another name": {func(f []forged) ([]forged, []byte, []byte) {
			f[1].listed = func(h []byte) { h[46] = 'R' }
			return f, nil, nil
		}, "report.html is listed by another name"},
		"listed with other lengths": {func(f []forged) ([]forged, []byte, []byte) { f[1].listed = put32(24, 7); return f, nil, nil }, "report.html is listed otherwise"},
		"listed in another place":   {func(f []forged) ([]forged, []byte, []byte) { f[1].listed = put32(42, 0); return f, nil, nil }, "report.html is listed otherwise"},
		"listed with a comment":     {func(f []forged) ([]forged, []byte, []byte) { f[1].listed = put16(32, 1); return f, nil, nil }, "report.html is listed otherwise"},
		"another checksum":          {func(f []forged) ([]forged, []byte, []byte) { f[1].crc++; return f, nil, nil }, "report.html has another checksum than its header says"},
		"another content": {func(f []forged) ([]forged, []byte, []byte) {
			f[1] = honest(Content{page.Name, bytes.ToUpper(page.Bytes)})
			return f, nil, nil
		}, "report.html was changed"},
		"a bomb that says so": {func(f []forged) ([]forged, []byte, []byte) {
			f[1] = honest(Content{page.Name, make([]byte, 4<<20)})
			return f, nil, nil
		}, "report.html was changed: it is to have 1000 bytes, and the archive has 4194304 of it"},
		"a bomb that does not": {func(f []forged) ([]forged, []byte, []byte) {
			f[1].content = deflate(make([]byte, 1<<16))
			f[1].packed = uint32(len(f[1].content))
			return f, nil, nil
		}, "report.html unpacks to more than the 1000 bytes that it is to have"},
		"a statement that is a bomb": {func(f []forged) ([]forged, []byte, []byte) {
			f[0] = honest(Content{statement, make([]byte, 4<<20)})
			return f, nil, nil
		}, "statement has 4194304 bytes, more than the 65536 that are read of it"},
		"a statement that hides it": {func(f []forged) ([]forged, []byte, []byte) {
			f[0].content = deflate(make([]byte, 4<<20))
			f[0].packed = uint32(len(f[0].content))
			return f, nil, nil
		}, "which cannot be 4084 when they are packed"},
		"a length from nothing": {func(f []forged) ([]forged, []byte, []byte) { f[1].packed, f[1].content = 0, nil; return f, nil, nil }, "report.html has 1000 bytes, which cannot be 0 when they are packed"},
		"padding in the content": {func(f []forged) ([]forged, []byte, []byte) {
			f[3].content = bytes.Repeat(f[3].content, 1000)
			f[3].packed = uint32(len(f[3].content))
			return f, nil, nil
		}, "zero.csv has 0 bytes, which cannot be"},
		"bytes behind the content": {func(f []forged) ([]forged, []byte, []byte) {
			f[1].content, f[1].packed = append(f[1].content, 'x'), f[1].packed+1
			return f, nil, nil
		}, "report.html has other bytes behind its content"},
		"content that is cut off": {func(f []forged) ([]forged, []byte, []byte) {
			f[1].content, f[1].packed = f[1].content[:9], 9
			return f, nil, nil
		}, "report.html cannot be unpacked to the 1000 bytes"},
		"no content of deflate": {func(f []forged) ([]forged, []byte, []byte) {
			f[1].content = bytes.Repeat([]byte{255}, len(f[1].content))
			return f, nil, nil
		}, "report.html cannot be unpacked"},
	} {
		t.Run(name, func(t *testing.T) {
			files := []forged{honest(stated(declared))}
			for _, f := range declared {
				files = append(files, honest(f))
			}
			files, behind, tail := c.change(files)
			b := append(behind, tail...)
			if files != nil {
				b = forge(files, behind, tail)
			}
			got, err := read(b)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				sameAsOthersRead(t, b, got)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("it says %q, want %q", fmt.Sprint(err), c.want)
			}
		})
	}
}

// What a statement says is not believed either where no archive can have it.
func TestAStatementOfWhatNoArchiveCanHaveIsRefused(t *testing.T) {
	sum := strings.Repeat("0", 64)
	for text, want := range map[string]string{
		"../x 1 " + sum:                         "lies outside of the folder",
		"a 1 " + sum + "\na 1 " + sum:           "statement names a twice",
		"a 1 " + sum + "\nA 1 " + sum:           "statement names A twice",
		statement + " 1 " + sum:                 "statement names statement twice",
		"a -1 " + sum:                           "gives no length of a",
		"a 99999999999 " + sum:                  "gives no length of a",
		strings.Repeat("a 1 "+sum+"\n", Most+1): "",
	} {
		var b bytes.Buffer
		if err := Write(&b, []Content{{statement, []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := read(b.Bytes()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, want %q", err, want)
		}
	}
}

func TestWhatIsNoArchiveIsToldApart(t *testing.T) {
	for _, b := range [][]byte{nil, []byte("PK"), []byte("data_dir: /var/lib/lockstep\n"), make([]byte, 1<<18)} {
		if _, err := read(b); !errors.Is(err, ErrNone) {
			t.Errorf("%.10q: %v", b, err)
		}
	}
	for _, f := range []Content{{"../x", nil}, {"a\\b", nil}, {"", nil}, {strings.Repeat("x", 256), nil}} {
		if err := Write(io.Discard, []Content{f}); err == nil {
			t.Errorf("%q is written", f.Name)
		}
	}
}

// Not one byte may be another, but in how a content is packed; and what is read then is what any other program reads.
func TestNoByteOfAnArchiveMayChange(t *testing.T) {
	b := packed(t, page, lists, none)
	for i := range b {
		for _, bit := range []byte{1, 16, 128} {
			changed := bytes.Clone(b)
			changed[i] ^= bit
			if got, err := read(changed); err == nil {
				sameAsOthersRead(t, changed, got)
				if !bytes.Equal(got[page.Name], page.Bytes) {
					t.Fatalf("byte %d", i)
				}
			}
		}
	}
	for n := range b {
		if _, err := read(b[:n]); err == nil {
			t.Errorf("the first %d bytes pass", n)
		}
	}
}

// FuzzRead looks for an archive that passes and is something else to another program.
func FuzzRead(f *testing.F) {
	f.Add(packed(f, page, lists, none))
	f.Add(packed(f))
	f.Add(forge([]forged{honest(stated([]Content{page})), honest(page), honest(page)}, nil, nil))
	f.Add(forge([]forged{honest(stated([]Content{lists})), honest(lists)}, []byte("x"), []byte("y")))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := read(b)
		if err != nil {
			return
		}
		files, err := parse(got[statement])
		if err != nil || len(files)+1 != len(got) {
			t.Fatalf("%d files by a statement of %d (%v)", len(got), len(files), err)
		}
		for _, file := range files {
			if content := got[file.Name]; int64(len(content)) != file.Length || sha256.Sum256(content) != file.SHA256 {
				t.Fatalf("%s is another one than is stated", file.Name)
			}
		}
		sameAsOthersRead(t, b, got)
	})
}
