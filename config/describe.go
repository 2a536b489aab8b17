package config

import "strings"

// about says in a line what each key is for. Those that all kinds of receivers have stand below alerts.*.
var about = map[string]string{
	"data_dir":           "The store: nothing else may write there, and one lockstep only. Made at the first start.",
	"listen":             "host:port of the API and the metrics. Keep it on loopback, or have it ask for passwords.",
	"lag_budget":         "How long a difference may last before it is a divergence, 30 days at most.",
	"max_in_flight_rows": "Row changes of a group that wait for members to replay them. A member that is further behind is unverified.",
	"groups":             "Servers that must hold the same rows, at least one group.",
	"web":                "What the API goes by.",
	"web.allowed_hosts":  "Names of hosts under which the API is called, beside addresses, localhost, and those of listen and alerts.external_url.",
	"roles":              "Which users of --web.config.file may do what over the API; without the key, all may do all.",
	"roles.viewer":       "Read: metrics, states, divergences.",
	"roles.operator":     "Read, acknowledge, ask for scrubs, reload.",
	"roles.auditor":      "Read, and take reports out of the audit log.",

	"groups.name":            "1 to 40 of a-z, 0-9 and _. On PostgreSQL slots and publications are called lockstep_NAME.",
	"groups.engine":          "What the servers are. mysql and mariadb are one to lockstep: it asks each server what it is.",
	"groups.lag_budget":      "Of this group, in place of the file's.",
	"groups.reference":       "The member that the others are held against. Left out, it is the one that they replicate from.",
	"groups.members":         "A primary, or publisher, and its replicas, at least 2.",
	"groups.tables":          "Which tables are watched.",
	"groups.scrub":           "How rows are read again, to find what no log shows.",
	"groups.canary":          "A row that differs on purpose, to measure how fast it is found.",
	"groups.expected_writes": "Writes of a member's own that are known: what differs by them is shown, and alerts nobody.",

	"groups.members.name":             "Letters, digits, dot, hyphen and _. Another name is another member.",
	"groups.members.dsn":              "PostgreSQL: a postgres:// URL or key=value pairs. MySQL and MariaDB: a mysql:// URL. No password in clear text.",
	"groups.members.password_file":    "Holds the password and nothing else. Read anew for every connection.",
	"groups.members.scan_only":        "true: its log is not read, only its rows are.",
	"groups.members.max_retained_wal": "PostgreSQL: with how much WAL kept for lockstep its slot is given up (512MB, 10GB, 1TB), or off.",

	"groups.tables.include":                   "Patterns over schema.table: * is any run of characters, ? any one, dots included.",
	"groups.tables.exclude":                   "Patterns of tables that are left out.",
	"groups.tables.overrides":                 "What is special about single tables.",
	"groups.tables.overrides.table":           "schema.table, no pattern; it has to be watched.",
	"groups.tables.overrides.exclude_columns": "Columns that are not compared. Not those of the primary key.",
	"groups.tables.overrides.lag_budget":      "Of this table, in place of the group's.",
	"groups.tables.overrides.scrub_every":     "Of this table, in place of the group's scrub.every; or off.",
	"groups.tables.overrides.row_index":       "off, on MySQL and MariaDB only: no digest of each row is kept.",

	"groups.scrub.every":               "The time within which all rows of each member are read once, or off.",
	"groups.scrub.windows":             "Local times at which scrubs may run, such as 22:00-06:00 or Sat-Sun 00:00-24:00; left out: always.",
	"groups.scrub.max_rows_per_second": "Of each member.",
	"groups.scrub.chunk_time":          "What one statement aims to take.",
	"groups.scrub.max_replica_lag":     "While a replica of the group is further behind, nothing is scanned.",

	"groups.canary.table":   "A table that holds nothing else, on all members: (id bigint PRIMARY KEY, note varchar(100) NOT NULL).",
	"groups.canary.every":   "Time between two canaries on a member.",
	"groups.canary.members": "The replicas to write into. MySQL and MariaDB have no default: each canary is an errant transaction.",

	"groups.expected_writes.tables":    "Patterns over schema.table.",
	"groups.expected_writes.members":   "Left out: all.",
	"groups.expected_writes.kinds":     "Left out: all.",
	"groups.expected_writes.first_key": "Of a single table, the first key as JSON in quotes, such as '{\"id\": 1000}' or '1000'.",
	"groups.expected_writes.last_key":  "Of a single table, the last key as JSON in quotes.",

	"alerts":              "Who is told of divergences.",
	"alerts.external_url": "Where people reach the API, for the links in alerts.",
	"alerts.runbook_url":  "The folder of the runbooks, for who keeps copies of them: the alert's page is linked below it.",
	"alerts.watchdog":     "true: Alertmanager is told of an alert that always fires.",
	"alerts.alertmanager": "All instances of an Alertmanager.",
	"alerts.webhook":      "Receivers of what Alertmanager sends to a webhook.",
	"alerts.pagerduty":    "Services of PagerDuty: each alert is one incident.",
	"alerts.slack":        "Channels of Slack.",

	"alerts.alertmanager.url":           "Of one instance, such as http://alertmanager:9093.",
	"alerts.alertmanager.username":      "For basic authentication.",
	"alerts.alertmanager.password_file": "Holds the password. Read anew for every message.",
	"alerts.webhook.url":                "http:// or https://. It never shows in logs.",
	"alerts.webhook.secret_file":        "Holds the key that signs what is sent.",
	"alerts.pagerduty.url":              "In place of PagerDuty's own.",
	"alerts.pagerduty.routing_key_file": "Holds the routing key of an integration for the Events API v2.",
	"alerts.slack.url_file":             "Holds the URL of an incoming webhook.",
	"alerts.*.name":                     "What the receiver was told is kept under its name; left out, one is made from the address.",
	"alerts.*.clear_text":               "true: secrets may go to an http:// address of another machine.",
	"alerts.*.match":                    "Which alerts it is told of: they have to fit all that are given.",
	"alerts.*.match.severity":           "Left out: all.",
	"alerts.*.match.groups":             "Left out: all.",
	"alerts.*.match.members":            "Left out: all.",
	"alerts.*.match.tables":             "Patterns over schema.table; left out: all.",

	"audit":                      "Keeps a signed record for auditors; {} has it with all defaults.",
	"audit.every":                "Time between two records of what each member was known to hold.",
	"audit.include_keys":         "true: keys of rows that differ are recorded as they are, not as keyed hashes.",
	"audit.provable_for":         "For how long single ranges can be proven after a record of coverage, or off.",
	"audit.origin":               "Name of the log, part of its key. It cannot be changed later.",
	"audit.timestamps":           "A time-stamping authority (RFC 3161) that tells when the log was how long.",
	"audit.timestamps.url":       "Address of the authority.",
	"audit.timestamps.ca_file":   "PEM file with its root certificate. With it a stamp is kept only if it can be verified.",
	"audit.timestamps.every":     "Time between two stamps, if there is something new.",
	"audit.witnesses":            "Witnesses that cosign the log.",
	"audit.witnesses.url":        "Address of the witness.",
	"audit.witnesses.key":        "As lockstep audit witness prints it.",
	"audit.copy":                 "An S3 bucket that the log is copied to.",
	"audit.copy.endpoint":        "S3 server, such as https://s3.eu-central-1.amazonaws.com.",
	"audit.copy.bucket":          "Name of the bucket.",
	"audit.copy.prefix":          "Folder in the bucket.",
	"audit.copy.region":          "If the server does not say it.",
	"audit.copy.access_key":      "Left out with secret_key_file: those of the environment, or of the role of the instance.",
	"audit.copy.secret_key_file": "Holds the secret key.",
	"audit.copy.ca_file":         "PEM file with the authority of the server's certificate.",
	"audit.copy.every":           "Time between two copies.",
	"audit.copy.retain":          "For how long each object is locked from when it is written on, or off.",
	"audit.copy.mode":            "governance: those with a privilege of its own can undo a lock.",
}

// kindsOfReceivers has their keys found below alerts.*.
var kindsOfReceivers = strings.NewReplacer("alerts.webhook.", "alerts.*.", "alerts.pagerduty.", "alerts.*.", "alerts.slack.", "alerts.*.", "alerts.alertmanager.", "alerts.*.")

// describe fills in what keys are for, below a path.
func (s *Schema) describe(path string) {
	for name, p := range s.Properties {
		at := join(path, name)
		p.Description = about[at]
		if p.Description == "" {
			p.Description = about[kindsOfReceivers.Replace(at)]
		}
		p.describe(at)
		if p.Items != nil {
			p.Items.describe(at)
		}
	}
}
