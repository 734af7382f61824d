package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
	"github.com/awaqueue/awa/internal/chart"
)

// riverHistory is the longest history that River's count is measured on: filling
// a longer one takes minutes and says nothing new.
const riverHistory = 1_000_000

// counts measures how long it takes to count the jobs of a queue by state as its
// history grows: awa's queue_counts, and beside it the aggregate that River's
// table leaves one with.
func (r *run) counts(ctx context.Context) error {
	ours, err := r.countsOf(ctx, "awa", r.history, 500,
		awaSystem{}, awaHistory, "select * from awa.queue_counts('bench')")
	if err != nil {
		return err
	}
	first, last := ours[0], ours[len(ours)-1]
	r.report.Add(fmt.Sprintf("queue_counts, %.0f terminal jobs over %.0f", last.X, first.X), "", []float64{last.Y / first.Y}, bench.AtMost(1.2))
	if !r.asked("river") {
		return nil
	}
	_, err = r.countsOf(ctx, "River", min(r.history, riverHistory), 5,
		riverSystem{}, riverHistoryOf, "select state, count(*) from river_job where queue = 'bench' group by state")
	return err
}

// countsOf measures one query with ten thousand terminal jobs, ten times as many,
// and so on, up to most.
func (r *run) countsOf(ctx context.Context, name string, most, times int, s system, fill func(context.Context, *pgx.Conn, int) error, query string) (points []chart.Point, err error) {
	db, err := s.fresh(ctx, r.server)
	if err != nil {
		return nil, err
	}
	defer db.Drop(ctx)
	open, err := s.open(ctx, db)
	if err != nil {
		return nil, err
	}
	defer open.close()
	err = db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error {
		has := 0
		for n := min(10_000, most); n <= most; n *= 10 {
			if err := fill(ctx, conn, n-has); err != nil {
				return fmt.Errorf("fill: %w", err)
			}
			has = n
			if err := db.Settle(ctx); err != nil {
				return err
			}
			if _, err := bench.Timed(times/10+1, bench.Milliseconds, func() error { return execute(ctx, conn, query) }); err != nil {
				return err
			}
			samples, err := bench.Timed(times, bench.Milliseconds, func() error { return execute(ctx, conn, query) })
			if err != nil {
				return err
			}
			var goal *bench.Goal
			if name == bench.Ours {
				goal = bench.AtMost(2)
			}
			res := r.report.Add(fmt.Sprintf("count by state, %d terminal jobs · %s", n, name), "ms", samples, goal)
			points = append(points, chart.Point{X: float64(n), Y: res.Median})
		}
		return nil
	})
	r.report.Series = append(r.report.Series, bench.Series{
		Phase: "counts", System: name, Name: "counting a queue by state", X: "terminal jobs in history", Y: "ms", Log: true, Points: points,
	})
	return points, err
}

func execute(ctx context.Context, conn *pgx.Conn, query string) error {
	_, err := conn.Exec(ctx, query)
	return err
}

// awaHistory completes n more jobs inside the server, and has the counters
// checkpointed as maintenance does within a minute or so.
func awaHistory(ctx context.Context, conn *pgx.Conn, n int) error {
	for n > 0 {
		part := min(n, 100_000)
		if err := execute(ctx, conn, fmt.Sprintf(`
			select cardinality(awa.enqueue_many('bench', array_fill('{}'::jsonb, array[%d]), queue => 'bench'))`, part)); err != nil {
			return err
		}
		for done := 0; done < part; {
			var claimed int
			err := conn.QueryRow(ctx, `
				with c as materialized (select array_agg(f.receipt) as receipts from awa.claim('bench', 10000) as f)
				select cardinality(c.receipts) from c where not exists (select from awa.complete_many(c.receipts))`).Scan(&claimed)
			if err != nil {
				return err
			}
			done += claimed
		}
		if _, err := bench.Queue.Maintain(ctx, conn); err != nil {
			return err
		}
		n -= part
	}
	_, err := bench.Queue.CheckpointTerminalCounters(ctx, conn)
	return err
}

// riverHistoryOf inserts n more completed jobs.
func riverHistoryOf(ctx context.Context, conn *pgx.Conn, n int) error {
	return execute(ctx, conn, fmt.Sprintf(`
		insert into river_job (args, attempt, attempted_at, finalized_at, kind, max_attempts, queue, scheduled_at, state)
		select '{}', 1, now(), now(), 'bench', 25, 'bench', now(), 'completed' from generate_series(1, %d)`, n))
}
