package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

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
