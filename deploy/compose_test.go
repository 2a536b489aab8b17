package deploy_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

func composed(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../docker-compose.yml"}, cli.WithWorkingDirectory(".."), cli.WithLoadOptions())
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeNamesWhatIsThere(t *testing.T) {
	project := composed(t)
	for name, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				if _, ok := project.Volumes[v.Source]; !ok {
					t.Errorf("%s: there is no volume %s", name, v.Source)
				}
			} else if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s mounts %s: %v, read-only: %v", name, v.Source, err, v.ReadOnly)
			}
		}
		for _, used := range s.Secrets {
			secret, ok := project.Secrets[used.Source]
			if _, err := os.Stat(secret.File); !ok || err != nil {
				t.Errorf("%s: secret %s: %v", name, used.Source, err)
			}
		}
		for other, needs := range s.DependsOn {
			if d, ok := project.Services[other]; !ok || needs.Condition == types.ServiceConditionHealthy && d.HealthCheck == nil {
				t.Errorf("%s waits for %s, which there is not or has no health check", name, other)
			}
		}
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !strings.Contains(s.Image, ":") || strings.HasSuffix(s.Image, ":latest") {
			t.Errorf("%s: image %s is not pinned", name, s.Image)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to the network", name, p.Published)
			}
		}
		for _, used := range environmentOf(t, s) {
			if _, ok := s.Environment[used]; !ok {
				t.Errorf("%s: its script uses %s, which is not set", name, used)
			}
		}
	}
	// Whatever the configurations name as a host is a service.
	host := regexp.MustCompile(`(?:@|//|targets: \["|HOST = '|host=)([a-z][a-z0-9-]+)[:/' ]`)
	for _, file := range []string{"compose/lockstep/lockstep.yaml", "prometheus/prometheus.yaml", "grafana/provisioning/datasources/lockstep.yaml", "compose/mysql/replica.sql", "compose/mariadb/replica.sql", "compose/postgres/us1.sql", "compose/postgres/us2.sql"} {
		found := host.FindAllStringSubmatch(string(read(t, file)), -1)
		if len(found) == 0 {
			t.Errorf("%s names no host", file)
		}
		for _, m := range found {
			if _, ok := project.Services[m[1]]; !ok && m[1] != "localhost" {
				t.Errorf("%s: there is no service %s", file, m[1])
			}
		}
	}
	run(t, "bash", "-n", "compose/load.sh")
}

// environmentOf lists the variables that clients of a load's engine log in by.
func environmentOf(t *testing.T, s types.ServiceConfig) []string {
	switch {
	case !strings.HasPrefix(s.Name, "load-"):
		return nil
	case slices.Contains(s.Entrypoint, "postgres"):
		return []string{"PGUSER", "PGPASSWORD", "PGDATABASE"}
	}
	return []string{"MYSQL_PWD"}
}

// set returns the settings that the command line of a service makes, by their names in a file.
func set(s types.ServiceConfig) map[string]string {
	conf := map[string]string{}
	for i, arg := range s.Command {
		if arg == "-c" { // PostgreSQL
			name, value, _ := strings.Cut(s.Command[i+1], "=")
			conf[name] = value
		} else if setting, ok := strings.CutPrefix(arg, "--"); ok {
			name, value, _ := strings.Cut(setting, "=")
			if name = strings.ReplaceAll(name, "-", "_"); name != "server_id" && name != "log_bin" {
				conf[name] = value
			}
		}
	}
	return conf
}

// scripts are the SQL that a service's server runs at its first start, with hosts as they are here.
func scripts(t *testing.T, s types.ServiceConfig, replace ...string) []string {
	t.Helper()
	var all []string
	mounts := slices.Clone(s.Volumes)
	slices.SortFunc(mounts, func(a, b types.ServiceVolumeConfig) int { return strings.Compare(a.Target, b.Target) })
	for _, v := range mounts {
		text, err := os.ReadFile(v.Source)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(strings.NewReplacer(replace...).Replace(string(text)), ";\n") {
			if line = strings.TrimSpace(line); line != "" {
				all = append(all, line)
			}
		}
	}
	return all
}

// The servers of the compose file, without containers: with its settings, its scripts and lockstep's configuration, all is in
// step, and what the load does on a replica is found.
func TestWhatIsComposedWorks(t *testing.T) {
	project := composed(t)
	hosts := []string{}
	servers := map[string]func(sql ...string) error{}
	postgres := func(name string) {
		s := dbtest.StartT(t, dbtest.Need(t, dbtest.PG15), dbtest.Options{Database: "shop", Conf: set(project.Services[name]), Below: dbtest.MemoryDir()})
		servers[name] = func(sql ...string) error { return s.Exec(t.Context(), sql...) }
		if err := servers[name](scripts(t, project.Services[name], append(hosts, "host=pg-eu", "host=127.0.0.1 port="+port(hosts, "pg-eu"))...)...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		hosts = append(hosts, "@"+name+"/", fmt.Sprintf("@127.0.0.1:%d/", s.Port))
	}
	mysql := func(name string, flavour dbtest.Flavour) {
		s := dbtest.StartMySQLT(t, dbtest.NeedMySQL(t, flavour), dbtest.Options{Conf: set(project.Services[name])})
		servers[name] = func(sql ...string) error { return s.Exec(t.Context(), sql...) }
		source := strings.TrimSuffix(name, "us") + "eu"
		if err := servers[name](scripts(t, project.Services[name], "HOST = '"+source+"'", "HOST = '127.0.0.1'", "PORT = 3306", "PORT = "+port(hosts, source))...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		hosts = append(hosts, "@"+name+":3306", fmt.Sprintf("@127.0.0.1:%d", s.Port))
	}
	postgres("pg-eu")
	postgres("pg-us1")
	postgres("pg-us2")
	mysql("mysql-eu", dbtest.MySQL97)
	mysql("mysql-us", dbtest.MySQL97)
	mysql("mariadb-eu", dbtest.MariaDB1011)
	mysql("mariadb-us", dbtest.MariaDB1011)

	password := filepath.Join(t.TempDir(), "lockstep") // which a container finds below /run/secrets
	if err := os.WriteFile(password, read(t, "compose/lockstep/password"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := read(t, "compose/lockstep/lockstep.yaml", append(hosts, "/run/secrets/lockstep", password, "/var/lib/lockstep", t.TempDir(), "10s", "1s")...)
	c, err := config.Parse("lockstep.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	c.Alerts = config.Alerts{}
	var d *daemon.Daemon
	var refused error
	err = dbtest.WaitFor(t.Context(), "lockstep to start, once the replicas have their tables", func(context.Context) (bool, error) {
		d, refused = daemon.Start(t.Context(), c, daemon.Options{Version: "test"})
		return refused == nil, nil
	})
	if err != nil {
		t.Fatalf("%v: %v", err, refused)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("lockstep ends with %v", err)
		}
	}()
	e := &estate{T: t, pages: &pages{}}
	e.lockstep = serve(t, d)
	e.until("all groups to be in step", func() (bool, error) {
		var groups []struct{ Name, State string }
		err := answer(t, e.lockstep+"/api/v1/groups", &groups)
		in := 0
		for _, g := range groups {
			if g.State == "in_step" {
				in++
			}
		}
		return in == 3, err
	})
	for replica, table := range map[string]string{"pg-us1": "orders", "mysql-us": "shop.orders", "mariadb-us": "shop.orders"} {
		if err := servers[replica]("UPDATE " + table + " SET amount = 666 WHERE id = 50"); err != nil {
			t.Fatal(err)
		}
	}
	e.until("each to be found", func() (bool, error) {
		var list []struct{ Group, Member, Table, Kind string }
		err := answer(t, e.lockstep+"/api/v1/divergences?state=open", &list)
		return len(list) == 3, err
	})
	// The load goes on after it has meddled. MariaDB's replica stopped for good at the next transaction of its primary.
	for primary, table := range map[string]string{"pg-eu": "orders", "mysql-eu": "shop.orders", "mariadb-eu": "shop.orders"} {
		if err := servers[primary]("UPDATE "+table+" SET amount = 10 WHERE id = 50", "UPDATE "+table+" SET amount = 11 WHERE id = 51"); err != nil {
			t.Fatal(err)
		}
	}
	e.until("it to be over once the primaries' changes have arrived", func() (bool, error) {
		var list []struct{ Group, Member, Table, Kind string }
		err := answer(t, e.lockstep+"/api/v1/divergences?state=open", &list)
		return len(list) == 0, err
	})
	if out, err := exec.CommandContext(t.Context(), "bash", "-c", "source <(sed '/^meddle &/,$d' compose/load.sh) postgres a b; changes").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "UPDATE orders SET") {
		t.Errorf("the load's statements are %s (%v)", out, err)
	}
}

// port finds the one that stands for a host.
func port(hosts []string, name string) string {
	for i := 0; i+1 < len(hosts); i += 2 {
		if strings.HasPrefix(hosts[i], "@"+name) {
			return strings.Trim(hosts[i+1][strings.LastIndex(hosts[i+1], ":"):], ":/")
		}
	}
	return ""
}
