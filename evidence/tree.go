package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Tree is the Merkle tree of a table at the time of a coverage, as it is kept to prove single ranges: a line of JSON that says
// how its keys are read, and the tree.
type Tree struct {
	Shape  digest.Shape
	Merkle *merkle.Tree
}

// Root is what the entry of the coverage has of the tree.
func (t Tree) Root() (string, error) { return TableRoot(t.Shape, t.Merkle.Root()) }

// TableRoot is over the root of a table's Merkle tree and how its keys are read, so that nobody can read them as other ones later.
// Shape: its JSON.
func TableRoot(s digest.Shape, root merkle.Hash) (string, error) {
	shape, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "lockstep table v1\n%s\n%v\n", shape, root))
	return hex.EncodeToString(sum[:]), nil
}

// AppendBinary appends the content of the file.
func (t Tree) AppendBinary(dst []byte) ([]byte, error) {
	shape, err := json.Marshal(t.Shape)
	if err != nil {
		return nil, err
	}
	return t.Merkle.AppendBinary(append(append(dst, shape...), '\n')), nil
}

// ParseTree reads what AppendBinary wrote.
func ParseTree(b []byte) (*Tree, error) {
	shape, tree, found := bytes.Cut(b, []byte("\n"))
	if !found {
		return nil, fmt.Errorf("parse tree: it says nothing of its keys")
	}
	var t Tree
	err := json.Unmarshal(shape, &t.Shape)
	if err == nil {
		t.Merkle, err = merkle.ParseTree(tree)
	}
	if err != nil {
		return nil, err
	}
	return &t, nil
}
