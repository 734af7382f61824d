package chart_test

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/awaqueue/awa/internal/chart"
)

// wellFormed fails unless doc is one XML document without a figure that is none.
func wellFormed(t *testing.T, doc []byte) {
	t.Helper()
	if s := string(doc); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
		t.Errorf("a coordinate is no number:\n%s", s)
	}
	for d := xml.NewDecoder(strings.NewReader(string(doc))); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
	}
}

func TestBars(t *testing.T) {
	doc := chart.Bars("a < b & c", "jobs/s", []chart.Bar{
		{Label: "ours", Median: 104_000, Min: 99_000, Max: 110_000, Ours: true},
		{Label: "theirs", Median: 12.34, Min: 12.34, Max: 12.34},
	})
	wellFormed(t, doc)
	for _, want := range []string{"a &lt; b &amp; c", "104,000 jobs/s", "12.3 jobs/s"} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("no %q in\n%s", want, doc)
		}
	}
	wellFormed(t, chart.Bars("only zeros", "", []chart.Bar{{Label: "zero"}}))
	wellFormed(t, chart.Bars("nothing", "", nil))
}

func TestLines(t *testing.T) {
	line := chart.Line{Label: "ours", Ours: true, Points: []chart.Point{{X: 1e4, Y: 0.2}, {X: 1e7, Y: 0.21}, {X: 0, Y: -1}}}
	for _, a := range []chart.Axes{
		{Title: "plain", X: "x", Y: "y"},
		{Title: "logarithmic", X: "x", Y: "y", LogX: true, LogY: true},
	} {
		wellFormed(t, chart.Lines(a, []chart.Line{line, {Label: "theirs", Points: []chart.Point{{X: 1e5, Y: 30}}}}))
		wellFormed(t, chart.Lines(a, []chart.Line{{Label: "no points"}}))
		wellFormed(t, chart.Lines(a, nil))
	}
	doc := string(chart.Lines(chart.Axes{LogX: true}, []chart.Line{line}))
	for _, want := range []string{">10k<", ">100k<", ">1M<", ">10M<"} {
		if !strings.Contains(doc, want) {
			t.Errorf("no tick %q in\n%s", want, doc)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.974: "0.97", 12.34: "12.3", 123.4: "123", 1234: "1,234", 1234567: "1,234,567", -1234: "-1,234",
	} {
		if got := chart.Number(v); got != want {
			t.Errorf("Number(%g) = %s, want %s", v, got, want)
		}
	}
}
