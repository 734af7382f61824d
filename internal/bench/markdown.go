package bench

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/awaqueue/awa/internal/chart"
)

// markdown is the report as a page of tables. charts are the names of picture
// files beside it.
func (r *Report) markdown(name string, charts []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Figures: %s\n\nWritten by the benchmark. Taken on %s, flags: `%s`.\n\n",
		name, r.TakenOn, cmp.Or(strings.Join(r.Flags, " "), "none"))
	fmt.Fprintf(&b, "* Machine: %s, %s\n* PostgreSQL: %s\n", r.Machine, r.Machine.System, r.Server)
	for _, system := range slices.Sorted(maps.Keys(r.Settings)) {
		fmt.Fprintf(&b, "* %s: %s\n", system, r.Settings[system])
	}
	b.WriteString("\nEach figure is the median of its samples, with the least and the greatest in brackets.\n")
	for _, phase := range r.phases() {
		results := slices.DeleteFunc(slices.Clone(r.Results), func(res Result) bool { return res.Phase != phase })
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n", phase, capital(r.Phases[phase]))
		compared(&b, results)
		alone(&b, results)
	}
	if len(charts) > 0 {
		b.WriteString("\n## Charts\n\n")
		for _, file := range charts {
			fmt.Fprintf(&b, "![%s](%s)\n", strings.TrimSuffix(strings.ReplaceAll(file, "-", " "), ".svg"), file)
		}
	}
	return b.String()
}

func (r *Report) phases() []string {
	var all []string
	for _, res := range r.Results {
		if !slices.Contains(all, res.Phase) {
			all = append(all, res.Phase)
		}
	}
	return all
}

// compared writes a row a figure and a column a system.
func compared(b *strings.Builder, results []Result) {
	var systems, names []string
	cells := map[[2]string]Result{}
	for _, res := range results {
		if res.System == "" {
			continue
		}
		if !slices.Contains(systems, res.System) {
			systems = append(systems, res.System)
		}
		if !slices.Contains(names, res.Name) {
			names = append(names, res.Name)
		}
		cells[[2]string{res.Name, res.System}] = res
	}
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(b, "| | unit | %s |\n| --- | --- |%s\n", strings.Join(systems, " | "), strings.Repeat(" ---: |", len(systems)))
	for _, name := range names {
		row, unit := "", ""
		for _, system := range systems {
			cell := "—"
			if res, ok := cells[[2]string{name, system}]; ok {
				cell, unit = spread(res.Summary), res.Unit
			}
			row += " " + cell + " |"
		}
		fmt.Fprintf(b, "| %s | %s |%s\n", name, unit, row)
	}
}

// alone writes the figures of no system, with their goals.
func alone(b *strings.Builder, results []Result) {
	head := "| | unit | figure | samples | goal |\n| --- | --- | ---: | ---: | --- |\n"
	for _, res := range results {
		if res.System != "" {
			continue
		}
		goal := res.Goal.String()
		if res.Met != nil && !*res.Met {
			goal += ", missed"
		}
		fmt.Fprintf(b, "%s| %s | %s | %s | %d | %s |\n", head, res.Name, res.Unit, spread(res.Summary), res.N, goal)
		head = ""
	}
}

func spread(s Summary) string {
	median, least, most := chart.Number(s.Median), chart.Number(s.Min), chart.Number(s.Max)
	if least == most {
		return median
	}
	return fmt.Sprintf("%s (%s–%s)", median, least, most)
}
