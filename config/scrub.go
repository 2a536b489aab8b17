package config

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/scan"
)

// What a file that leaves the key out gets.
const (
	DefaultScrubEvery       = 24 * time.Hour
	DefaultMaxRowsPerSecond = scan.DefaultMaxRowsPerSecond
	DefaultChunkTime        = scan.DefaultChunkTime
)

// lagShare is the part of the lag budget that a replica may be behind while rows are scanned.
const lagShare = 3

// leastLag is what is no lag yet: how far a replica is is asked four times a second, and takes its time under load.
const leastLag = 2 * time.Second

// Scrub says how the rows of a group are read again to be held against what its members' logs have shown.
type Scrub struct {
	// Every is the time within which all rows of a member are read once; see [Group.ScrubEvery]. Zero is
	// DefaultScrubEvery; negative: never.
	Every            time.Duration
	Windows          scan.Windows // local times; none: always
	MaxRowsPerSecond int64        // of each member
	ChunkTime        time.Duration
	MaxReplicaLag    time.Duration // of any replica of the group; above it nothing is scanned
}

// Settings are the bounds of scans of each member.
func (s Scrub) Settings() scan.Settings {
	return scan.Settings{Windows: s.Windows, MaxRowsPerSecond: s.MaxRowsPerSecond, MaxReplicaLag: s.MaxReplicaLag}
}

// ScrubEvery is the time within which all rows of table, a qualified name, are read again on every member. Zero: they are
// not.
func (g Group) ScrubEvery(table string) time.Duration {
	every := cmp.Or(g.Scrub.Every, DefaultScrubEvery)
	if o := g.Tables.override(table); o != nil {
		every = cmp.Or(o.ScrubEvery, every)
	}
	return max(every, 0)
}

// never is what "off" is read as.
const never = -1

// leastEvery is the shortest time between two scrubs that is no typing mistake: one that is as often as that reads all
// the time.
const leastEvery = time.Minute

func decodeScrub(n node, budget time.Duration) Scrub {
	f := n.fields("every", "windows", "max_rows_per_second", "chunk_time", "max_replica_lag")
	return Scrub{
		Every:            decodeEvery(f["every"], DefaultScrubEvery),
		Windows:          decodeWindows(f["windows"]),
		MaxRowsPerSecond: f["max_rows_per_second"].count(DefaultMaxRowsPerSecond),
		ChunkTime:        f["chunk_time"].duration(DefaultChunkTime),
		MaxReplicaLag:    f["max_replica_lag"].duration(max(budget/lagShare, min(leastLag, budget/2))),
	}
}

func decodeEvery(n node, otherwise time.Duration) time.Duration {
	every, off := n.durationOrOff(otherwise)
	if off {
		return never
	}
	if every > 0 && every < leastEvery {
		n.fail(fmt.Sprintf("%s is too short to read all rows again", every), "write it like 24h, or off")
	}
	return every
}

func decodeWindows(n node) scan.Windows {
	var windows scan.Windows
	for _, item := range n.items() {
		text := item.text()
		if text == "" {
			continue
		}
		w, err := scan.ParseWindow(text)
		if err != nil {
			item.fail(err.Error(), `write it like "22:00-06:00" or "Sat-Sun 00:00-24:00"`)
			continue
		}
		windows = append(windows, w)
	}
	if n.isList() && len(windows) == 0 && len(n.items()) == 0 {
		n.fail("lists no window", "leave the key out to scrub at all times, or turn scrubs off with every: off")
	}
	return windows
}

// checkScanOnly refuses a group of which rows would be held against nothing, or not at all.
func checkScanOnly(f map[string]node, g Group) {
	only := func(m Member) bool { return m.ScanOnly }
	if !slices.ContainsFunc(g.Members, only) {
		return
	}
	if !slices.ContainsFunc(g.Members, func(m Member) bool { return !m.ScanOnly }) {
		f["members"].fail("are all scan_only", "the log of at least one has to be read, for the rows of the others to be held against")
	}
	if m := g.Member(g.Reference); m != nil && m.ScanOnly {
		f["reference"].fail(fmt.Sprintf("%q is scan_only", g.Reference), "name a member whose log is read")
	}
	scrubbed := func(o Override) bool { return o.ScrubEvery > 0 }
	if g.Scrub.Every < 0 && !slices.ContainsFunc(g.Tables.Overrides, scrubbed) {
		f["scrub"].fail("is off, and the group has members that are scan_only", "nothing would be known of them: turn it on, or remove them")
	}
}
