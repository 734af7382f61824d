package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
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

// writes is an output that calls itself with each line.
type writes func(line string)

func (w writes) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// A round that gets no answer ends, and the loop goes on by another connection.
func TestMaintainLoopGivesUpARound(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	holder := pgtest.Conn(t, url)
	run := func(sql string) {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Error(err)
		}
	}
	const due = `select awa.enqueue('k', queue => 'q'); select awa.fail(c.receipt, retry_after => '0') from awa.claim('q') as c`
	run(due)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	promoted := 0
	stdout := writes(func(line string) {
		if !strings.Contains(line, "promote promoted 1") {
			return
		}
		if promoted++; promoted == 2 {
			cancel()
			return
		}
		run(`begin; lock table awa.storage_settings in access exclusive mode`)
	})
	var told bytes.Buffer
	stderr := writes(func(line string) {
		told.WriteString(line)
		if strings.Contains(line, "Round failed") && holder.PgConn().TxStatus() == 'T' {
			run(`rollback`)
			run(due)
		}
	})
	a := &app{databaseURL: url, schema: install.DefaultSchema, output: "table"}
	if err := a.prepare(stderr); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(ctx)
	cmd.SetOut(stdout)
	if err := a.maintainLoop(cmd, 20*time.Millisecond, 5*time.Second, a.newMeter()); err != nil || promoted != 2 {
		t.Errorf("%d promotions, %v\n%s", promoted, err, &told)
	}
}
