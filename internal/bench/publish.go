package bench

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/awaqueue/awa/internal/chart"
)

// Ours is the system that charts point out, with all that begins so.
const Ours = "awa"

// Publish writes the report as NAME.json and as the page NAME.md into a folder,
// and one chart for each figure that systems are compared by, as NAME-FIGURE.svg.
func (r *Report) Publish(folder, name string) error {
	if err := r.WriteFile(filepath.Join(folder, name+".json")); err != nil {
		return err
	}
	r.drawBars()
	r.drawSeries()
	var files []string
	for figure, svg := range r.charts {
		file := name + "-" + figure + ".svg"
		if err := os.WriteFile(filepath.Join(folder, file), svg, 0o644); err != nil {
			return err
		}
		files = append(files, file)
	}
	slices.Sort(files)
	return os.WriteFile(filepath.Join(folder, name+".md"), []byte(r.markdown(name, files)), 0o644)
}

// Extend takes over what NAME.json holds in a folder of other systems and phases, so
// that a long comparison can be taken in parts. Figures of another machine or
// server are an error: they do not compare.
func (r *Report) Extend(folder, name string) error {
	doc, err := os.ReadFile(filepath.Join(folder, name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var old Report
	if err := json.Unmarshal(doc, &old); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if old.Machine != r.Machine || old.Server != r.Server {
		return fmt.Errorf("%s was taken on %s with %s", name, old.Machine, old.Server)
	}
	type part struct{ phase, system string }
	taken := map[part]bool{}
	for _, res := range r.Results {
		taken[part{res.Phase, res.System}] = true
	}
	keep := slices.DeleteFunc(old.Results, func(res Result) bool { return taken[part{res.Phase, res.System}] })
	r.Results = append(keep, r.Results...)
	curves := slices.DeleteFunc(old.Series, func(s Series) bool { return taken[part{s.Phase, s.System}] })
	r.Series = append(curves, r.Series...)
	for phase, title := range old.Phases {
		if _, known := r.Phases[phase]; !known {
			r.Phases[phase] = title
		}
	}
	for system, settings := range old.Settings {
		if _, known := r.Settings[system]; !known {
			r.Settings[system] = settings
		}
	}
	r.Flags = slices.Concat(old.Flags, []string{"and"}, r.Flags)
	return nil
}

// Order sorts what was taken in parts: by phase as given, then by the name of the
// system.
func (r *Report) Order(phases []string) {
	order := func(phase, system, otherPhase, otherSystem string) int {
		return cmp.Or(cmp.Compare(slices.Index(phases, phase), slices.Index(phases, otherPhase)),
			cmp.Compare(strings.ToLower(system), strings.ToLower(otherSystem)))
	}
	slices.SortStableFunc(r.Results, func(a, b Result) int { return order(a.Phase, a.System, b.Phase, b.System) })
	slices.SortStableFunc(r.Series, func(a, b Series) int { return order(a.Phase, a.System, b.Phase, b.System) })
}

// WriteFile writes the report as JSON into a file, and makes its folder.
func (r *Report) WriteFile(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteJSON(f), f.Close())
}

// drawBars draws the figures that more than one system has.
func (r *Report) drawBars() {
	type key struct{ phase, name, unit string }
	groups := map[key][]chart.Bar{}
	for _, res := range r.Results {
		if res.System == "" {
			continue
		}
		k := key{res.Phase, res.Name, res.Unit}
		groups[k] = append(groups[k], chart.Bar{
			Label: res.System, Median: res.Median, Min: res.Min, Max: res.Max,
			Ours: strings.HasPrefix(res.System, Ours),
		})
	}
	for k, bars := range groups {
		if len(bars) > 1 {
			slices.SortStableFunc(bars, func(a, b chart.Bar) int { return cmp.Compare(b.Median, a.Median) })
			r.charts[slug(k.name)] = chart.Bars(capital(k.name), k.unit, bars)
		}
	}
}

// drawSeries draws every series of one name into one picture.
func (r *Report) drawSeries() {
	names := map[string][]Series{}
	for _, s := range r.Series {
		names[s.Name] = append(names[s.Name], s)
	}
	for name, all := range names {
		lines := make([]chart.Line, len(all))
		for i, s := range all {
			lines[i] = chart.Line{Label: s.System, Points: s.Points, Ours: strings.HasPrefix(s.System, Ours)}
		}
		axes := chart.Axes{Title: capital(name), X: all[0].X, Y: all[0].Y, LogX: all[0].Log, LogY: all[0].Log}
		r.charts[slug(name)] = chart.Lines(axes, lines)
	}
}

// slug makes a file's name of a figure's.
func slug(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	})
	return strings.Join(words, "-")
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
