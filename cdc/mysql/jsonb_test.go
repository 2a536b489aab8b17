package mysql

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/digest"
)

var jsonShape = digest.Shape{Table: "t", Columns: []digest.Column{{Name: "id", Class: digest.Int}, {Name: "v", Class: digest.JSON}}, Key: []int{0}}

// binaryJSON is the digest of a row with a document of binary JSON.
func binaryJSON(t testing.TB, doc []byte) (digest.Digest, error) {
	t.Helper()
	e := testEncoder(t, jsonShape)
	e.Reset()
	e.Int(0, 1)
	if err := e.JSONTree(1, func(w *digest.JSONWriter) error { return writeJSONB(w, doc) }); err != nil {
		return digest.Digest{}, err
	}
	_, row := encoded(t, jsonShape, e)
	return row, nil
}

// textJSON is the digest of a row with a document as text.
func textJSON(t testing.TB, text string) digest.Digest {
	t.Helper()
	e := testEncoder(t, jsonShape)
	e.Reset()
	e.Int(0, 1)
	if err := e.JSON(1, []byte(text)); err != nil {
		t.Fatal(err)
	}
	_, row := encoded(t, jsonShape, e)
	return row
}

type jsonCapture struct {
	doc  []byte
	text string
}

// capturedJSON are the documents in testdata.
func capturedJSON(t testing.TB) (list []jsonCapture) {
	t.Helper()
	text, err := os.ReadFile("testdata/jsonb.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		binary, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if binary == "#" {
			continue
		}
		doc, err := hex.DecodeString(binary)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, jsonCapture{doc, text})
	}
	return list
}

func TestBinaryJSONIsTheSameAsItsText(t *testing.T) {
	documents := append(capturedJSON(t), jsonCapture{nil, "null"}) // the last where a column that may not be NULL was given none
	digests := map[digest.Digest]string{}
	for _, d := range documents {
		got, err := binaryJSON(t, d.doc)
		if err != nil || got != textJSON(t, d.text) {
			t.Errorf("%x is not %s: %v", d.doc, d.text, err)
		}
		if other, twice := digests[got]; twice && other != d.text && d.text != "-0.0" { // which equals 0
			t.Errorf("%s and %s have one digest", d.text, other)
		}
		digests[got] = d.text
	}
	if len(digests) < 40 {
		t.Errorf("only %d documents", len(digests))
	}
}

func TestDamagedBinaryJSONIsAnError(t *testing.T) {
	for _, d := range capturedJSON(t) {
		for n := 1; n < len(d.doc); n++ {
			got, err := binaryJSON(t, d.doc[:n])
			if err == nil && got != textJSON(t, d.text) {
				t.Errorf("%s: the first %d bytes are another document", d.text, n)
			}
		}
	}
	for name, doc := range map[string]string{
		"unknown type":                  "0d00",
		"unknown literal":               "0403",
		"infinity":                      "0b000000000000f07f",
		"size beyond the end":           "0200000500",
		"entries beyond the size":       "0201000400",
		"offset beyond the size":        "02010007000cff00",
		"name beyond the size":          "0001000b000b00ff00040000",
		"length without end":            "0cffffffffff",
		"opaque without a type":         "0f",
		"opaque decimal of no digits":   "0ff6020000",
		"opaque decimal with more":      "0ff604010081" + "00",
		"opaque decimal of large scale": "0ff60301ff81",
		"opaque time of three bytes":    "0f0b03000000",
	} {
		binary, err := hex.DecodeString(doc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := binaryJSON(t, binary); err == nil || !strings.HasPrefix(err.Error(), `table t: column "v" (json) h`) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// An array whose elements are all one and the same other array is small, and would be endless if written out.
func TestBinaryJSONThatUsesItsBytesTwiceIsAnError(t *testing.T) {
	inner := []byte{0, 0, 4, 0} // an empty array
	for range 20 {
		outer := []byte{4, 0, 0, 0}
		for range 4 {
			outer = append(outer, jsonbSmallArray, 16, 0)
		}
		outer = append(outer, inner...)
		outer[2], outer[3] = byte(len(outer)), byte(len(outer)>>8)
		inner = outer
	}
	if _, err := binaryJSON(t, append([]byte{jsonbSmallArray}, inner...)); !errors.Is(err, errJSONB) {
		t.Errorf("error is %v", err)
	}
}

func TestBinaryJSONIsNotReadToAnyDepth(t *testing.T) {
	doc := []byte{0, 0, 4, 0}
	for range maxJSONBDepth {
		doc = append([]byte{1, 0, 0, 0, 0, 0, 0, 0, jsonbLargeArray, 13, 0, 0, 0}, doc...)
		if len(doc) == 17 { // the innermost is a small one
			doc[8] = jsonbSmallArray
		}
		doc[4], doc[5] = byte(len(doc)), byte(len(doc)>>8)
	}
	if _, err := binaryJSON(t, append([]byte{jsonbLargeArray}, doc...)); !errors.Is(err, errJSONBDepth) {
		t.Errorf("error is %v", err)
	}
	if _, err := binaryJSON(t, append([]byte{jsonbLargeArray}, doc[13*29:]...)); err != nil {
		t.Errorf("100 levels: %v", err)
	}
}

// FuzzJSONB wants no panic, one digest of one document, and no document larger than what it is made of could be.
func FuzzJSONB(f *testing.F) {
	for _, d := range capturedJSON(f) {
		f.Add(d.doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		first, err := binaryJSON(t, doc)
		second, err2 := binaryJSON(t, bytes.Clone(doc))
		if first != second || (err == nil) != (err2 == nil) {
			t.Error("one document has two digests")
		}
	})
}

// BenchmarkJSONB compares a document from the log with the same as a SELECT has it, and with the standard library.
func BenchmarkJSONB(b *testing.B) {
	var largest jsonCapture
	for _, d := range capturedJSON(b) {
		if strings.HasPrefix(d.text, `{"": 3`) {
			largest = d
		}
	}
	e := testEncoder(b, jsonShape)
	b.Run("binary", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Reset()
			if err := e.JSONTree(1, func(w *digest.JSONWriter) error { return writeJSONB(w, largest.doc) }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("text", func(b *testing.B) {
		b.ReportAllocs()
		text := []byte(largest.text)
		for b.Loop() {
			e.Reset()
			if err := e.JSON(1, text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		text := []byte(largest.text)
		for b.Loop() {
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
