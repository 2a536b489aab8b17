package mysql

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

var scanHasher = digest.NewHasher([32]byte{1, 2, 3})

// onServers runs tests on one server of each flavour, the flavours side by side. The account lockstep has the password "pw"
// and no more than it needs.
func onServers(t *testing.T, tests map[string]func(*testing.T, *dbtest.MySQLServer)) {
	for _, f := range flavours {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			server := dbtest.StartMySQLT(t, dbtest.NeedMySQL(t, f), anew)
			if err := server.GrantLockstep(t.Context(), "pw"); err != nil {
				t.Fatal(err)
			}
			for name, test := range tests {
				t.Run(name, func(t *testing.T) { test(t, server) })
			}
		})
	}
}

// anyServer lets servers have passwords that prove nothing, as those of tests do.
const anyServer = "insecure_password=allow"

// probe is a source of a server, as the account lockstep.
func probe(t *testing.T, server *dbtest.MySQLServer, parameters string) *Source {
	t.Helper()
	if parameters == "" {
		parameters = "?" + anyServer
	}
	s, err := New(Options{
		Member: "m", DSN: server.DSNFor(dbtest.LockstepUser, "app") + parameters,
		Password: func() (string, error) { return "pw", nil },
	}, scanHasher)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.renew = 0 // a privilege that is granted counts at once
	return s
}

func run(t *testing.T, server *dbtest.MySQLServer, statements ...string) {
	t.Helper()
	if err := server.Exec(t.Context(), statements...); err != nil {
		t.Fatal(err)
	}
}

func TestConnections(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"wrong password is for the operator":            wrongPassword,
		"password is read anew":                         rotatedPassword,
		"wrong password is not tried over and over":     fewLogins,
		"missing privilege is not asked for in haste":   fewSessions,
		"certificates are judged as the DSN says":       certificates,
		"hostile defaults do not reach our sessions":    hostileDefaults,
		"our sessions cannot write":                     readOnly,
		"the end of a context ends a statement":         interrupted,
		"session that the server has ended is replaced": replaced,
		"server says who it is, whatever its server_id": identity,
		"an error of ours while rows come is returned":  ourError,
		"a Unix socket will do":                         unixSocket,
		"accounts of every kind are logged in to":       everyAccount,
	})
}

func wrongPassword(t *testing.T, server *dbtest.MySQLServer) {
	s := probe(t, server, "")
	s.options.Password = func() (string, error) { return "hush", nil }
	_, err := s.Server(t.Context())
	if !cdc.IsSetup(err) {
		t.Fatalf("%v", err)
	}
	for _, words := range []string{"member m: ", fmt.Sprintf("127.0.0.1:%d", server.Port), "as lockstep", "Access denied", "password_file"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%v: want one about %q", err, words)
		}
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("the error holds the password: %v", err)
	}
}

// statusOf is what the server counts of something.
func statusOf(t *testing.T, server *dbtest.MySQLServer, what string) int {
	t.Helper()
	rows, err := server.Show(t.Context(), "SHOW GLOBAL STATUS LIKE '"+what+"'")
	if err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	n, err := strconv.Atoi(rows[0]["Value"])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fewLogins has all that lockstep asks of members, in parallel and again and again, be one wrong password of one account.
func fewLogins(t *testing.T, server *dbtest.MySQLServer) {
	secret, logins := "hush", cdc.NewLogins()
	source := func(schema string) *Source {
		s, err := New(Options{
			Member: "m", DSN: server.DSNFor(dbtest.LockstepUser, schema) + "?" + anyServer, Logins: logins,
			Password: func() (string, error) { return secret, nil },
		}, scanHasher)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	sources := []*Source{source("app"), source("shop")}
	denied := "Aborted_connects"
	if strings.Contains(server.Install.Flavour.String(), "MariaDB") { // which counts an offer of TLS that it has not taken, too
		denied = "Access_denied_errors"
	}
	before, began := statusOf(t, server, denied), time.Now()
	var all sync.WaitGroup
	for i := range 8 {
		s := sources[i%len(sources)]
		all.Go(func() {
			for range 5 {
				_, identity := s.Server(t.Context())
				_, tables := s.Tables(t.Context(), func(string) bool { return true })
				_, progress := s.Progress(t.Context())
				_, snapshot := s.Snapshot(t.Context())
				stream := s.Stream(t.Context(), cdc.Position{}, func(cdc.Event) error { return nil })
				for what, err := range map[string]error{"identity": identity, "tables": tables, "progress": progress, "stream": stream} {
					if !cdc.IsDenied(err) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if snapshot == nil {
					t.Error("a snapshot is opened")
				}
			}
		})
	}
	all.Wait()
	err := dbtest.WaitFor(t.Context(), "the login to be counted, after its answer", func(context.Context) (bool, error) {
		return statusOf(t, server, denied) > before, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, most := statusOf(t, server, denied)-before, 1+int(time.Since(began)/(5*time.Second)); n < 1 || n > most {
		t.Errorf("%d logins, want 1 to %d", n, most)
	}
	secret = "pw"
	for _, s := range sources {
		if _, err := s.Server(t.Context()); err != nil {
			t.Errorf("another password is not tried at once: %v", err)
		}
	}
}

// fewSessions asks again and again for what the account may not see.
func fewSessions(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "SET sql_log_bin = 0; CREATE USER poor@'%' IDENTIFIED BY 'pw'; GRANT SELECT ON app.* TO poor@'%'")
	s := probe(t, server, "")
	s.address.user, s.renew = "poor", 2*time.Second
	before, began := statusOf(t, server, "Connections"), time.Now()
	for range 50 {
		if _, err := s.Progress(t.Context()); !cdc.IsSetup(err) {
			t.Fatalf("%v", err)
		}
	}
	// Each count opens a session of its own.
	if n, most := statusOf(t, server, "Connections")-before, 3+int(time.Since(began)/s.renew); n > most {
		t.Errorf("%d sessions, want at most %d", n, most)
	}
}

func rotatedPassword(t *testing.T, server *dbtest.MySQLServer) {
	s := probe(t, server, "")
	secret, failure := "pw", error(nil)
	s.options.Password = func() (string, error) { return secret, failure }
	if _, err := s.Server(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, server, "SET sql_log_bin = 0; ALTER USER lockstep@'%' IDENTIFIED BY 'new'")
	defer run(t, server, "SET sql_log_bin = 0; ALTER USER lockstep@'%' IDENTIFIED BY 'pw'")
	s.Close()
	secret = "new"
	if _, err := s.Server(t.Context()); err != nil {
		t.Error(err)
	}
	s.Close()
	failure = errors.New("open /run/secrets/m: permission denied")
	if _, err := s.Server(t.Context()); !cdc.IsSetup(err) || !strings.Contains(err.Error(), "/run/secrets/m: permission denied") {
		t.Errorf("%v", err)
	}
}

func certificates(t *testing.T, server *dbtest.MySQLServer) {
	if server.Install.Flavour.MariaDB() { // it was started without TLS
		if _, err := probe(t, server, "?tls=preferred").Server(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := probe(t, server, "?tls=required").Server(t.Context()); !cdc.IsSetup(err) || !strings.Contains(err.Error(), "the server has no TLS") {
			t.Errorf("%v", err)
		}
		return
	}
	folder, err := dbtest.MySQLValue[string](t.Context(), server, "SELECT @@datadir")
	if err != nil {
		t.Fatal(err)
	}
	for parameters, words := range map[string]string{
		"tls=disable&" + anyServer: "", "tls=preferred&" + anyServer: "", "tls=required&" + anyServer: "",
		"tls=verify-ca&tls_ca=" + folder + "ca.pem":   "",
		"tls=verify-full&tls_ca=" + folder + "ca.pem": "certificate",
		"tls=verify-ca":                               "certificate",
		"tls=verify-ca&tls_ca=/nowhere":               "tls_ca /nowhere",
		"tls=verify-ca&tls_ca=" + folder + "auto.cnf": "holds no certificate",
	} {
		s := probe(t, server, "?"+parameters)
		_, err := s.Server(t.Context())
		if words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
			t.Errorf("%s: %v, want one about %q", parameters, err, words)
		}
		if words != "" {
			continue
		}
		err = s.ask(t.Context(), func(ctx context.Context, c *session) error {
			rows, err := c.query(ctx, "SHOW STATUS LIKE 'Ssl_version'")
			if err == nil && (rows[0].at(1) == "") != strings.Contains(parameters, "tls=disable") {
				t.Errorf("%s: %q", parameters, rows[0].at(1))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// hostileDefaults has the server set, for each session, all that would make values look different or rows vanish.
func hostileDefaults(t *testing.T, server *dbtest.MySQLServer) {
	hostile := "SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH,ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone = '+05:30', sql_select_limit = 1, wait_timeout = 5, " +
		"sql_big_selects = 0, character_set_results = latin1, autocommit = 0, max_sort_length = 64, sql_quote_show_create = 0, "
	if server.Install.Flavour.MariaDB() {
		hostile += "idle_readonly_transaction_timeout = 5, max_statement_time = 5, system_versioning_asof = '2020-01-01 00:00:00'"
	} else {
		hostile += "max_execution_time = 5, show_gipk_in_create_table_and_information_schema = OFF"
	}
	run(t, server, "CREATE TABLE app.padded (id int PRIMARY KEY, c char(3), ts timestamp NULL)", "INSERT INTO app.padded VALUES (1, 'x', '2024-02-29 12:00:00'), (2, 'é', NULL)",
		"SET GLOBAL init_connect = "+quoteText(hostile))
	defer run(t, server, "SET GLOBAL init_connect = ''")
	s := probe(t, server, "")
	err := s.ask(t.Context(), func(ctx context.Context, c *session) error {
		rows, err := c.query(ctx, "SELECT c, ts, \"te\\nxt\" = X'74650A7874', @@wait_timeout > 3600 FROM app.padded")
		if err != nil {
			return err
		}
		if len(rows) != 2 || rows[0].at(0) != "x" || rows[0].at(1) != "2024-02-29 12:00:00" || rows[0].at(2) != "1" || rows[0].at(3) != "1" || rows[1].at(0) != "é" {
			t.Errorf("%v", rows)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if tables, err := s.Tables(t.Context(), func(name string) bool { return name == "app.padded" }); err != nil || len(tables) != 1 || len(tables[0].Columns) != 3 {
		t.Errorf("%+v, %v", tables, err)
	}
}

func readOnly(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE IF NOT EXISTS app.guarded (id int PRIMARY KEY)")
	s := probe(t, server, "")
	s.address.user, s.options.Password = "root", nil
	err := s.ask(t.Context(), func(ctx context.Context, c *session) error {
		return c.exec(ctx, "INSERT INTO app.guarded VALUES (1)")
	})
	if err == nil || !strings.Contains(err.Error(), "READ ONLY") {
		t.Errorf("%v", err)
	}
}

func interrupted(t *testing.T, server *dbtest.MySQLServer) {
	s := probe(t, server, "")
	if _, err := s.Server(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	err := s.ask(ctx, func(ctx context.Context, c *session) error {
		return c.call(ctx, func() error {
			time.AfterFunc(100*time.Millisecond, cancel)
			_, err := c.conn.Execute("SELECT SLEEP(60)")
			return err
		})
	})
	if !errors.Is(err, context.Canceled) || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if _, err := s.Confirmed(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.Confirmed(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func replaced(t *testing.T, server *dbtest.MySQLServer) {
	s := probe(t, server, "")
	id := func() (id string) {
		t.Helper()
		err := s.ask(t.Context(), func(ctx context.Context, c *session) error {
			rows, err := c.query(ctx, "SELECT CONNECTION_ID()")
			if err == nil {
				id = rows[0].at(0)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := id()
	if again := id(); again != first {
		t.Errorf("session %s was given up for %s without need", first, again)
	}
	run(t, server, "KILL "+first)
	err := dbtest.WaitFor(t.Context(), "the session to be gone", func(ctx context.Context) (bool, error) {
		n, err := dbtest.MySQLValue[int64](ctx, server, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = "+first)
		return n == 0, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if second := id(); second == first {
		t.Errorf("session %s was ended, and is still used", first)
	}
}

func identity(t *testing.T, server *dbtest.MySQLServer) {
	s := probe(t, server, "")
	before, err := s.Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := dbtest.MySQLValue[string](t.Context(), server, "SELECT @@server_id")
	if err != nil {
		t.Fatal(err)
	}
	run(t, server, "SET GLOBAL server_id = 4711")
	defer run(t, server, "SET GLOBAL server_id = "+id)
	s.Close()
	after, err := s.Server(t.Context())
	if err != nil || after != before {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
	if _, err := s.Confirmed(t.Context()); err != nil {
		t.Error(err)
	}
	conn := <-s.catalog
	if s.catalog <- conn; conn != nil {
		t.Error("a session is kept of a source that was closed")
	}
	if before.SystemID == "" || before.Timeline != 0 || before.Database != "" || !strings.HasPrefix(before.Version, server.Install.Flavour.String()+".") {
		t.Errorf("%+v", before)
	}
}

func ourError(t *testing.T, server *dbtest.MySQLServer) {
	s := probe(t, server, "")
	ours := errors.New("ours")
	n := 0
	err := s.ask(t.Context(), func(ctx context.Context, c *session) error {
		return c.stream(ctx, "SELECT 1 UNION ALL SELECT 2", func([]wire.FieldValue) error {
			n++
			return ours
		})
	})
	if !errors.Is(err, ours) || n != 1 {
		t.Errorf("%v after %d rows", err, n)
	}
	if _, err := s.Server(t.Context()); err != nil {
		t.Error(err)
	}
}

func unixSocket(t *testing.T, server *dbtest.MySQLServer) {
	folder, err := dbtest.MySQLValue[string](t.Context(), server, "SELECT @@datadir")
	if err != nil {
		t.Fatal(err)
	}
	query := url.Values{"socket": {strings.TrimSuffix(folder, "/") + "/mysql.sock"}}
	s, err := New(Options{Member: "m", DSN: "mysql://lockstep:pw@/app?" + query.Encode()}, scanHasher)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Server(t.Context()); err != nil {
		t.Error(err)
	}
}

// everyAccount logs in by each way that servers know of, where the DSN lets them have the password and where it does not.
func everyAccount(t *testing.T, server *dbtest.MySQLServer) {
	const proves, tells = true, false
	kinds := map[string]bool{"caching_sha2_password": tells, "sha256_password": tells}
	account := "IDENTIFIED WITH %s BY 'pw'"
	if server.Install.Flavour.MariaDB() {
		kinds, account = map[string]bool{"mysql_native_password": proves}, "IDENTIFIED VIA %s USING PASSWORD('pw')"
	}
	for plugin, kind := range kinds {
		run(t, server, "SET sql_log_bin = 0; CREATE USER kind@'%' "+fmt.Sprintf(account, plugin))
		for _, parameters := range []string{"?tls=preferred", "?tls=disable", "?" + anyServer, "?tls=disable&" + anyServer} {
			run(t, server, "FLUSH PRIVILEGES") // and what caching_sha2_password has in its cache
			s := probe(t, server, parameters)
			s.address.user = "kind"
			c, err := s.open(t.Context())
			if err == nil {
				c.hangUp()
			}
			if let := kind == proves || s.address.insecurePassword; let != (err == nil) || !let && !strings.Contains(err.Error(), "insecure_password=allow") {
				t.Errorf("%s %s: %v", plugin, parameters, err)
			}
		}
		run(t, server, "SET sql_log_bin = 0; DROP USER kind@'%'")
	}
}

func TestServerThatIsNotThereIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = strange(t, address, "").Server(t.Context())
	if err == nil || cdc.IsSetup(err) || !strings.Contains(err.Error(), "connect to "+address+" as lockstep") {
		t.Errorf("%v", err)
	}
}

func strange(t *testing.T, address, parameters string) *Source {
	t.Helper()
	s, err := New(Options{Member: "m", DSN: "mysql://lockstep:pw@" + address + parameters}, scanHasher)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestServerThatSpeaksSomethingElseIsAnError has servers that greet with bytes of which the driver takes for granted that
// there are more, or none at all.
func TestServerThatSpeaksSomethingElseIsAnError(t *testing.T) {
	for name, greeting := range map[string]string{
		"nothing":              "",
		"an empty packet":      "00000000",
		"a version alone":      "02000000" + "0a38",
		"half a greeting":      "0a000000" + "0a382e3000" + "0100000061",
		"a salt that is short": "30000000" + "0a382e3000" + "01000000" + "6161616161616161" + "00" + "ffff" + "21" + "0200" + "ffff" + "ff" + "00000000000000000000" + "6161",
		"an error":             "17000001" + "ff1504233238303030" + "41636365737320646e69",
		"another protocol":     hex.EncodeToString([]byte("SSH-2.0-OpenSSH_9.2\r\n")),
	} {
		t.Run(name, func(t *testing.T) {
			bytes, err := hex.DecodeString(greeting)
			if err != nil {
				t.Fatal(err)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Write(bytes)
					if greeting == "" {
						defer conn.Close() // it stays silent until the end
						continue
					}
					_ = conn.Close()
				}
			}()
			_, err = strange(t, listener.Addr().String(), "?timeout=300ms").Server(t.Context())
			if err == nil || !strings.Contains(err.Error(), "connect to "+listener.Addr().String()) {
				t.Errorf("%v", err)
			}
			if greeting == "" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			_ = listener.Close()
			<-done
		})
	}
}
