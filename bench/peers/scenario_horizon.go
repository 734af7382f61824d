package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
	"github.com/awaqueue/awa/internal/chart"
)

// warm is how much memory each run finds at hand: more than a minute of the fastest
// writes.
const warm = 8 << 30

// free measures what the rate of work does by itself in that time: segments fill,
// tables grow, checkpoints come.
func (r *run) free(ctx context.Context) error {
	return r.beside(ctx, "nothing held", "nobody", nil)
}

// horizon measures what a snapshot that another session holds does to the rate
// of work: the last ten seconds over the first ten, or thirds of a shorter time.
func (r *run) horizon(ctx context.Context) error {
	return r.beside(ctx, "pinned horizon", "a held snapshot", func(ctx context.Context, db *bench.Database, _ session) (func() error, error) {
		return holdSnapshot(ctx, db)
	})
}

// writer measures the same beside a transaction that has written into the system.
func (r *run) writer(ctx context.Context) error {
	return r.beside(ctx, "uncommitted job", "an uncommitted job", func(ctx context.Context, _ *bench.Database, s session) (func() error, error) {
		return s.hold(ctx)
	})
}

// holder opens what is held and returns what ends it; nil: nothing is.
type holder func(context.Context, *bench.Database, session) (release func() error, err error)

func (r *run) beside(ctx context.Context, short, title string, hold holder) error {
	r.takes = r.pin
	window := max(1, min(10, int(r.pin.Seconds())/3))
	ratio := fmt.Sprintf("last %d s over first %d s, %s", window, window, short)
	goals := map[string]*bench.Goal{}
	if hold != nil {
		goals[ratio] = bench.AtLeast(0.97)
	}
	return r.compare(ctx, 1, goals, func(ctx context.Context, db *bench.Database, s session, f *figures) error {
		// What a queue's first job creates is there before the transaction, or it
		// would hold up whoever is next for another reason than the horizon.
		if _, err := s.bulk(ctx, batch, 100); err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
		if err := bench.WarmMemory(ctx, warm); err != nil {
			return err
		}
		rates, err := r.trafficBeside(ctx, db, s, hold)
		if err != nil {
			return err
		}
		rates = rates[int(settling.Seconds()):]
		first, last := mean(rates[:window]), mean(rates[len(rates)-window:])
		if first == 0 {
			return errors.New("no job was finished at the start")
		}
		f.add(ratio, "", last/first)
		f.add(fmt.Sprintf("rate in the first %d s, %s", window, short), "jobs/s", first)
		f.add(fmt.Sprintf("rate in the last %d s, %s", window, short), "jobs/s", last)
		if err := s.close(); err != nil { // a backend that ends reports what it did
			return err
		}
		dead, err := deadTuples(ctx, db)
		if err != nil {
			return err
		}
		f.add("dead tuples in its tables at the end, "+short, "rows", dead)
		f.draw(fmt.Sprintf("rate beside %s, as a part of the first %d s", title, window),
			"seconds", "part", relative(rates, first))
		return nil
	})
}

func (r *run) trafficBeside(ctx context.Context, db *bench.Database, s session, hold holder) ([]float64, error) {
	if hold == nil {
		return s.traffic(ctx, r.pin+settling)
	}
	release, err := hold(ctx, db, s)
	if err != nil {
		return nil, fmt.Errorf("hold: %w", err)
	}
	rates, err := s.traffic(ctx, r.pin+settling)
	return rates, errors.Join(err, mustPin(ctx, db, r.pin), release())
}

// mustPin fails unless an idle session has kept a snapshot or a transaction's
// number for as long as told: a figure beside one that has ended says nothing.
func mustPin(ctx context.Context, db *bench.Database, d time.Duration) error {
	return db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		var pins bool
		err := conn.QueryRow(ctx, `
			select exists (
			  select from pg_stat_activity as a
			  where a.datname = current_database() and a.state = 'idle in transaction'
			    and (a.backend_xid is not null or a.backend_xmin is not null)
			    and a.xact_start < clock_timestamp() - make_interval(secs => $1))`, d.Seconds()).Scan(&pins)
		if err == nil && !pins {
			err = errors.New("no transaction was held open")
		}
		return err
	})
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
