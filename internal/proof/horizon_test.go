package proof

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// An old snapshot and a producer that does not commit hold nobody up: work goes
// on and leaves no dead row in the ring. The snapshot pins nothing, the producer
// its segment, until it commits.
func TestPinnedHorizon(t *testing.T) {
	ctx := t.Context()
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	// Nothing may clean up behind the work before it is counted.
	ring := value[[]string](t, conn, ringTables)
	for _, table := range ring {
		exec(t, conn, `alter table `+table+` set (autovacuum_enabled = false)`)
	}

	// Nothing rotates but the test, although the ring is as old as the tests before this one.
	exec(t, conn, `update awa.storage_settings set segment_max_age = '1 day'`)

	snapshot, producer := pgtest.Conn(t, url), pgtest.Conn(t, url)
	exec(t, snapshot, `begin isolation level repeatable read`)
	value[int](t, snapshot, `select count(*) from pg_class`)
	exec(t, producer, `begin`)
	held := value[int64](t, producer, `select awa.enqueue('held', queue => 'pinned')`)

	segments := value[int](t, conn, `select count(*) from awa.storage_status()`)
	const rounds, batch = 12, 100
	rotated := 0
	for range rounds {
		processRound(t, conn, batch)
		if _, err := queue.CheckpointTerminalCounters(ctx, conn); err != nil {
			t.Fatal(err)
		}
		outcome, err := queue.Rotate(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		want := awa.Rotated
		if rotated == segments-1 {
			want = awa.RotateBlocked
		} else {
			rotated++
		}
		if outcome != want {
			t.Fatalf("rotate is %s after %d rotations, want %s", outcome, rotated, want)
		}
		if outcome, err := queue.Prune(ctx, conn); err != nil || outcome != awa.PruneBusy {
			t.Fatalf("prune is %s, %v beside a producer in the segment", outcome, err)
		}
	}
	requireDone(t, conn, rounds*batch)
	requireNoDeadRows(t, conn, ring)

	// The producer commits: its job is the last one in the oldest segment.
	if outcome, err := queue.Prune(ctx, conn); err != nil || outcome != awa.PruneBusy {
		t.Fatalf("prune is %s, %v", outcome, err)
	}
	exec(t, producer, `commit`)
	jobs, err := queue.Claim(ctx, conn, awa.ClaimParams{Queue: "pinned", MaxJobs: 2})
	if err != nil || len(jobs) != 1 || jobs[0].ID != held {
		t.Fatalf("claimed %v, %v, want job %d", jobs, err, held)
	}
	if _, err := queue.Complete(ctx, conn, jobs[0].Receipt); err != nil {
		t.Fatal(err)
	}
	requireNoDeadRows(t, conn, ring)
	for range rotated {
		if outcome, err := queue.Prune(ctx, conn); err != nil || outcome != awa.Pruned {
			t.Fatalf("prune is %s, %v beside an old snapshot", outcome, err)
		}
	}
	requireDone(t, conn, rounds*batch+1)
	requireHealthy(t, conn)
	exec(t, snapshot, `commit`)
}

// processRound takes new jobs through every transition of the hot path.
func processRound(t *testing.T, conn *pgx.Conn, jobs int) {
	t.Helper()
	ctx := t.Context()
	args := slices.Repeat([]json.RawMessage{json.RawMessage(`{}`)}, jobs-1)
	if _, err := queue.EnqueueMany(ctx, conn, awa.EnqueueManyParams{Kind: "round", Queue: "pinned", Args: args}); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Enqueue(ctx, conn, awa.EnqueueParams{Kind: "round", Queue: "pinned"}); err != nil {
		t.Fatal(err)
	}
	failures := 7
	for {
		got, err := queue.Claim(ctx, conn, awa.ClaimParams{Queue: "pinned", MaxJobs: 33})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 && failures == 0 {
			return
		}
		receipts := make([]awa.Receipt, len(got))
		for n, j := range got {
			receipts[n] = j.Receipt
		}
		cut := min(failures, len(got))
		if _, err := queue.FailMany(ctx, conn, awa.FailManyParams{Receipts: receipts[:cut], RetryAfter: time.Microsecond}); err != nil {
			t.Fatal(err)
		}
		failures -= cut
		if stale, err := queue.CompleteMany(ctx, conn, receipts[cut:]); err != nil || len(stale) > 0 {
			t.Fatalf("stale: %v, %v", stale, err)
		}
		if _, err := queue.Maintain(ctx, conn); err != nil {
			t.Fatal(err)
		}
	}
}

func requireDone(t *testing.T, conn *pgx.Conn, jobs int64) {
	t.Helper()
	n, err := queue.Counts(context.Background(), conn, "pinned")
	if err != nil {
		t.Fatal(err)
	}
	if left := n.Available + n.Scheduled + n.Retryable + n.Running; left > 0 || n.Completed+n.PrunedTerminal != jobs {
		t.Fatalf("%d jobs are to be done: %+v", jobs, n)
	}
}

// ringTables are the partitions of the ring.
const ringTables = `
select array_agg(i.inhrelid::regclass::text)
from pg_inherits as i
join pg_class as p on p.oid = i.inhparent
where p.relnamespace = 'awa'::regnamespace and p.relkind = 'p'`

// requireNoDeadRows demands that the ring saw inserts and nothing else.
func requireNoDeadRows(t *testing.T, conn *pgx.Conn, ring []string) {
	t.Helper()
	exec(t, conn, `select pg_stat_force_next_flush()`)
	rows, _ := conn.Query(t.Context(), `
select s.relname || ': ' || row_to_json(s) from pg_stat_user_tables as s
where s.relid = any ($1::text[]::regclass[]) and s.n_dead_tup + s.n_tup_upd + s.n_tup_del > 0`, ring)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range found {
		t.Error(table)
	}
	if inserted := value[int64](t, conn, `
select sum(s.n_tup_ins)::bigint from pg_stat_user_tables as s where s.relid = any ($1::text[]::regclass[])`, ring); inserted == 0 {
		t.Error("the server counts no inserts")
	}
}
