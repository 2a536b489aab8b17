package sim

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// trace is what happened, in columns: time, server, event, effect.
type trace struct {
	mu    sync.Mutex
	out   io.Writer // nil: nobody reads it
	began time.Time
	reads map[reading][]time.Time // when lockstep logged that it reads
}

func newTrace(out io.Writer) *trace {
	return &trace{out: out, began: time.Now(), reads: make(map[reading][]time.Time)}
}

func (t *trace) say(server, event, effect string) {
	if t.out == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%9.3fs  %-9s %-34s %s\n", time.Since(t.began).Seconds(), server, event, effect)
}

// log is where lockstep logs to.
func (t *trace) log() io.Writer { return logger{t} }

type logger struct{ *trace }

func (l logger) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	if _, after, ok := strings.Cut(line, "level="); ok {
		line = after
	}
	l.say("lockstep", "", line)
	if read := readings.FindStringSubmatch(line); read != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		at := reading{read[1], tableAt{read[2], read[3]}}
		l.reads[at] = append(l.reads[at], time.Now())
	}
	return len(b), nil
}

// reading is of a whole table or of one of its ranges, by what lockstep logs.
type reading struct {
	what string
	at   tableAt
}

const (
	wholeTable = "table was read"
	oneRange   = "reading rows to find which differ"
)

var readings = regexp.MustCompile(`msg="(` + wholeTable + `|` + oneRange + `)" group=\w+ member=(\w+) table=(\S+)`)

// readSince counts how often something was read since a time.
func (t *trace) readSince(what reading, since time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads[what] = slices.DeleteFunc(t.reads[what], func(when time.Time) bool { return when.Before(since) })
	return len(t.reads[what])
}
