// Command drain measures the queue: how fast jobs come in, are claimed and
// finished, and that neither size, nor history, nor a pinned horizon slows it
// down.
//
// It starts a throw-away server, or uses the one of DATABASE_URL, and makes a
// fresh database for every run. Every figure is the median of some runs, with the
// extremes beside it.
//
//	go run ./bench/drain                       # everything
//	go run ./bench/drain --only drain --runs 3 # one phase, fewer runs
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/awaqueue/awa/internal/bench"
	"github.com/awaqueue/awa/internal/localpg"
)

// options are the flags.
type options struct {
	only    []string
	runs    int
	jobs    int
	seconds time.Duration
	pin     time.Duration
	large   int
	json    string
	out     string
}

// run is what every phase works with.
type run struct {
	options
	server *bench.Server
	report *bench.Report
}

// phases in the order in which they run.
var phases = []struct {
	name, title string
	measure     func(*run, context.Context) error
}{
	{"drain", "drain a preloaded queue; claims asynchronous, completions durable", (*run).drain},
	{"onejob", "claim one job and complete it, in two transactions", (*run).oneJob},
	{"finish", "complete single jobs that were claimed one by one", (*run).finish},
	{"cpu", "server CPU of a one-job call", (*run).cpu},
	{"enqueue", "enqueue in one call and one by one", (*run).enqueue},
	{"latency", "claims on a large queue and on an empty one", (*run).latency},
	{"deep", "a backlog of many jobs beside a short one", (*run).deep},
	{"fanout", "the same jobs in one queue and in 10,000", (*run).fanout},
	{"counts", "queue_counts with a short and a long history", (*run).counts},
	{"footprint", "dead tuples and WAL", (*run).footprint},
	{"pinned", "steady traffic beside an old transaction", (*run).pinned},
	{"attempts", "attempts that fail or are lost", (*run).attempts},
	{"concurrency", "one job of a key at a time: 1,000 keys, 16 claimers", (*run).concurrency},
}

func main() {
	ctx, cancel := localpg.NotifyContext(context.Background())
	err := realMain(ctx, os.Args[1:], os.Stdout)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "drain:", err)
		os.Exit(1)
	}
}

func realMain(ctx context.Context, args []string, out io.Writer) error {
	opts, err := parse(args)
	if err != nil {
		return err
	}
	server, err := bench.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	description, err := server.Describe(ctx)
	if err != nil {
		return err
	}
	r := &run{opts, server, bench.NewReport(out, description)}
	for _, p := range phases {
		if len(opts.only) > 0 && !slices.Contains(opts.only, p.name) {
			continue
		}
		r.report.Phase(p.name, p.title)
		if err := p.measure(r, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if opts.out != "" {
		if err := r.report.Publish(opts.out, "drain"); err != nil {
			return err
		}
	}
	return writeJSON(r.report, opts.json, out)
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("drain", flag.ContinueOnError)
	only := flags.String("only", "", "phases to run, comma-separated: "+names()+" (default all)")
	flags.IntVar(&o.runs, "runs", 5, "runs of each figure")
	flags.IntVar(&o.jobs, "jobs", 200_000, "jobs to preload for a drain")
	flags.DurationVar(&o.seconds, "seconds", 3*time.Second, "how long a rate is measured in one run")
	flags.DurationVar(&o.pin, "pin", 20*time.Second, "how long a transaction is held open")
	flags.IntVar(&o.large, "large", 1_000_000, "jobs of a large queue or history")
	flags.StringVar(&o.json, "json", "-", "file for the report as JSON; - prints it, empty leaves it out")
	flags.StringVar(&o.out, "out", "", "folder for the report as JSON and as a page (default: none is written)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, name := range o.only {
		if !strings.Contains(" "+strings.ReplaceAll(names(), ", ", " ")+" ", " "+name+" ") {
			return o, fmt.Errorf("no phase %q: %s", name, names())
		}
	}
	if o.runs < 1 || o.jobs < 1 || o.large < 1 || o.seconds <= 0 || o.pin <= 0 {
		return o, fmt.Errorf("runs, jobs, large, seconds and pin must be positive")
	}
	return o, nil
}

func names() string {
	var all []string
	for _, p := range phases {
		all = append(all, p.name)
	}
	return strings.Join(all, ", ")
}

func writeJSON(report *bench.Report, file string, out io.Writer) error {
	switch file {
	case "":
		return nil
	case "-":
		fmt.Fprintln(out)
		return report.WriteJSON(out)
	}
	return report.WriteFile(file)
}
