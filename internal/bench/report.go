package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
)

// Result is one figure of a benchmark.
type Result struct {
	Phase string `json:"phase"`
	Name  string `json:"name"`
	Unit  string `json:"unit"`
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
	Server  string   `json:"server"`
	CPUs    int      `json:"cpus"`
	Results []Result `json:"results"`

	out   io.Writer
	phase string
}

// NewReport returns a report on the server described, printed to out.
func NewReport(out io.Writer, server string) *Report {
	r := &Report{Server: server, CPUs: runtime.NumCPU(), out: out}
	fmt.Fprintf(out, "%s, %d CPUs shared by client and server\n", server, r.CPUs)
	return r
}

// Phase begins a section of the table.
func (r *Report) Phase(name, title string) {
	r.phase = name
	fmt.Fprintf(r.out, "\n%s: %s\n", name, title)
	fmt.Fprintf(r.out, "  %-54s %12s %12s %12s %6s  %-8s %s\n", "", "median", "min", "max", "n", "unit", "goal")
}

// Add records the samples of one figure. goal may be nil.
func (r *Report) Add(name, unit string, samples []float64, goal *Goal) Result {
	res := Result{Phase: r.phase, Name: name, Unit: unit, Summary: Summarize(samples), Goal: goal}
	verdict := ""
	if goal != nil {
		met := goal.met(res.Median)
		res.Met = &met
		if verdict = goal.String(); !met {
			verdict += "  MISSED"
		}
	}
	r.Results = append(r.Results, res)
	line := fmt.Sprintf("  %-54s %12s %12s %12s %6d  %-8s %s",
		name, number(res.Median), number(res.Min), number(res.Max), res.N, unit, verdict)
	fmt.Fprintln(r.out, strings.TrimRight(line, " "))
	return res
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
