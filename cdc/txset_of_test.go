package cdc

import "testing"

const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

func TestTransactionsAreToldByTheServerThatWroteThem(t *testing.T) {
	for _, c := range []struct{ name, set, server, want string }{
		{"MySQL", uuid + ":1-5:7,4e11fa47-71ca-11e1-9e33-c80aa9429562:1", uuid, uuid + ":1-5:7"},
		{"a tag is of the same server", uuid + ":nightly:1-2", uuid, uuid + ":nightly:1-2"},
		{"MariaDB, in all domains", "0-101-11,0-102-10,7-101-3", "101", "0-101-11,7-101-3"},
		{"a server id is no part of another", "0-1101-11", "101", ""},
		{"a server id is no domain", "101-5-1", "101", ""},
		{"PostgreSQL", "0/15261D0", "", ""},
	} {
		set, err := ParseTxSet(c.set)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.WrittenBy(c.server).String(); got != c.want {
			t.Errorf("%s: %q written by %q is %q, want %q", c.name, c.set, c.server, got, c.want)
		}
	}
}

func TestLatestOfADomainStandsForAllBeforeIt(t *testing.T) {
	for _, c := range []struct{ name, set, want string }{
		{"one server wrote long ago", "0-101-11,0-102-200", "0-102-200"},
		{"domains count apart", "0-101-11,7-102-3", "0-101-11,7-102-3"},
		{"two servers gave the same number", "0-101-11,0-102-11", "0-101-11,0-102-11"},
		{"MySQL's sources are not in order", uuid + ":1-5,4e11fa47-71ca-11e1-9e33-c80aa9429562:1", uuid + ":1-5,4e11fa47-71ca-11e1-9e33-c80aa9429562:1"},
		{"PostgreSQL", "0/15261D0", "0/15261D0"},
	} {
		set, err := ParseTxSet(c.set)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Latest().String(); got != c.want {
			t.Errorf("%s: latest of %q is %q, want %q", c.name, c.set, got, c.want)
		}
	}
}
