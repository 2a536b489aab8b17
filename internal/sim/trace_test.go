package sim

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// trace is what happened, in columns: time, server, event, effect.
type trace struct {
	mu    sync.Mutex
	out   io.Writer // nil: nobody reads it
	began time.Time
}

func newTrace(out io.Writer) *trace { return &trace{out: out, began: time.Now()} }

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
	return len(b), nil
}
