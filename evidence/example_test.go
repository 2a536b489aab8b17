package evidence_test

import (
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// Entries follow on one another: each has its number and the hash of the one before.
func ExampleHead() {
	noon := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	var head evidence.Head
	var sealed [][]byte
	for n := range 3 {
		entry, next, err := head.Seal(evidence.Event{Type: evidence.Stop, Time: noon.Add(time.Duration(n) * time.Minute), Data: struct{}{}})
		if err != nil {
			panic(err)
		}
		sealed, head = append(sealed, entry), next
	}
	fmt.Println(string(sealed[0]))

	var at evidence.Head
	for _, entry := range sealed {
		e, next, err := at.Follow(entry)
		if err != nil {
			panic(err)
		}
		fmt.Println(e.Seq, e.Type, e.Time.Format(time.TimeOnly))
		at = next
	}
	_, _, err := at.Follow(sealed[1])
	fmt.Println(err)
	// Output:
	// {"data":{},"prev":"0000000000000000000000000000000000000000000000000000000000000000","seq":0,"time":"2026-06-01T12:00:00Z","type":"stop","v":1}
	// 0 stop 12:00:00
	// 1 stop 12:01:00
	// 2 stop 12:02:00
	// entry 3 says that it is number 1
}
