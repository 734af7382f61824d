// Command peers compares awa with other queues that live in PostgreSQL: River,
// graphile-worker, pg-boss and PgQ, each as its own documentation advises.
//
// It starts a throw-away server, or uses the one of DATABASE_URL, gives every run
// of every system a fresh database, and lets the systems take turns, so that what
// the machine does meanwhile hits all of them. A peer that cannot be had here is
// left out with a message.
//
//	go run .                                # everything but the long ones
//	go run . --only drain --runs 1 --jobs 20000
//	go run . --only free,horizon,writer --out ../../docs/benchmarks --name horizon
//	go run . --only writer --systems 'awa$' --add --out ../../docs/benchmarks --name horizon
//	go run . --only long --systems awa --long 2h
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/awaqueue/awa/internal/bench"
	"github.com/awaqueue/awa/internal/localpg"
)

// options are the flags.
type options struct {
	only, systems []string
	runs          int
	jobs          int
	seconds       time.Duration
	pin           time.Duration
	steady        time.Duration
	long          time.Duration
	rate          int
	history       int
	out, file     string
	add           bool
}

// run is what every scenario works with.
type run struct {
	options
	server *bench.Server
	report *bench.Report
	peers  []system
	takes  time.Duration // at least, of one run in this scenario; see limit
}

// scenarios in the order in which they run. The long ones run when asked for.
var scenarios = []struct {
	name, title string
	long        bool
	measure     func(*run, context.Context) error
}{
	{"drain", "enqueue in bulk on one connection, then drain, durably", false, (*run).drain},
	{"produce", "8 connections enqueue one job a transaction, durably", false, (*run).produce},
	{"onejob", "16 connections claim one job and finish it, in two transactions", false, (*run).oneJob},
	{"pickup", "50 jobs/s on an idle worker: from commit to the start of the handler", false, (*run).pickup},
	{"payload", "jobs of 100 kB: enqueue in bulk, then drain", false, (*run).payload},
	{"steady", "4 connections enqueue up to 500 single jobs/s beside workers: latency and depth over time", true, (*run).flowing},
	{"free", "produce and work as fast as can be, beside nobody", true, (*run).free},
	{"horizon", "the same beside a session that holds a snapshot", true, (*run).horizon},
	{"writer", "the same beside a transaction that has enqueued a job and does not end", true, (*run).writer},
	{"long", "enqueue in batches and work, for long: rates, latency, storage and maintenance over time", true, (*run).lasting},
	{"counts", "count the jobs of a queue by state as its history grows", true, (*run).counts},
}

func main() {
	ctx, cancel := localpg.NotifyContext(context.Background())
	err := realMain(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func realMain(ctx context.Context) error {
	opts, err := parse()
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
	r := &run{options: opts, server: server, report: bench.NewReport(os.Stdout, description)}
	r.findSystems(ctx)
	for _, s := range scenarios {
		if !r.wants(s.name, s.long) {
			continue
		}
		r.report.Phase(s.name, s.title)
		r.takes = 0
		if err := s.measure(r, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if opts.out == "" {
		return nil
	}
	if opts.add {
		if err := r.report.Extend(opts.out, opts.file); err != nil {
			return err
		}
		r.report.Order(scenarioNames())
	}
	return r.report.Publish(opts.out, opts.file)
}

func (o *options) wants(scenario string, long bool) bool {
	if len(o.only) == 0 {
		return !long
	}
	return slices.Contains(o.only, scenario)
}

func parse() (o options, err error) {
	names := scenarioNames()
	only := flag.String("only", "", "scenarios to run, comma-separated: "+strings.Join(names, ", "))
	systems := flag.String("systems", "", "systems to compare, comma-separated: regular expressions for the start of their names (default all)")
	flag.IntVar(&o.runs, "runs", 3, "runs of each figure")
	flag.IntVar(&o.jobs, "jobs", 100_000, "jobs to drain")
	flag.DurationVar(&o.seconds, "seconds", 3*time.Second, "how long a rate is measured in one run")
	flag.DurationVar(&o.pin, "pin", time.Minute, "how long a snapshot is held, or a transaction left open")
	flag.DurationVar(&o.steady, "steady", 20*time.Second, "how long the scenario steady takes")
	flag.DurationVar(&o.long, "long", 30*time.Minute, "how long the scenario long takes")
	flag.IntVar(&o.rate, "rate", 5000, "jobs/s of the scenario long")
	flag.IntVar(&o.history, "history", 10_000_000, "jobs of the longest history")
	flag.StringVar(&o.out, "out", "", "folder for JSON and charts (default: none are written)")
	flag.StringVar(&o.file, "name", "peers", "their name in that folder")
	flag.BoolVar(&o.add, "add", false, "keep what that file holds of other systems and scenarios")
	flag.Parse()
	o.only, o.systems = list(*only), list(*systems)
	for _, name := range o.only {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("no scenario %q: %s", name, strings.Join(names, ", "))
		}
	}
	for _, system := range o.systems {
		if _, err := regexp.Compile(system); err != nil {
			return o, err
		}
	}
	if o.runs < 1 || o.jobs < 1 || o.history < 1 || o.rate < 1 || min(o.seconds, o.pin, o.steady, o.long) < time.Second {
		return o, errors.New("runs, jobs, history and rate must be positive, seconds, pin, steady and long a second at least")
	}
	return o, nil
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.ToLower(s), ",")
}

// findSystems collects what can be had here and was asked for, awa first.
func (r *run) findSystems(ctx context.Context) {
	all := []system{awaSystem{}, awaSystem{worker: true}, riverSystem{}}
	if r.asked("graphile-worker") || r.asked("pg-boss") {
		node, err := findNode(ctx)
		if err != nil {
			r.report.Note("without graphile-worker and pg-boss: %v", err)
		}
		all = append(all, node...)
	}
	if r.asked("pgq") {
		pgq, err := findPgQ(ctx, r.server)
		if err != nil {
			r.report.Note("without PgQ: %v", err)
		} else {
			all = append(all, pgq)
		}
	}
	if r.wants("free", true) || r.wants("horizon", true) || r.wants("writer", true) {
		all = append(all, plainSystem{})
	}
	for _, s := range all {
		if r.asked(s.name()) {
			r.peers = append(r.peers, s)
			r.report.Settings[s.name()] = s.settings()
		}
	}
}

func (o *options) asked(name string) bool {
	return len(o.systems) == 0 || slices.ContainsFunc(o.systems, func(s string) bool {
		return regexp.MustCompile("^(?:" + s + ")").MatchString(strings.ToLower(name))
	})
}

// moduleVersion is the version of a Go module in this program.
func moduleVersion(path string) string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "unknown version"
}
