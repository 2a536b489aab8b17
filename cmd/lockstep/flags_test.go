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

// "--member $REPLICA" of a variable that is not set stood for all members, and "--web.config.file $FILE" for no passwords.
func TestAnEmptyValueIsTheCommandLinesFault(t *testing.T) {
	needs := map[string][]string{"acknowledge": {"01M8"}, "audit verify": {"x.zip"}, "init": {"mysql://u@a/x", "mysql://u@b/x"}}
	tried := 0
	eachCommand(newRootCommand(), func(c *cobra.Command, path []string) {
		arguments := needs[strings.Join(path, " ")]
		c.Flags().VisitAll(func(f *pflag.Flag) {
			values := [][]string{{""}}
			switch {
			case f.Value.Type() == "strings":
				values = append(values, []string{"a", ""}, []string{"a,"}, []string{",a"})
			case f.Value.Type() == "stringArray":
				values = append(values, []string{"a", ""})
			case f.Value.Type() != "string":
				return
			}
			for _, given := range values {
				args := slices.Concat(path, arguments)
				for _, value := range given {
					args = append(args, "--"+f.Name, value)
				}
				code, stdout, stderr := lockstep(t, args...)
				if want := "lockstep: --" + f.Name + " is empty: give it a value, or leave it out\n"; code != exitUsage || stdout != "" || stderr != want {
					t.Errorf("%q: exit code %d, %q, %q; want %q", args, code, stdout, stderr, want)
				}
				tried++
			}
		})
	})
	if tried < 60 {
		t.Errorf("only %d were tried", tried)
	}
}

// --table "a.b".c, which is what such a table is called, was an error of a parser of CSV.
func TestAFlagNamesSeveralThings(t *testing.T) {
	for value, want := range map[string][]string{
		"a": {"a"}, "a,b": {"a", "b"}, `"x.y".a,b`: {`"x.y".a`, "b"}, `"x,y".a`: {`"x,y".a`}, `"x"",y".a,b`: {`"x"",y".a`, "b"},
	} {
		var got []string
		if err := (&list{&got}).Set(value); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s is %q, %v; want %q", value, got, err, want)
		}
	}
}

// Of -y x it was said: strconv.ParseBool: parsing "x": invalid syntax.
func TestABooleanFlagSaysWhatItTakes(t *testing.T) {
	tried := 0
	eachCommand(newRootCommand(), func(c *cobra.Command, path []string) {
		c.InitDefaultHelpFlag()
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() != "bool" {
				return
			}
			for _, value := range []string{"x", "", "2"} {
				args := append(slices.Clone(path), fmt.Sprintf("--%s=%s", f.Name, value))
				code, stdout, stderr := lockstep(t, args...)
				want := fmt.Sprintf("lockstep: invalid argument %q for \"--%s\" flag: write --%[2]s or --%[2]s=false\n", value, f.Name)
				if code != exitUsage || stdout != "" || stderr != want {
					t.Errorf("%v: exit code %d, %q, %q; want %q", args, code, stdout, stderr, want)
				}
				tried++
			}
		})
	})
	if tried < 30 {
		t.Errorf("only %d were tried", tried)
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
