package dbtest

// NeedMySQL finds a flavour, as Need finds a version of PostgreSQL.
func NeedMySQL(t TB, f Flavour) MySQLInstall {
	t.Helper()
	install, err := FindMySQL(f)
	needed(t, err)
	return install
}

// StartMySQLT starts a server that ends with the test. If the test fails, the end of the server's log is shown.
func StartMySQLT(t TB, install MySQLInstall, o Options) *MySQLServer {
	t.Helper()
	s, err := StartMySQL(t.Context(), install, inMemory(o))
	if err != nil {
		t.Fatalf("%v", err)
	}
	closeT(t, install.Flavour, s)
	return s
}

// MySQLGroupT makes a group that ends with the test.
func MySQLGroupT(t TB, install MySQLInstall, replicas int, schema string, o Options) *MySQLGroup {
	t.Helper()
	g, err := NewMySQLGroup(t.Context(), install, replicas, schema, inMemory(o))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, s := range g.Members() {
		closeT(t, install.Flavour, s)
	}
	return g
}
