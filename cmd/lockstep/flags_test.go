package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// eachCommand calls a function for all commands, with their names below lockstep.
func eachCommand(c *cobra.Command, do func(c *cobra.Command, path []string)) {
	do(c, strings.Fields(c.CommandPath())[1:])
	for _, below := range c.Commands() {
		eachCommand(below, do)
	}
}

// canBeZero are the durations that may be none.
var canBeZero = []string{"wait", "warmup"}

// check --timeout=-5s said of all members that they did not answer in time, and scrub --timeout=0 waited for ever.
func TestADurationIsSomeTime(t *testing.T) {
	tried := 0
	eachCommand(newRootCommand(), func(c *cobra.Command, path []string) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() != "duration" {
				return
			}
			for _, value := range []string{"-5s", "0s", "5"} {
				if value == "0s" && slices.Contains(canBeZero, f.Name) {
					continue
				}
				args := append(slices.Clone(path), fmt.Sprintf("--%s=%s", f.Name, value))
				code, stdout, stderr := lockstep(t, args...)
				if code != exitUsage || stdout != "" || !strings.Contains(stderr, `"--`+f.Name+`" flag: `) || !strings.Contains(stderr, "write it like 30s, 2m or 1h30m") {
					t.Errorf("%v: exit code %d, %q, %q", args, code, stdout, stderr)
				}
				tried++
			}
		})
	})
	if tried < 12 {
		t.Errorf("only %d were tried", tried)
	}
}

// What was said of --limit abc and --at -1 was Go's.
func TestANumberIsOneThatCounts(t *testing.T) {
	tried := 0
	eachCommand(newRootCommand(), func(c *cobra.Command, path []string) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.HasPrefix(f.Value.Type(), "int") && !strings.HasPrefix(f.Value.Type(), "uint") {
				return
			}
			for _, value := range []string{"abc", "-1", "1.5", "", "99999999999999999999"} {
				args := append(slices.Clone(path), fmt.Sprintf("--%s=%s", f.Name, value))
				code, stdout, stderr := lockstep(t, args...)
				if code != exitUsage || stdout != "" || !strings.Contains(stderr, `"--`+f.Name+`" flag: write a whole number, `) {
					t.Errorf("%v: exit code %d, %q, %q", args, code, stdout, stderr)
				}
				tried++
			}
		})
	})
	if tried < 20 {
		t.Errorf("only %d were tried", tried)
	}
}

// It was "open : no such file or directory".
func TestAnEmptyNameOfAFileIsTheCommandLinesFault(t *testing.T) {
	for _, args := range [][]string{
		{"check", "-c", ""}, {"run", "-c", ""}, {"diff", "-c", ""}, {"init", "--output", "", "postgres://u@127.0.0.1:1/x", "postgres://u@127.0.0.1:2/x"},
	} {
		if code, stdout, stderr := lockstep(t, args...); code != exitUsage || stdout != "" || !strings.Contains(stderr, " is empty: name the ") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// With ftp:// all commands said that no lockstep answers, as if it were one's fault that is there.
func TestAnAddressThatCannotBeIsTheCommandLinesFault(t *testing.T) {
	file := checkFile(t, [3]string{"a", "postgres://u@127.0.0.1:1/db", "pw"}, [3]string{"b", "postgres://u@127.0.0.1:2/db", "pw"})
	needs := map[string]string{
		"acknowledge": "01M8 --by ann", "audit report": "--from 2026-01-01 --output /nowhere/x.zip -c " + file,
	}
	tried := 0
	eachCommand(newRootCommand(), func(c *cobra.Command, path []string) {
		if c.Flags().Lookup("url") == nil {
			return
		}
		for url, says := range map[string]string{
			"ftp://127.0.0.1:9640": `--url "ftp://127.0.0.1:9640": lockstep answers HTTP`, "http://": `--url "http://": lockstep answers HTTP`,
			"http://ann:hunter2@127.0.0.1:1": "--url holds a user name or a password", "http://ann:hunter2@[::1": "--url is not an address",
		} {
			args := slices.Concat(path, strings.Fields(needs[strings.Join(path, " ")]), []string{"--url", url})
			code, stdout, stderr := lockstep(t, args...)
			if code != exitUsage || stdout != "" || !strings.Contains(stderr, says) || strings.Contains(stderr, "hunter2") {
				t.Errorf("%v: exit code %d, %q, %q; want %q", args, code, stdout, stderr, says)
			}
			tried++
		}
	})
	if tried < 20 {
		t.Errorf("only %d were tried", tried)
	}
}

// "divergences $ID" without an ID asked for the list of all, of which the answer was a page that there is not.
func TestAnEmptyArgumentIsTheCommandLinesFault(t *testing.T) {
	for _, args := range [][]string{{"divergences", ""}, {"acknowledge", ""}, {"scrub", ""}, {"scrub", "public.orders", ""}, {"audit", "verify", ""}, {"init", "", "mysql://u@a/x"}} {
		code, stdout, stderr := lockstep(t, args...)
		if want := "lockstep: an argument of lockstep " + strings.Join(args[:len(args)-1], " "); code != exitUsage || stdout != "" || !strings.Contains(stderr, " is empty: it is called as lockstep ") {
			t.Errorf("%q: exit code %d, %q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
}
