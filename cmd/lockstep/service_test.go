package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// systemd is a service manager that notes what it is told (sd_notify(3)).
func systemd(t *testing.T) (states chan string) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	states = make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := l.Read(b)
			if err != nil {
				return
			}
			states <- string(b[:n])
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return states
}

func TestRunReadsItsConfigurationOnHangupAndTellsSystemd(t *testing.T) {
	states := systemd(t)
	address := freeAddress(t)
	c, err := cluster.Start(t.Context(), cluster.Options{
		Install: dbtest.Need(t, dbtest.PG15), Schema: "CREATE TABLE items (id int PRIMARY KEY, name text);", DataDir: filepath.Join(t.TempDir(), "data"),
		Listen: address, Subscribers: 1, Server: dbtest.Options{Below: dbtest.MemoryDir(), Reuse: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
	file := writeFile(t, "lockstep.yaml", c.YAML)
	profiles := freeAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var out, errs strings.Builder
	go func() {
		ended <- execute(ctx, []string{"run", "-c", file, "--debug.listen-address", profiles}, &out, &errs)
	}()
	expect := func(want ...string) {
		t.Helper()
		for _, state := range want {
			if got := <-states; !strings.HasPrefix(got, state) {
				t.Errorf("systemd was told %q, want %q", got, state)
			}
		}
	}
	expect("READY=1")
	if code := statusCode(t, "http://"+profiles+"/debug/pprof/"); code != http.StatusOK {
		t.Errorf("profiles answer %d", code)
	}
	if code := statusCode(t, "http://"+address+"/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("profiles beside the API answer %d", code)
	}
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hangup()
	expect("RELOADING=1\nMONOTONIC_USEC=", "READY=1", "READY=1") // of the one that runs now, and that reloading is over
	if err := os.WriteFile(file, []byte(strings.Replace(c.YAML, "groups:", "grups:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	hangup()
	expect("RELOADING=1", "READY=1")
	if code := statusCode(t, "http://"+address+"/api/v1/groups"); code != http.StatusOK {
		t.Errorf("the API answers %d", code)
	}
	stop()
	expect("STOPPING=1")
	if code := <-ended; code != exitInStep {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	for _, want := range []string{"the configuration was taken in", `unknown key \"grups\"`} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("the log does not say %q: %s", want, errs.String())
		}
	}
}

func statusCode(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
