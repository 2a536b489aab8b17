package cdctest

import (
	"testing"

	"github.com/lockstep-cdc/lockstep/digest"
)

func TestPartialRowIsCompletedToTheWholeOne(t *testing.T) {
	h := digest.NewHasher([32]byte{1})
	c, err := newCoder(h, digest.Shape{Table: "t", Columns: []digest.Column{Int("id"), Wide("note"), Int("v")}, Key: []int{0}})
	if err != nil {
		t.Fatal(err)
	}
	before, after := Row{"note": 22, "v": 21}, Row{"note": 22, "v": 30}
	kept, err := c.row(1, before, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := c.row(1, after, nil)
	if err != nil {
		t.Fatal(err)
	}
	partial, err := c.row(1, after, before)
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Complete(partial.Partial, kept.Columns)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != want.Digest {
		t.Errorf("completed to %v, want %v", got.Digest, want.Digest)
	}
}
