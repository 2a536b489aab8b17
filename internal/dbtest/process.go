package dbtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// account is who the servers run as. None of them runs as root; nil stands for the account we run as already.
type account struct {
	name     string
	uid, gid uint32
}

func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("account %s: %w", name, err)
		}
		return &account{name, uint32(uid), uint32(gid)}, nil
	}
	return nil, errors.New("database servers do not run as root, and there is neither an account postgres nor nobody; run lockstep as an ordinary user")
}

func (a *account) mayEnter(dir fs.FileInfo) bool {
	mode := dir.Mode().Perm()
	stat, ok := dir.Sys().(*syscall.Stat_t)
	switch {
	case ok && stat.Uid == a.uid:
		return mode&0o100 != 0
	case ok && stat.Gid == a.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// own gives a file to the account. A nil account owns it already.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// attributes put a child into a process group of its own, so that Ctrl-C reaches us alone and we end it in order.
// The kernel sends it the signal death when we end.
func (a *account) attributes(death syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	dieWithParent(attr, death)
	return attr
}

// environment is the same for every child: nothing of the caller's PG* and MYSQL_* variables or locale reaches a server.
func environment(dir string) []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
}

// process is one server: a postmaster with its children, or a mysqld, which has none. Its fields are set before it is handed out; exit is written once, before done is closed.
type process struct {
	pid  int
	done chan struct{}
	exit error
}

// spawn starts a command and waits for it on one locked thread: the kernel sends the death signal when the *thread* that
// started the child ends, and a locked thread lives as long as the goroutine.
func spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.exit = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal reaches the process itself, not its children.
func (p *process) signal(sig syscall.Signal) error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %v to server process %d: %w", sig, p.pid, err)
	}
	return nil
}

// freeze stops the process and every child of it. Each child leads a session of its own, so that a signal to the process
// group would not reach it; a stopped process has no new ones. The children are returned.
func (p *process) freeze() ([]int, error) {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	children, err := childrenOf(p.pid)
	if err != nil {
		return nil, err
	}
	return children, signalAll(children, syscall.SIGSTOP)
}

func (p *process) thaw() error {
	children, err := childrenOf(p.pid)
	if err != nil {
		return err
	}
	return errors.Join(signalAll(children, syscall.SIGCONT), p.signal(syscall.SIGCONT))
}

// kill ends the process and its children at once, as a power cut does, and returns when none is left: a child that
// outlives a postmaster keeps the next one from starting.
func (p *process) kill(ctx context.Context) error {
	if !p.running() {
		return nil
	}
	children, err := p.freeze()
	if err := errors.Join(err, p.signal(syscall.SIGKILL), signalAll(children, syscall.SIGKILL)); err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		return err
	}
	return WaitFor(ctx, "the killed server's children to be gone", func(context.Context) (bool, error) {
		for _, pid := range children {
			if alive(pid) {
				return false, nil
			}
		}
		return true, nil
	})
}

func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("server process %d still runs: %w", p.pid, ctx.Err())
	}
}

func signalAll(pids []int, sig syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal %v to process %d: %w", sig, pid, err)
		}
	}
	return nil
}

// childrenOf reads /proc: the parent is the second field after the command's name in stat (proc(5)).
func childrenOf(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if fields := stat(pid); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			children = append(children, pid)
		}
	}
	return children, nil
}

// alive is false for a zombie too: it holds nothing any more.
func alive(pid int) bool {
	fields := stat(pid)
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

// stat returns the fields that follow the command's name, state first; none if there is no such process.
func stat(pid int) []string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)
}
