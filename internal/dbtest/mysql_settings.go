package dbtest

import (
	"maps"
	"slices"
	"strconv"
)

// mysqlBaseline makes a server small, quick, and ready to be tailed, as baseline does on PostgreSQL. Nothing is synced to
// disk, but all is handed to the kernel at commit, so that kill -9 loses nothing. innodb_flush_log_at_trx_commit is
// therefore 2: with 0, InnoDB would forget what its own binlog says it did.
var mysqlBaseline = map[string]string{
	"log_bin":                        "binlog",
	"binlog_row_image":               "FULL",
	"binlog_row_metadata":            "FULL",
	"relay_log":                      "relay",
	"relay_log_recovery":             "ON", // a killed replica fetches again what it had not applied
	"sync_binlog":                    "0",
	"sync_relay_log":                 "0",
	"innodb_flush_log_at_trx_commit": "2",
	"innodb_doublewrite":             "OFF",
	"innodb_use_native_aio":          "OFF",
	"innodb_buffer_pool_size":        "32M",
	"key_buffer_size":                "64K", // of 8M and 128M: nobody has large tables of MyISAM
	"max_connections":                "100",
	"default_time_zone":              "+00:00",
	"skip_name_resolve":              "ON",
}

var flavourBaseline = map[bool]map[string]string{
	true: {
		"binlog_format":        "ROW", // the default is MIXED
		"log_slave_updates":    "ON",
		"innodb_log_file_size": "16M",
		"performance_schema":   "OFF",
		"character_set_server": "utf8mb4", // the default is latin1
		// of 128M, whose lists of pages are written at the start: that was a third of what a start took
		"aria_pagecache_buffer_size": "1M",
	},
	false: {
		"gtid_mode":                     "ON",
		"enforce_gtid_consistency":      "ON",
		"log_replica_updates":           "ON",
		"innodb_redo_log_capacity":      "16M",
		"innodb_log_buffer_size":        "1M", // of 64M, which are zeroed at the start
		"mysqlx":                        "OFF",
		"performance_schema":            "ON", // the state of replication is read from it
		"performance_schema_instrument": "%=OFF",
		"table_open_cache_instances":    "1",
	},
}

// unmeasured is what the performance schema would set memory aside for, and zero it, before a server answers: with the
// defaults a start takes 2.6 s of processor time and 470 MB, without 1.1 s and 170 MB.
var unmeasured = []string{
	"accounts_size", "hosts_size", "users_size", "digests_size", "error_size", "session_connect_attrs_size",
	"events_waits_history_size", "events_waits_history_long_size", "events_stages_history_size", "events_stages_history_long_size",
	"events_statements_history_size", "events_statements_history_long_size",
	"events_transactions_history_size", "events_transactions_history_long_size",
	"max_cond_classes", "max_file_classes", "max_memory_classes", "max_mutex_classes", "max_rwlock_classes",
	"max_socket_classes", "max_stage_classes", "max_statement_classes", "max_sql_text_length", "max_digest_length",
	"max_table_handles", "max_table_instances", "max_program_instances", "max_prepared_statements_instances",
}

// settings merges the baselines with those of the caller, which override. What makes the server ours stays as it is.
func (s *MySQLServer) settings() map[string]string {
	all := maps.Clone(mysqlBaseline)
	maps.Copy(all, flavourBaseline[s.Install.Flavour.MariaDB()])
	if !s.Install.Flavour.MariaDB() {
		for _, name := range unmeasured {
			all["performance_schema_"+name] = "0"
		}
		all["performance_schema_max_statement_stack"] = "1" // the least
	}
	all["server_id"] = strconv.Itoa(s.Port) // no two servers on this machine have the same port
	maps.Copy(all, s.conf)
	maps.Copy(all, s.Install.places())
	all["datadir"] = s.data()
	all["tmpdir"] = s.dir
	all["bind_address"] = "127.0.0.1"
	all["port"] = strconv.Itoa(s.Port)
	all["socket"] = "mysql.sock" // inside the data directory, however long its path
	all["pid_file"] = "mysql.pid"
	return all
}

// arguments writes settings as a command line. No file of settings is read: neither this machine's nor a user's.
func arguments(settings map[string]string) []string {
	list := []string{"--no-defaults"}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		list = append(list, "--"+name+"="+settings[name])
	}
	return list
}
