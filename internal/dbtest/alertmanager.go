package dbtest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Alertmanager is a running Alertmanager of Prometheus.
type Alertmanager struct {
	daemon
	URL       string
	program   string
	arguments []string
	peering   string // where others of the same cluster reach it
}

// prometheusProgram finds a program of Debian's packages prometheus and prometheus-alertmanager.
func prometheusProgram(name string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "prometheus", "usr", "bin", name)
	if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s was not found; `make deps` installs it", path)
	}
	return path, nil
}

// PrometheusT returns the path of promtool, amtool, prometheus or prometheus-alertmanager.
func PrometheusT(t TB, name string) string {
	t.Helper()
	path, err := prometheusProgram(name)
	needed(t, err)
	return path
}

// AlertmanagerT starts an Alertmanager that ends with the test, as one of a cluster with peers.
func AlertmanagerT(t TB, config string, peers ...*Alertmanager) *Alertmanager {
	t.Helper()
	a, err := newAlertmanager(PrometheusT(t, "prometheus-alertmanager"), config, peers)
	if err == nil {
		err = a.Start(t.Context())
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of Alertmanager %s:\n%s", a.URL, a.logTail(40))
		}
		if err := a.Close(); err != nil {
			t.Logf("%v", err)
		}
	})
	return a
}

func newAlertmanager(program, config string, peers []*Alertmanager) (*Alertmanager, error) {
	d, err := newDaemon(filepath.Dir(program), Options{Below: MemoryDir()})
	if err != nil {
		return nil, err
	}
	a := &Alertmanager{daemon: d, program: program}
	web, err := freePort()
	if err != nil {
		return nil, err
	}
	gossip, err := freePort()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(d.dir, "alertmanager.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	listen := "127.0.0.1:" + strconv.Itoa(web)
	a.URL, a.peering = "http://"+listen, "127.0.0.1:"+strconv.Itoa(gossip)
	a.arguments = []string{
		"--config.file=" + file, "--storage.path=" + d.data(), "--web.listen-address=" + listen,
		"--cluster.listen-address=" + a.peering, "--cluster.advertise-address=" + a.peering,
		"--cluster.peer-timeout=2s", // how long the second of a cluster waits for the first to have sent
	}
	for _, p := range peers {
		a.arguments = append(a.arguments, "--cluster.peer="+p.peering)
	}
	return a, nil
}

// Start starts an Alertmanager that was killed again, or for the first time.
func (a *Alertmanager) Start(ctx context.Context) error {
	if err := a.run(syscall.SIGKILL, a.program, a.arguments...); err != nil {
		return err
	}
	return a.readyAt(ctx, "Alertmanager", a.URL)
}

// readyAt waits until a program of Prometheus' answers that it is ready.
func (d *daemon) readyAt(ctx context.Context, name, url string) error {
	return WaitFor(ctx, name+" to be ready", func(ctx context.Context) (bool, error) {
		if !d.Running() {
			return false, fmt.Errorf("it ended: %s", d.logTail(5))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/-/ready", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, nil
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
}

// Close ends it and removes its files.
func (a *Alertmanager) Close() error {
	if err := a.Kill(); err != nil {
		return err
	}
	return os.RemoveAll(a.dir)
}
