package main

import "testing"

// In cron and in containers nobody is named, and acknowledge failed.
func TestWhoAcknowledgesIsKnownWithoutTheEnvironment(t *testing.T) {
	t.Setenv("USER", "")
	t.Setenv("LOGNAME", "")
	if thisUser() == "" {
		t.Error("nobody")
	}
	t.Setenv("LOGNAME", "ann")
	if by := thisUser(); by != "ann" {
		t.Error(by)
	}
}
