package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
	"github.com/awaqueue/awa/internal/chart"
)

// horizon measures what a snapshot that another session holds does to the rate
// of work: the last ten seconds over the first ten, or thirds of a shorter time.
func (r *run) horizon(ctx context.Context) error {
	goals := map[string]*bench.Goal{"last 10 s over first 10 s, pinned horizon": bench.AtLeast(0.97)}
	window := max(1, min(10, int(r.pin.Seconds())/3))
	var series []bench.Series
	err := r.compare(ctx, 1, goals, func(ctx context.Context, db *bench.Database, s session, f *figures) error {
		rates, err := pinned(ctx, db, s, r.pin)
		if err != nil {
			return err
		}
		first, last := mean(rates[:window]), mean(rates[len(rates)-window:])
		if first == 0 {
			return errors.New("no job was finished at the start")
		}
		f.add("last 10 s over first 10 s, pinned horizon", "", last/first)
		f.add("rate in the first 10 s", "jobs/s", first)
		f.add("rate in the last 10 s", "jobs/s", last)
		if err := s.close(); err != nil { // a backend that ends reports what it did
			return err
		}
		dead, err := deadTuples(ctx, db)
		if err != nil {
			return err
		}
		f.add("dead tuples in its tables at the end", "rows", dead)
		series = append(series, bench.Series{Points: relative(rates, first)})
		return nil
	})
	if err != nil {
		return err
	}
	i := 0
	for _, res := range r.report.Results {
		if res.Name == "rate in the first 10 s" && i < len(series) {
			series[i].Phase, series[i].System = res.Phase, res.System
			series[i].Name = "rate beside a held snapshot, as a part of the first 10 s"
			series[i].X, series[i].Y = "seconds since the snapshot was taken", "part"
			i++
		}
	}
	r.report.Series = append(r.report.Series, series...)
	return nil
}

// deadTuples is how many dead rows the tables of the database hold.
func deadTuples(ctx context.Context, db *bench.Database) (dead float64, err error) {
	if _, err := changedTuples(ctx, db); err != nil { // until the statistics stand still
		return 0, err
	}
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `
			select coalesce(sum(s.n_dead_tup), 0)::double precision from pg_stat_user_tables as s`).Scan(&dead)
	})
	return dead, err
}

// settling is how long traffic runs before it is counted: workers start up.
const settling = 2 * time.Second

// pinned is traffic beside a session that holds a snapshot.
func pinned(ctx context.Context, db *bench.Database, s session, d time.Duration) (rates []float64, err error) {
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			return err
		}
		defer tx.Rollback(context.WithoutCancel(ctx))
		if _, err := tx.Exec(ctx, "select count(*) from pg_class"); err != nil {
			return err
		}
		rates, err = s.traffic(ctx, d+settling)
		if err == nil {
			rates = rates[int(settling.Seconds()):]
		}
		return err
	})
	return rates, err
}

// relative makes a curve of rates, smoothed over three seconds.
func relative(rates []float64, base float64) []chart.Point {
	var points []chart.Point
	for i := range rates {
		from, to := max(0, i-1), min(len(rates), i+2)
		points = append(points, chart.Point{X: float64(i) + 0.5, Y: mean(rates[from:to]) / base})
	}
	return points
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
