package mysql

import (
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// BenchmarkFeed reads transactions of one row, and of a thousand, of a table that is watched and of one that is not.
func BenchmarkFeed(b *testing.B) {
	for name, bench := range map[string]struct {
		table string
		rows  int
	}{"small": {"orders", 1}, "large": {"orders", 1000}, "unwatched": {"elsewhere", 1000}} {
		b.Run(name, func(b *testing.B) {
			w := &logWriter{summed: true, without: true} // so that the same events can come again
			a := reader(cdc.Position{}, false)
			feed := func(events [][]byte) (n int) {
				for _, event := range events {
					n += len(event)
					if _, _, err := a.feed(event); err != nil {
						b.Fatal(err)
					}
				}
				return n
			}
			feed(w.begin("b.000001"))
			group := [][]byte{w.gtid(1), w.query("BEGIN"), w.table(9, bench.table), w.insert(9, make([]byte, bench.rows)...), w.xid()}
			bytes := 0
			for b.Loop() {
				a.cursor.offset = startOfFile // the file would grow too long
				a.at.LSN = 0
				bytes = feed(group)
			}
			b.SetBytes(int64(bytes))
		})
	}
}
