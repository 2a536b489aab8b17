package main

import (
	"errors"
	"fmt"
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
