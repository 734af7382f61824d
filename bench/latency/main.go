// Command latency measures the Go worker: how soon it picks a job up, how fast it
// drains a queue beside bare SQL calls, and what a waiting worker costs producers.
//
//	go run ./bench/latency
//	go run ./bench/latency --only pickup --runs 1
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/awaqueue/awa/internal/bench"
	"github.com/awaqueue/awa/internal/localpg"
)

// run is what every phase works with.
type run struct {
	only    []string
	runs    int
	jobs    int
	seconds time.Duration
	server  *bench.Server
	report  *bench.Report
}

type phase struct {
	name, title string
	measure     func(*run, context.Context) error
}

var phases = []phase{
	{"pickup", "50 jobs/s on an idle worker: from commit to the start of the handler", (*run).pickup},
	{"drain", "drain a preloaded queue with handlers that do nothing", (*run).drain},
	{"producers", "8 producers that enqueue one by one", (*run).producers},
}

func main() {
	ctx, cancel := localpg.NotifyContext(context.Background())
	err := realMain(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(1)
	}
}

func realMain(ctx context.Context) error {
	r := &run{}
	only := flag.String("only", "", "phases to run, comma-separated: pickup, drain, producers (default all)")
	flag.IntVar(&r.runs, "runs", 3, "runs of each figure")
	flag.IntVar(&r.jobs, "jobs", 400_000, "jobs to preload for a drain")
	flag.DurationVar(&r.seconds, "seconds", 5*time.Second, "how long one run of pickup or producers takes")
	out := flag.String("out", "", "folder for the report (default: none is written)")
	flag.Parse()
	if *only != "" {
		r.only = strings.Split(*only, ",")
	}
	for _, name := range r.only {
		if !slices.ContainsFunc(phases, func(p phase) bool { return p.name == name }) {
			return fmt.Errorf("no phase %q: pickup, drain, producers", name)
		}
	}
	var err error
	if r.server, err = bench.Start(ctx); err != nil {
		return err
	}
	defer r.server.Stop()
	description, err := r.server.Describe(ctx)
	if err != nil {
		return err
	}
	r.report = bench.NewReport(os.Stdout, description)
	for _, p := range phases {
		if len(r.only) > 0 && !slices.Contains(r.only, p.name) {
			continue
		}
		r.report.Phase(p.name, p.title)
		if err := p.measure(r, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if *out == "" {
		return nil
	}
	return r.report.Publish(*out, "latency")
}
