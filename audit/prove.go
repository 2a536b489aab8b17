package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/merkle"
	"github.com/lockstep-cdc/lockstep/names"
)

// Covered is a table as an entry of coverage records it, with the ranges that can be proven of it.
type Covered struct {
	Entry    *evidence.Entry
	Coverage evidence.CoverageData
	Table    evidence.TableData

	sealed     []byte
	tree       *evidence.Tree
	log        *verify.Result
	checkpoint []byte
}

// ReadCovered reads what entry at of the log in dir records of a table. The log is verified.
func ReadCovered(ctx context.Context, dir string, at uint64, table string) (*Covered, error) {
	public, err := PublicKey(dir)
	if err != nil {
		return nil, err
	}
	c := &Covered{}
	c.log, c.checkpoint, err = readVerified(ctx, dir, public, func(e *evidence.Entry, sealed []byte) {
		if e.Seq == at {
			c.Entry, c.sealed = e, bytes.Clone(sealed)
		}
	})
	if err != nil {
		return nil, err
	}
	if c.Entry == nil {
		return nil, fmt.Errorf("the audit log has no entry %d; the last is %d", at, c.log.Size-1)
	}
	if c.Entry.Type != evidence.Coverage {
		return nil, fmt.Errorf("entry %d is %s: name one of coverage, as coverage.csv of a report lists them", at, c.Entry.Type)
	}
	if err := json.Unmarshal(c.Entry.Data, &c.Coverage); err != nil {
		return nil, fmt.Errorf("entry %d: %w", at, err)
	}
	var covered []string
	for _, t := range c.Coverage.Tables {
		if covered = append(covered, t.Table); t.Table == table {
			c.Table = t
		}
	}
	if err := names.Check("table", table, fmt.Sprintf("entry %d, of %s", at, c.Coverage.Member), covered); err != nil {
		return nil, err
	}
	return c, c.readTree(dir)
}

func (c *Covered) readTree(dir string) error {
	if c.Table.Root == "" {
		return fmt.Errorf("entry %d has no Merkle tree of %s: it was %s: %s", c.Entry.Seq, c.Table.Table, c.Table.Verdict, c.Table.Reason)
	}
	path := filepath.Join(dir, evidence.TreesDir, c.Table.Root)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the tree of entry %d is not kept any more, or was not: see audit.provable_for: %w", c.Entry.Seq, err)
	}
	if err != nil {
		return err
	}
	if c.tree, err = evidence.ParseTree(content); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	root, err := c.tree.Root()
	if err == nil && root != c.Table.Root {
		err = fmt.Errorf("%s is damaged: its root is %s", path, root)
	}
	return err
}

// Ranges is how many ranges the table has.
func (c *Covered) Ranges() int { return c.tree.Merkle.Ranges().Len() }

// Sum is the digest of range i.
func (c *Covered) Sum(i int) merkle.Sum { return c.tree.Merkle.Sum(i) }

// Bounds are the keys between which range i lies, the second outside; null where there is no bound.
func (c *Covered) Bounds(i int) (first, end json.RawMessage, err error) {
	ranges := c.tree.Merkle.Ranges()
	first, end = json.RawMessage("null"), json.RawMessage("null")
	if start := ranges.Start(i); len(start) > 0 {
		first, err = c.tree.Shape.KeyJSON(start)
	}
	if err == nil && ranges.End(i) != nil {
		end, err = c.tree.Shape.KeyJSON(ranges.End(i))
	}
	return first, end, err
}

// Find returns the range in which a key lies, given as JSON.
func (c *Covered) Find(key json.RawMessage) (int, error) {
	k, err := c.tree.Shape.ParseKey(key)
	if err != nil {
		return 0, err
	}
	return c.tree.Merkle.Ranges().Find(k), nil
}

// Prove returns the proof of range i.
func (c *Covered) Prove(i int) (*verify.RangeProof, error) {
	if i < 0 || i >= c.Ranges() {
		return nil, fmt.Errorf("there is no range %d: %s has ranges 0 to %d", i, c.Table.Table, c.Ranges()-1)
	}
	first, end, err := c.Bounds(i)
	if err != nil {
		return nil, err
	}
	inclusion, err := c.log.Prove(c.Entry.Seq, c.Entry.Seq+1)
	if err != nil {
		return nil, err
	}
	sum := c.Sum(i)
	return &verify.RangeProof{
		Type: verify.RangeProofType, Table: c.Table.Table, Range: i, Ranges: c.Ranges(), First: first, End: end, Rows: sum.Rows, Digest: sum.Digest(),
		Shape: c.tree.Shape, Merkle: c.tree.Merkle.Prove(i), Entry: string(c.sealed), Inclusion: inclusion, Checkpoint: string(c.checkpoint),
	}, nil
}
