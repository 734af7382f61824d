package bench

import "testing"

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    Summary
	}{
		{[]float64{3}, Summary{3, 3, 3, 1}},
		{[]float64{3, 1}, Summary{2, 1, 3, 2}},
		{[]float64{5, 1, 9}, Summary{5, 1, 9, 3}},
	} {
		if got := Summarize(c.samples); got != c.want {
			t.Errorf("Summarize(%v) = %v, want %v", c.samples, got, c.want)
		}
	}
}
