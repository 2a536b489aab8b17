package verify

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/audit/witness"
)

// Checkpoints that a witness has cosigned (https://c2sp.org/tlog-cosignature) are in a folder of the log.
const WitnessesDir = "witnesses"

// Cosigned is a checkpoint with the cosignature of a witness.
type Cosigned struct {
	Size       uint64
	By         string // ID of the witness's key
	Checkpoint []byte
}

// Name is that of its file.
func (c *Cosigned) Name() string {
	return path.Join(WitnessesDir, fmt.Sprintf("%020d.%s", c.Size, c.By))
}

// CosignedProofFile is where a report has the proof for a checkpoint over more than its entries.
func CosignedProofFile(by string) string { return path.Join(WitnessesDir, "proof."+by+".json") }

// Witnessed reads the cosigned checkpoints of the log in a folder, those of a witness after one another, the oldest first.
func Witnessed(dir string) ([]Cosigned, error) {
	files, err := folder{dir}.within(WitnessesDir)
	return cosignedOf(files), err
}

func cosignedOf(files map[string][]byte) (list []Cosigned) {
	for name, raw := range files {
		size, by, _ := strings.Cut(path.Base(name), ".")
		if n, err := strconv.ParseUint(size, 10, 63); err == nil && path.Dir(name) == WitnessesDir {
			list = append(list, Cosigned{n, by, raw})
		}
	}
	slices.SortFunc(list, func(a, b Cosigned) int { return cmp.Or(strings.Compare(a.By, b.By), cmp.Compare(a.Size, b.Size)) })
	return list
}

// cosignatures verifies those of a witness.
func cosignatures(list []Cosigned, by *witness.Key) (anchors []anchor, err error) {
	for _, c := range list {
		if c.By != by.ID() {
			continue
		}
		a := anchor{name: c.Name(), size: c.Size}
		if a.at, err = by.Verify(c.Checkpoint); err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		if a.root, err = rootIn(c.Checkpoint, c.Size); err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		anchors = append(anchors, a)
	}
	return anchors, nil
}
