package bench

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestWarmMemory(t *testing.T) {
	const kB = 64 << 10
	// The peak counts from here.
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	before := status(t, "VmHWM:")
	if err := WarmMemory(t.Context(), kB<<10); err != nil {
		t.Fatal(err)
	}
	if peak := status(t, "VmHWM:"); peak < before+kB/2 {
		t.Errorf("from %d kB to %d at most: nothing was touched", before, peak)
	}
	if after := status(t, "VmRSS:"); after > before+kB/2 {
		t.Errorf("from %d kB to %d: nothing was given back", before, after)
	}
}

// status is a line of /proc/self/status, in kB.
func status(t *testing.T, name string) int {
	all, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(all), name)
	kB, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kB
}
