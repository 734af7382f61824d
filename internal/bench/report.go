package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/awaqueue/awa/internal/chart"
)

// Result is one figure of a benchmark.
type Result struct {
	Phase  string `json:"phase"`
	System string `json:"system,omitempty"` // empty where no others are compared
	Name   string `json:"name"`
	Unit   string `json:"unit"`
	Summary
	Goal *Goal `json:"goal,omitempty"`
	Met  *bool `json:"met,omitempty"`
}

// Goal is what a median is meant to reach.
type Goal struct {
	AtLeast *float64 `json:"at_least,omitempty"`
	AtMost  *float64 `json:"at_most,omitempty"`
}

// AtLeast is the goal of a median that should be high.
func AtLeast(v float64) *Goal { return &Goal{AtLeast: &v} }

// AtMost is the goal of a median that should be low.
func AtMost(v float64) *Goal { return &Goal{AtMost: &v} }

func (g *Goal) met(v float64) bool {
	return (g.AtLeast == nil || v >= *g.AtLeast) && (g.AtMost == nil || v <= *g.AtMost)
}

func (g *Goal) String() string {
	switch {
	case g == nil:
		return ""
	case g.AtLeast != nil:
		return "≥ " + number(*g.AtLeast)
	default:
		return "≤ " + number(*g.AtMost)
	}
}

// Report prints results as they come, as a table, and keeps them.
type Report struct {
	Machine  Machine           `json:"machine"`
	Server   string            `json:"server"`
	TakenOn  string            `json:"taken_on"`
	Flags    []string          `json:"flags"`              // of the command that took them
	Phases   map[string]string `json:"phases"`             // titles by name
	Settings map[string]string `json:"settings,omitempty"` // of each system compared
	Results  []Result          `json:"results"`
	Series   []Series          `json:"series,omitempty"`

	out    io.Writer
	phase  string
	charts map[string][]byte
}

// Series is a figure over something: time, or the length of a history.
type Series struct {
	Phase  string        `json:"phase"`
	System string        `json:"system"`
	Name   string        `json:"name"`
	X      string        `json:"x"`
	Y      string        `json:"y"`
	Log    bool          `json:"log,omitempty"` // both axes
	Points []chart.Point `json:"points"`
}

// NewReport returns a report on the server described, printed to out.
func NewReport(out io.Writer, server string) *Report {
	r := &Report{
		Machine: ThisMachine(), Server: server, TakenOn: time.Now().UTC().Format(time.DateOnly),
		Flags: flags(os.Args[1:]), Phases: map[string]string{}, Settings: map[string]string{},
		out: out, charts: map[string][]byte{},
	}
	fmt.Fprintf(out, "%s; %s\n", server, r.Machine)
	return r
}

// flags leaves out where a report goes: that is no part of what was measured.
func flags(args []string) []string {
	kept := []string{}
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "--out", "--name", "--json":
			i++
		case "--add":
		default:
			kept = append(kept, args[i])
		}
	}
	return kept
}

// Phase begins a section of the table.
func (r *Report) Phase(name, title string) {
	r.phase = name
	r.Phases[name] = title
	fmt.Fprintf(r.out, "\n%s: %s\n", name, title)
	fmt.Fprintf(r.out, "  %-54s %12s %12s %12s %6s  %-8s %s\n", "", "median", "min", "max", "n", "unit", "goal")
}

// Add records the samples of one figure. goal may be nil.
func (r *Report) Add(name, unit string, samples []float64, goal *Goal) Result {
	return r.AddOf("", name, unit, samples, goal)
}

// AddOf is Add for one of several systems.
func (r *Report) AddOf(system, name, unit string, samples []float64, goal *Goal) Result {
	res := Result{Phase: r.phase, System: system, Name: name, Unit: unit, Summary: Summarize(samples), Goal: goal}
	verdict := ""
	if goal != nil {
		met := goal.met(res.Median)
		res.Met = &met
		if verdict = goal.String(); !met {
			verdict += "  MISSED"
		}
	}
	r.Results = append(r.Results, res)
	if system != "" {
		name += " · " + system
	}
	line := fmt.Sprintf("  %-54s %12s %12s %12s %6d  %-8s %s",
		name, number(res.Median), number(res.Min), number(res.Max), res.N, unit, verdict)
	fmt.Fprintln(r.out, strings.TrimRight(line, " "))
	return res
}

// AddCurve records a figure over something, of one system in the current phase.
func (r *Report) AddCurve(system string, s Series) {
	s.Phase, s.System = r.phase, system
	r.Series = append(r.Series, s)
}

// Note prints a remark below the current phase's figures.
func (r *Report) Note(format string, args ...any) {
	fmt.Fprintf(r.out, "  "+format+"\n", args...)
}

// WriteJSON writes everything as one JSON document.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// number writes v with thousands separated when it is large, and with enough
// digits to compare when it is small.
func number(v float64) string {
	if v < 0 {
		return "-" + number(-v)
	}
	if v < 100 && v != float64(int64(v)) {
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
