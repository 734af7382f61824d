package cli

import (
	"testing"
	"time"
)

// Trouble is told when it is new, when it changes, when work was done in between
// and once a minute.
func TestTold(t *testing.T) {
	start := time.Now()
	last := told{}
	for n, c := range []struct {
		after                   time.Duration
		task, affected, trouble string
		want                    bool
	}{
		{0, "prune", "0", "busy segment 1", true},
		{time.Second, "prune", "0", "busy segment 1", false},
		{2 * time.Second, "rotate", "0", "blocked segment 9", true},
		{3 * time.Second, "prune", "0", "busy segment 1", false},
		{61 * time.Second, "prune", "0", "busy segment 1", true},
		{62 * time.Second, "prune", "0", "blocked segment 1", true},
		{63 * time.Second, "prune", "1", "pruned segment 1", true},
		{64 * time.Second, "prune", "1", "pruned segment 2", true},
		{65 * time.Second, "prune", "0", "blocked segment 1", true},
		{66 * time.Second, "prune", "0", "blocked segment 1", false},
	} {
		if got := last.news(c.task, c.affected, c.trouble, start.Add(c.after)); got != c.want {
			t.Errorf("%d: %s %s: got %t, want %t", n, c.task, c.trouble, got, c.want)
		}
	}
}
