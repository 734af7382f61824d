package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
)

const (
	// concurrencyKeys is how many keys the jobs of the phase share.
	concurrencyKeys = 1000
	// warmSteps is how many claims each makes before it is measured.
	warmSteps = 3
	// pollInterval is how long a claimer waits that was given nothing.
	pollInterval = 10 * time.Millisecond
)

// concurrency measures 16 claimers that drain the same jobs twice: from a queue
// without a limit, and from one that runs one job of a key at a time. The keys
// come in turn, or at random, so that many jobs meet their key taken.
func (r *run) concurrency(ctx context.Context) error {
	const workers = 16
	orders := []struct{ name, key string }{
		{"keys in turn", "i % $2::integer"},
		{"keys at random", "floor(random() * $2::integer)"},
	}
	for _, order := range orders {
		for _, batch := range []int{1, 50, 200} {
			// Single jobs are slow on any queue: a fifth of them tells as much.
			jobs := r.jobs / 2
			if batch == 1 {
				jobs /= 5
			}
			var plain, limited, ratios []float64
			for range r.runs {
				var rates [2]float64
				err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
					for i, name := range []string{"plain", "limited"} {
						for _, q := range []string{name, warm(name)} {
							n := jobs
							if q != name {
								n = warmSteps * workers * batch
							}
							if err := fillKeys(ctx, db, q, order.key, n); err != nil {
								return err
							}
							if name == "plain" {
								continue
							}
							if err := db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
								return queue.ConfigureQueue(ctx, conn, q, map[string]any{"concurrency_limit": 1})
							}); err != nil {
								return err
							}
						}
						if err := db.Settle(ctx); err != nil {
							return err
						}
						took, err := drainAll(ctx, db, name, workers, batch, jobs)
						if err != nil {
							return err
						}
						if err := db.MustHaveCompleted(ctx, name, jobs); err != nil {
							return err
						}
						rates[i] = bench.Rate(jobs, took)
					}
					return mustNotOverlap(ctx, db, "limited", 1, jobs)
				})
				if err != nil {
					return err
				}
				plain, limited = append(plain, rates[0]), append(limited, rates[1])
				ratios = append(ratios, rates[1]/rates[0])
			}
			of := fmt.Sprintf("%s, claims of %d", order.name, batch)
			r.report.Add(of+", no limit", "jobs/s", plain, nil)
			r.report.Add(of+", one of a key", "jobs/s", limited, nil)
			r.report.Add(of+": the one as a part of the other", "", ratios, bench.AtLeast(0.5))
		}
	}
	return nil
}

// fillKeys enqueues n jobs whose keys an expression over i and the number of keys
// gives.
func fillKeys(ctx context.Context, db *bench.Database, name, key string, n int) error {
	return db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error {
		for from := 1; from <= n; from += 10_000 {
			_, err := conn.Exec(ctx, `
				select cardinality(awa.enqueue_many((
				  select jsonb_agg(jsonb_build_object('kind', 'bench', 'queue', $1::text,
				    'args', jsonb_build_object('i', i, 'pad', repeat('x', 80)), 'concurrency_key', 'key' || `+key+`))
				  from generate_series($3::integer, $4::integer) as i)))`,
				name, concurrencyKeys, from, min(from+9_999, n))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// warm is the queue, alike otherwise, on which the claimers of another one warm up.
func warm(name string) string { return name + " before" }

// drainAll is Drain for claimers that may be given nothing while jobs wait, after each
// has been at another queue.
func drainAll(ctx context.Context, db *bench.Database, name string, workers, batch, jobs int) (time.Duration, error) {
	var done atomic.Int64
	return bench.WarmCrew(ctx, db, workers, func(_ int, w *bench.Worker) error {
		for range warmSteps {
			if _, err := w.Step(ctx, warm(name), batch); err != nil {
				return err
			}
		}
		return nil
	}, func(_ int, w *bench.Worker) error {
		for done.Load() < int64(jobs) {
			n, err := w.Step(ctx, name, batch)
			if err != nil {
				return err
			}
			done.Add(int64(n))
			if n > 0 || done.Load() >= int64(jobs) {
				continue
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pollInterval):
			}
		}
		return nil
	})
}

// mustNotOverlap fails unless claims and outcomes show that each of n jobs was
// worked on once, and never more than limit of a key at a time.
func mustNotOverlap(ctx context.Context, db *bench.Database, name string, limit, n int) error {
	return db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		var attempts, most int
		err := conn.QueryRow(ctx, `
			with attempt as (
			  select r.metadata ->> 'awa:concurrency_key' as key, c.claimed_at, o.finalized_at
			  from awa.claims as c
			  cross join lateral unnest(c.job_ids, c.run_leases) as j (job_id, run_lease)
			  join awa.ready_entries as r
			    on r.ready_slot = c.ready_slot and r.job_id = j.job_id and r.run_lease = coalesce(j.run_lease, 1)
			  join awa.queue_lanes as l on l.lane = r.lane and l.queue = $1
			  left join lateral (
			    select o.outcome, o.finalized_at from awa.attempt_outcomes as o
			    where o.ready_slot = c.ready_slot and o.batch_id = c.batch_id and (o.job_ids is null or j.job_id = any (o.job_ids))
			  ) as o on true
			  -- Parked ones were moved by the claim that met them: nobody had them.
			  where o.outcome is distinct from 'm'
			), step as (
			  select a.key, a.claimed_at as at, 1 as change from attempt as a
			  union all
			  select a.key, a.finalized_at, -1 from attempt as a
			), level as (
			  select sum(s.change) over (partition by s.key order by s.at, s.change rows unbounded preceding) as running
			  from step as s
			)
			select (select count(*) from attempt), (select max(v.running) from level as v)`,
			name).Scan(&attempts, &most)
		if err == nil && (attempts != n || most > limit) {
			err = fmt.Errorf("%d attempts of %d jobs, up to %d of a key at a time", attempts, n, most)
		}
		return err
	})
}
