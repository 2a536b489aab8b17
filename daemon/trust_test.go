package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/monitor"
)

func TestServersThatAreTakenOnTrustAreNamedOnce(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable") // which is not for members
	var said bytes.Buffer
	d := &Daemon{log: slog.New(slog.NewTextHandler(&said, nil))}
	for engine, dsns := range map[string]map[string]string{
		config.Postgres: {
			"here": "postgres://u@127.0.0.1/db?sslmode=disable", "proven": "postgres://u@10.0.0.1/db", "named": "host=10.0.0.1 dbname=db user=u sslmode=verify-full",
			"plain": "postgres://u@10.0.0.1/db?sslmode=disable", "told": "postgres://u@10.0.0.1/db?sslmode=require&require_auth=password",
		},
		config.MySQL: {
			"here": "mysql://u@127.0.0.1?insecure_password=allow", "proven": "mysql://u@10.0.0.1", "named": "mysql://u@10.0.0.1?tls=verify-full",
			"plain": "mysql://u@10.0.0.1?tls=disable", "told": "mysql://u@10.0.0.1?tls=required&insecure_password=allow",
		},
	} {
		var members []*member
		for name, dsn := range dsns {
			members = append(members, &member{Member: monitor.Member{Name: name}, as: config.Member{Name: name, DSN: dsn}})
		}
		said.Reset()
		d.warnOfTrust(&config.Group{Name: "g", Engine: engine}, members)
		for member, words := range map[string]string{
			"here": "", "proven": "", "named": "", "plain": "nothing is encrypted, and who the server is is not verified",
			"told": "the server's certificate is not verified, and it",
		} {
			lines := 0
			for line := range strings.Lines(said.String()) {
				if strings.Contains(line, "level=WARN") && strings.Contains(line, "member="+member+" ") {
					lines++
					if !strings.Contains(line, words) {
						t.Errorf("%s: %q, want: %s", engine, line, words)
					}
				}
			}
			if want := min(len(words), 1); lines != want {
				t.Errorf("%s: %d lines of %s, want %d: %s", engine, lines, member, want, said.String())
			}
		}
	}
}
