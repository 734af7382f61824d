package bench

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/awaqueue/awa/internal/chart"
)

func TestPublish(t *testing.T) {
	r := NewReport(io.Discard, "a server")
	r.Phase("drain", "drain a queue")
	r.Add("alone, of no system", "jobs/s", []float64{1}, nil)
	r.AddOf("awa", "drain, 200 a claim", "jobs/s", []float64{3, 1, 2}, AtLeast(2))
	r.AddOf("peer", "drain, 200 a claim", "jobs/s", []float64{5}, nil)
	r.AddOf("peer", "what it alone has", "jobs/s", []float64{5}, nil)
	r.Series = append(r.Series, Series{
		System: "awa", Name: "over time", X: "s", Y: "jobs/s", Points: []chart.Point{{X: 1, Y: 2}},
	})
	dir := filepath.Join(t.TempDir(), "new")
	if err := r.Publish(dir, "test"); err != nil {
		t.Fatal(err)
	}
	var files []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		files = append(files, e.Name())
	}
	want := []string{"test-drain-200-a-claim.svg", "test-over-time.svg", "test.json", "test.md"}
	if !slices.Equal(files, want) {
		t.Errorf("wrote %q, want %q", files, want)
	}
	doc, err := os.ReadFile(filepath.Join(dir, "test.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(doc, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Results) != 4 || back.Results[1].Median != 2 || !*back.Results[1].Met || back.Machine.CPUs == 0 {
		t.Errorf("read back %+v", back)
	}
	page, err := os.ReadFile(filepath.Join(dir, "test.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| | unit | awa | peer |",
		"| drain, 200 a claim | jobs/s | 2 (1–3) | 5 |",
		"| what it alone has | jobs/s | — | 5 |",
		"| alone, of no system | jobs/s | 1 | 1 |  |",
		"![test over time](test-over-time.svg)",
	} {
		if !strings.Contains(string(page), line+"\n") {
			t.Errorf("no line %q in\n%s", line, page)
		}
	}
}

func TestExtend(t *testing.T) {
	dir := t.TempDir()
	take := func(server string, systems ...string) *Report {
		r := NewReport(io.Discard, server)
		for i, system := range systems {
			r.Phase("drain", "drain a queue")
			r.AddOf(system, "drain", "jobs/s", []float64{float64(len(systems)*10 + i)}, nil)
			r.AddCurve(system, Series{Name: "over time", Points: []chart.Point{{X: 1, Y: 2}}})
		}
		return r
	}
	first := take("a server", "awa", "peer")
	if err := first.Extend(dir, "test"); err != nil {
		t.Fatalf("where nothing was written yet: %v", err)
	}
	if err := first.Publish(dir, "test"); err != nil {
		t.Fatal(err)
	}
	again := take("a server", "peer")
	if err := again.Extend(dir, "test"); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, res := range again.Results {
		got[res.System] = res.Median
	}
	if len(again.Results) != 2 || got["awa"] != 20 || got["peer"] != 10 {
		t.Errorf("the figures are %+v, want awa's of the first run and the peer's of the second", again.Results)
	}
	if len(again.Series) != 2 {
		t.Fatalf("the curves are %+v, want one a system", again.Series)
	}
	again.Order([]string{"drain"})
	if again.Results[0].System != "awa" || again.Series[1].System != "peer" {
		t.Errorf("not by the system's name: %+v, %+v", again.Results, again.Series)
	}
	if err := take("another server", "peer").Extend(dir, "test"); err == nil {
		t.Error("figures of another server were taken over")
	}
}
