package dbtest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Prometheus is a running Prometheus.
type Prometheus struct {
	daemon
	URL string
}

// PrometheusServerT starts a Prometheus that ends with the test. files are its configuration, prometheus.yaml, and what that names.
func PrometheusServerT(t TB, files map[string][]byte) *Prometheus {
	t.Helper()
	p, err := startPrometheus(t.Context(), PrometheusT(t, "prometheus"), files)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of Prometheus %s:\n%s", p.URL, p.logTail(40))
		}
		if err := p.Close(); err != nil {
			t.Logf("%v", err)
		}
	})
	return p
}

func startPrometheus(ctx context.Context, program string, files map[string][]byte) (*Prometheus, error) {
	d, err := newDaemon(filepath.Dir(program), Options{Below: MemoryDir()})
	if err != nil {
		return nil, err
	}
	p := &Prometheus{daemon: d}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(d.dir, name), data, 0o644); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	listen := "127.0.0.1:" + strconv.Itoa(port)
	p.URL = "http://" + listen
	err = p.run(syscall.SIGKILL, program, "--config.file="+filepath.Join(d.dir, "prometheus.yaml"), "--storage.tsdb.path="+d.data(),
		"--web.listen-address="+listen, "--web.console.templates="+d.dir, "--web.console.libraries="+d.dir)
	if err == nil {
		err = p.readyAt(ctx, "Prometheus", p.URL)
	}
	return p, err
}

// Close ends it and removes its files.
func (p *Prometheus) Close() error {
	if err := p.Kill(); err != nil {
		return err
	}
	return os.RemoveAll(p.dir)
}
