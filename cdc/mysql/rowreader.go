package mysql

import (
	"context"
	"fmt"
	"strings"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// rowReader makes digests of the rows of one table as the binary protocol has them.
type rowReader struct {
	pager   *pager
	columns []*columnDefinition // that are selected, in the order of the shape
	encoder *digest.Encoder
	yield   func(digest.Key, *digest.Row) error
	key     digest.Key // of the last row
	digest  digest.Row
	rows    int // that were read
}

func (s *Source) rowReader(d *definition, e cdc.Epoch, yield func(digest.Key, *digest.Row) error) (*rowReader, error) {
	encoder, err := digest.NewEncoder(s.hasher, e.Shape)
	if err != nil {
		return nil, err
	}
	r := &rowReader{encoder: encoder, yield: yield}
	var names []string
	for _, c := range e.Shape.Columns {
		column := d.column(c.Name)
		if column == nil {
			return nil, fmt.Errorf("column %q does not exist", c.Name)
		}
		names = append(names, column.selected())
		r.columns = append(r.columns, column)
	}
	r.pager = newPager(d, strings.Join(names, ", "), e.Shape)
	return r, nil
}

// read reads a part of the table by one statement, so that all of its rows are of one moment.
func (r *rowReader) read(ctx context.Context, c *session, part cdc.Part) error {
	statement, err := r.pager.statement(part)
	if err != nil || statement == "" {
		return err
	}
	return c.stream(ctx, statement, r.row)
}

func (r *rowReader) row(values []wire.FieldValue) (err error) {
	r.rows++
	r.encoder.Reset()
	for i := range values {
		if err := r.columns[i].scan(r.encoder, i, &values[i]); err != nil {
			return err
		}
	}
	if r.key, err = r.encoder.AppendKey(r.key[:0]); err != nil {
		return err
	}
	if err := r.encoder.Row(&r.digest); err != nil {
		return err
	}
	return r.yield(r.key, &r.digest)
}
