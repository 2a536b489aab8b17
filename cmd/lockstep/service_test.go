package main

import (
	"context"
	"fmt"
	"io"
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
	reload := func(code int, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post("http://"+address+"/-/reload", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("a reload by the API answers %d, want %d", resp.StatusCode, code)
		}
	}
	reload(http.StatusInternalServerError, strings.Replace(c.YAML, "groups:", "gruops:", 1))
	reload(http.StatusOK, strings.Replace(c.YAML, "name: shop", "name: store", 1)) // of which no member is ready
	expect("READY=1")
	if code := statusCode(t, "http://"+address+"/api/v1/groups"); code != http.StatusOK {
		t.Errorf("the API answers %d", code)
	}
	stop()
	expect("STOPPING=1")
	if code := <-ended; code != exitInStep {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	// Whoever asked for a reload, it is logged the same.
	for want, times := range map[string]int{
		"msg=\"the configuration was taken in\"\n": 2, "msg=\"the new configuration cannot be used; lockstep goes on by the one before\"": 2,
		`unknown key \"grups\"`: 1, `unknown key \"gruops\"`: 1,
		`msg="member is not watched any more" group=shop member=us-1 hint="its slot keeps WAL on the server until it is dropped there: SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'lockstep_shop'; DROP PUBLICATION`: 1,
	} {
		if strings.Count(errs.String(), want) != times {
			t.Errorf("the log says %q %d times, want %d: %s", want, strings.Count(errs.String(), want), times, errs.String())
		}
	}
}

// Clients that say half of what they want, or do not read, kept lockstep from ending well.
func TestRunEndsWithSlowClients(t *testing.T) {
	states, address := systemd(t), freeAddress(t)
	file := writeFile(t, "lockstep.yaml", "data_dir: "+t.TempDir()+"\nlisten: "+address+"\ngroups:\n  - name: shop\n    engine: postgres\n    members:\n"+
		"      - {name: a, dsn: \"postgres://x@127.0.0.1:1/app\"}\n      - {name: b, dsn: \"postgres://x@127.0.0.1:1/app2\"}\n    tables: {include: [\"public.*\"]}\n")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	var out, errs strings.Builder
	go func() { ended <- execute(ctx, []string{"run", "-c", file}, &out, &errs) }()
	if got := <-states; got != "READY=1" {
		t.Fatalf("systemd was told %q", got)
	}
	for _, says := range []string{"", "GET / HTTP/1.1\r\nX: ", "POST /api/v1/scrubs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, says); err != nil {
			t.Fatal(err)
		}
	}
	if code := statusCode(t, "http://"+address+"/-/healthy"); code != http.StatusOK { // the others are connected by now
		t.Errorf("healthy answers %d", code)
	}
	stop()
	if code := <-ended; code != exitInStep {
		t.Errorf("exit code %d, %s", code, errs.String())
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
