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
	reads map[tableAt][]time.Time // when lockstep logged that a table was read
}

func newTrace(out io.Writer) *trace { return &trace{out: out, began: time.Now(), reads: make(map[tableAt][]time.Time)} }

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
	if read := tableRead.FindStringSubmatch(line); read != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		at := tableAt{read[1], read[2]}
		l.reads[at] = append(l.reads[at], time.Now())
	}
	return len(b), nil
}

var tableRead = regexp.MustCompile(`msg="table was read" group=\w+ member=(\w+) table=(\S+)`)

// readSince counts how often a table was read as a whole since a time.
func (t *trace) readSince(at tableAt, since time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads[at] = slices.DeleteFunc(t.reads[at], func(when time.Time) bool { return when.Before(since) })
	return len(t.reads[at])
}
