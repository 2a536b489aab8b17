package mysql

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// version is what a server is.
type version struct {
	mariadb             bool
	major, minor, patch int
}

// parseVersion reads @@version: 9.7.0, 8.0.36-28, 10.11.14-MariaDB-log.
func parseVersion(text string) version {
	v := version{mariadb: strings.Contains(strings.ToLower(text), "mariadb")}
	number, _, _ := strings.Cut(text, "-")
	for i, part := range strings.SplitN(number, ".", 4) {
		n, err := strconv.Atoi(part)
		if err != nil || i > 2 {
			break
		}
		*[]*int{&v.major, &v.minor, &v.patch}[i] = n
	}
	return v
}

func (v version) String() string {
	name := "MySQL"
	if v.mariadb {
		name = "MariaDB"
	}
	return fmt.Sprintf("%s %d.%d.%d", name, v.major, v.minor, v.patch)
}

// atLeast compares within a flavour.
func (v version) atLeast(major, minor, patch int) bool {
	switch {
	case v.major != major:
		return v.major > major
	case v.minor != minor:
		return v.minor > minor
	}
	return v.patch >= patch
}

func (v version) supported() error {
	if v.mariadb && v.atLeast(10, 6, 0) || !v.mariadb && v.atLeast(8, 0, 0) {
		return nil
	}
	return &cdc.SetupError{Problem: v.String() + " is too old", Hint: "lockstep watches MySQL 8.0 and newer, and MariaDB 10.6 and newer"}
}

// logStatus asks for the end of the binlog.
func (v version) logStatus() string {
	switch {
	case v.mariadb:
		return "SHOW BINLOG STATUS"
	case v.atLeast(8, 2, 0):
		return "SHOW BINARY LOG STATUS"
	}
	return "SHOW MASTER STATUS"
}

// replicaStatus asks for the state of all channels.
func (v version) replicaStatus() string {
	switch {
	case v.mariadb:
		return "SHOW ALL SLAVES STATUS"
	case v.atLeast(8, 0, 22):
		return "SHOW REPLICA STATUS"
	}
	return "SHOW SLAVE STATUS"
}

// seeLog is the privilege to ask for the state of the binlog, seeReplicas that to ask for the state of replication.
func (v version) seeLog() string {
	if v.mariadb {
		return "BINLOG MONITOR"
	}
	return "REPLICATION CLIENT"
}

func (v version) seeReplicas() string {
	if v.mariadb {
		return "SLAVE MONITOR"
	}
	return "REPLICATION CLIENT"
}
