package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readCopy(columns int, pieces ...string) (rows [][]string, err error) {
	c := &copyReader{columns: columns, row: func(fields [][]byte) error {
		var row []string
		for _, f := range fields {
			if f == nil {
				row = append(row, "NULL")
			} else {
				row = append(row, "="+string(f))
			}
		}
		rows = append(rows, row)
		return nil
	}}
	for _, p := range pieces {
		if _, err := c.Write([]byte(p)); err != nil {
			return rows, err
		}
	}
	return rows, c.close()
}

func TestCopyTextIsTakenApart(t *testing.T) {
	for _, c := range []struct {
		pieces []string
		want   [][]string
	}{
		{nil, nil},
		{[]string{"1\t2\n"}, [][]string{{"=1", "=2"}}},
		{[]string{"\t\\N\n"}, [][]string{{"=", "NULL"}}},
		{[]string{`\\N` + "\t" + `a\tb\nc\\d\r\b\f\v` + "\n"}, [][]string{{`=\N`, "=a\tb\nc\\d\r\b\f\v"}}},
		{[]string{"1", "\t2", "\n3\t", "4\n"}, [][]string{{"=1", "=2"}, {"=3", "=4"}}},
		{[]string{`a\`, `\` + "\t" + `\`, "N\n"}, [][]string{{`=a\`, "NULL"}}},
	} {
		got, err := readCopy(2, c.pieces...)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", c.pieces, err, diff)
		}
	}
}

func TestCopyTextThatIsDamagedIsAnError(t *testing.T) {
	for _, text := range []string{"1\n", "1\t2\t3\n", "1\t2", "1\t\\x\n", "1\t2\\\n", "1\t\\N\\N\n"} {
		if rows, err := readCopy(2, text); !errors.Is(err, errCopy) {
			t.Errorf("%q gives %q, %v", text, rows, err)
		}
	}
}

// FuzzCopyText writes rows in COPY's format and reads them back in two pieces.
func FuzzCopyText(f *testing.F) {
	f.Add("a\tb", "\\N", 3)
	f.Add("", "\x00\r\n\\", 0)
	escape := strings.NewReplacer("\\", `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\v", `\v`)
	f.Fuzz(func(t *testing.T, a, b string, cut int) {
		text := escape.Replace(a) + "\t" + escape.Replace(b) + "\n\\N\t\\N\n"
		cut = min(max(cut, 0), len(text))
		got, err := readCopy(2, text[:cut], text[cut:])
		if diff := cmp.Diff([][]string{{"=" + a, "=" + b}, {"NULL", "NULL"}}, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
		_, _ = readCopy(2, a, b) // whatever it is, it is an error or rows
	})
}

func BenchmarkCopyText(b *testing.B) {
	line := []byte("123456\tsome text\t\\N\t2024-02-29 18:04:56\\tx\n")
	c := &copyReader{columns: 4, row: func([][]byte) error { return nil }}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
