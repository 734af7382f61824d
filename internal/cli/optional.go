package cli

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// optional is a flag that is null as a parameter of a statement unless the user
// gave it: an empty text is a value, and matches nothing.
type optional[T any] struct {
	value *T
	parse func(string) (T, error)
	kind  string
}

func (o *optional[T]) String() string { return "" }
func (o *optional[T]) Type() string   { return o.kind }

func (o *optional[T]) Set(s string) error {
	v, err := o.parse(s)
	if err == nil {
		o.value = &v
	}
	return err
}

func optionalText(cmd *cobra.Command, name, usage string) *optional[string] {
	o := &optional[string]{kind: "string", parse: func(s string) (string, error) { return s, nil }}
	cmd.Flags().Var(o, name, usage)
	return o
}

func optionalInt(cmd *cobra.Command, name, usage string) *optional[int] {
	o := &optional[int]{kind: "int", parse: strconv.Atoi}
	cmd.Flags().Var(o, name, usage)
	return o
}

// optionalInt32 is for what the server takes as an integer.
func optionalInt32(cmd *cobra.Command, name, usage string) *optional[int32] {
	o := &optional[int32]{kind: "int", parse: func(s string) (int32, error) {
		n, err := strconv.ParseInt(s, 10, 32)
		return int32(n), err
	}}
	cmd.Flags().Var(o, name, usage)
	return o
}

func optionalTime(cmd *cobra.Command, name, usage string) *optional[time.Time] {
	o := &optional[time.Time]{kind: "time", parse: func(s string) (time.Time, error) { return time.Parse(time.RFC3339, s) }}
	cmd.Flags().Var(o, name, usage)
	return o
}

// overrides are the flags that change a job as it is retried.
type overrides struct {
	queue    *optional[string]
	priority *optional[int32]
	runAt    *optional[time.Time]
}

func overrideFlags(cmd *cobra.Command) overrides {
	return overrides{
		queue:    optionalText(cmd, "to-queue", "put the job into this queue"),
		priority: optionalInt32(cmd, "to-priority", "give the job this priority"),
		runAt:    optionalTime(cmd, "run-at", "hold the job back until this time, as 2006-01-02T15:04:05Z"),
	}
}
