package monitor

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIDIsAULID(t *testing.T) {
	id := NewID(time.UnixMilli(1469918176385)) // the example of the specification
	if len(id) != 26 || !strings.HasPrefix(id, "01ARYZ6S41") {
		t.Errorf("id is %s, want 26 characters that begin with 01ARYZ6S41", id)
	}
	if strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		t.Errorf("id %s has characters that are not of its alphabet", id)
	}
}

func TestIDsSortByTime(t *testing.T) {
	at := time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)
	var ids []string
	for range 2000 {
		ids = append(ids, NewID(at))
		at = at.Add(at.Sub(time.Unix(0, 0))/500 + time.Millisecond)
		if at.Year() > 2250 {
			break
		}
	}
	if !slices.IsSorted(ids) {
		t.Error("ids of later times sort before those of earlier ones")
	}
}

func TestIDsOfOneMomentAreDistinct(t *testing.T) {
	seen := make(map[string]bool)
	for range 10_000 {
		seen[NewID(time.UnixMilli(1))] = true
	}
	if len(seen) != 10_000 {
		t.Errorf("%d of 10000 ids are distinct", len(seen))
	}
}
