package dbtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds what needs no context: an end that the server cannot refuse.
const patience = 30 * time.Second

// daemon is what servers of all engines share: a folder, the account that owns it, and a process that works in it.
type daemon struct {
	dir       string // data/, log
	temporary bool   // dir is ours to remove
	who       *account
	zone      string   // TZ
	process   *process // the last one started; nil before the first
	kind      string   // of a server that may be used again: for what
}

// newDaemon chooses the account and the folder for a server whose program is in the folder programs.
func newDaemon(programs string, o Options) (daemon, error) {
	who, err := serverAccount()
	if err != nil {
		return daemon{}, err
	}
	d := daemon{dir: o.Dir, who: who, zone: cmp.Or(o.Zone, "UTC")}
	if err := reachable(programs, who); err != nil {
		return daemon{}, err
	}
	if d.dir == "" {
		d.temporary = true
		d.dir, err = newDir(o.Below, who)
		return d, err
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return daemon{}, err
	}
	if _, err := os.Stat(d.data()); err == nil {
		return daemon{}, fmt.Errorf("%s holds a server already; name an empty folder", d.dir)
	}
	return d, errors.Join(os.MkdirAll(d.dir, 0o755), who.own(d.dir), reachable(d.dir, who))
}

func (d *daemon) data() string { return filepath.Join(d.dir, "data") }

// freePort looks below the range from which the kernel takes ports for outgoing connections, so that the port is still
// free when a killed server is started again.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := 16384 + rand.IntN(16384)
		var l net.Listener
		if l, last = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); last == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1: %w", last)
}

// run starts a program that adds to the log, and that the kernel ends by the signal death when we end.
func (d *daemon) run(death syscall.Signal, program string, arguments ...string) error {
	log, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, arguments...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = d.dir, append(environment(d.dir), "TZ="+d.zone), d.who.attributes(death)
	cmd.Stdout, cmd.Stderr = log, log
	d.process, err = spawn(cmd)
	return err
}

// Running tells whether the server's process exists; a paused one does.
func (d *daemon) Running() bool { return d.process != nil && d.process.running() }

// Kill ends every process of the server with SIGKILL, also a paused one's, and returns when all are gone.
func (d *daemon) Kill() error {
	if d.process == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return d.process.kill(ctx)
}

// keep copies the data folder of a server that was stopped, and returns what puts the copy in its place.
func (d *daemon) keep() (restore func() error, err error) {
	if d.Running() {
		return nil, fmt.Errorf("the server in %s runs: stop it first", d.dir)
	}
	kept, err := newDir(d.dir, d.who)
	if err != nil {
		return nil, err
	}
	kept = filepath.Join(kept, "data")
	return func() error {
		if err := os.RemoveAll(d.data()); err != nil {
			return err
		}
		return copyTree(kept, d.data(), d.who, nil, copyFile)
	}, copyTree(d.data(), kept, d.who, nil, copyFile)
}

// Pause stops every process of the server with SIGSTOP: connections stay open and nobody answers.
func (d *daemon) Pause() error {
	_, err := d.process.freeze()
	return err
}

// Resume lets a paused server go on.
func (d *daemon) Resume() error { return d.process.thaw() }

func (d *daemon) logFile() string { return filepath.Join(d.dir, "log") }

// Log is all that the server has logged, over all of its starts.
func (d *daemon) Log() string {
	text, err := os.ReadFile(d.logFile())
	if err != nil {
		return ""
	}
	return string(text)
}

func (d *daemon) logTail(lines int) string {
	all := strings.Split(strings.TrimSpace(d.Log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
