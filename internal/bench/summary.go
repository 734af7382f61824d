package bench

import "slices"

// Summary of a number of samples.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Summarize returns the summary of samples, of which there must be one at least.
// It leaves their order alone.
func Summarize(samples []float64) Summary {
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	return Summary{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1], N: n}
}
