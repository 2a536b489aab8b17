package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wrongFlag says of a boolean flag that is neither what it may be: Go's words name the function that could not read it.
func wrongFlag(_ *cobra.Command, err error) error {
	if wrong := (*pflag.InvalidValueError)(nil); errors.As(err, &wrong) && wrong.GetFlag().Value.Type() == "bool" {
		name := wrong.GetFlag().Name
		return fmt.Errorf("invalid argument %q for \"--%s\" flag: write --%s or --%s=false", wrong.GetValue(), name, name, name)
	}
	return err
}

// emptyFlag returns an error for a flag that is given with nothing, as of a variable of a script that is not set: it would stand
// for all, or for another file or server than was meant.
func emptyFlag(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		empty := f.Value.Type() == "string" && f.Value.String() == ""
		if several, ok := f.Value.(pflag.SliceValue); ok {
			empty = slices.Contains(several.GetSlice(), "")
		}
		if empty && err == nil {
			err = fmt.Errorf("--%s is empty: give it a value, or leave it out", f.Name)
		}
	})
	return err
}

// list is the value of a flag that names several things: it may be given several times, and have names with commas between.
type list struct{ names *[]string }

// listFlag adds such a flag to a command.
func listFlag(cmd *cobra.Command, to *[]string, name, usage string) {
	cmd.Flags().Var(&list{to}, name, usage)
}

func (l *list) String() string {
	if l.names == nil { // help asks the zero one whether there is a default
		return ""
	}
	return strings.Join(*l.names, ",")
}

// Type is what help calls the value.
func (l *list) Type() string { return "strings" }

// Set adds names. Commas between quotes are part of one: PostgreSQL's schemas may have any name.
func (l *list) Set(s string) error {
	begin, quoted := 0, false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			*l.names = append(*l.names, s[begin:i])
			begin = i + 1
		}
	}
	*l.names = append(*l.names, s[begin:])
	return nil
}

// GetSlice implements [pflag.SliceValue].
func (l *list) GetSlice() []string { return *l.names }

// Append implements [pflag.SliceValue].
func (l *list) Append(name string) error { return l.Replace(append(*l.names, name)) }

// Replace implements [pflag.SliceValue].
func (l *list) Replace(names []string) error {
	*l.names = names
	return nil
}

// duration is the value of a flag that says how long something takes: never less than least.
type duration struct {
	value *time.Duration
	least time.Duration
}

// durationFlag adds such a flag to a command. otherwise, which is the value if it is not given, may be less: 0 is for "not set".
func durationFlag(cmd *cobra.Command, to *time.Duration, least time.Duration, name string, otherwise time.Duration, usage string) {
	*to = otherwise
	cmd.Flags().Var(&duration{to, least}, name, usage)
}

// someTime is the least that a duration may be which cannot be 0.
const someTime = time.Nanosecond

func (d *duration) String() string {
	if d.value == nil || *d.value == 0 { // help then shows no default
		return ""
	}
	return d.value.String()
}

// Type is what help calls the value.
func (d *duration) Type() string { return "duration" }

// Set takes a duration that is long enough.
func (d *duration) Set(s string) error {
	value, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return errors.New("write it like 30s, 2m or 1h30m")
	case value < d.least && d.least == 0:
		return fmt.Errorf("%s is negative: write it like 30s, 2m or 1h30m", s)
	case value < d.least:
		return fmt.Errorf("%s is no time at all: write it like 30s, 2m or 1h30m", s)
	}
	*d.value = value
	return nil
}

// number is the value of a flag that counts: never less than least.
type number[N int | uint64] struct {
	value *N
	least N
}

// numberFlag adds such a flag to a command.
func numberFlag[N int | uint64](cmd *cobra.Command, to *N, least N, name string, otherwise N, usage string) {
	*to = otherwise
	cmd.Flags().Var(&number[N]{to, least}, name, usage)
}

func (n *number[N]) String() string {
	if n.value == nil { // help asks the zero one whether there is a default
		return ""
	}
	return fmt.Sprint(*n.value)
}

// Type is what help calls the value.
func (n *number[N]) Type() string { return "int" }

// Set takes a number that is large enough.
func (n *number[N]) Set(s string) error {
	value, err := strconv.ParseInt(s, 10, 64)
	if err != nil || value < int64(n.least) {
		return fmt.Errorf("write a whole number, %d at least", n.least)
	}
	*n.value = N(value)
	return nil
}
