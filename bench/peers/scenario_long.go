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

// lasting measures a load for so long that awa's history comes and goes many times:
// what grows then, grows for ever. Its segments and its retention are cut down in
// proportion, to a fortieth and a tenth of the time; the others keep finished jobs
// for as long as they do by default.
func (r *run) lasting(ctx context.Context) error {
	r.takes = r.long
	l := load{producers: 4, rate: r.rate, chunk: 50, duration: r.long, every: max(time.Second, r.long/60)}
	return r.compare(ctx, 1, nil, func(ctx context.Context, db *bench.Database, s session, f *figures) error {
		rings, err := hasRing(ctx, db)
		if err == nil && rings {
			err = shortHistory(ctx, db, r.long)
		}
		if err != nil {
			return err
		}
		type watched struct {
			states []state
			err    error
		}
		seen := make(chan watched, 1)
		watching, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			states, err := watch(watching, db, l, rings)
			seen <- watched{states, err}
		}()
		c, err := s.flow(ctx, l)
		stop()
		w := <-seen
		if err := errors.Join(err, w.err); err != nil {
			return err
		}
		return f.addLasting(l, c, w.states)
	})
}

func hasRing(ctx context.Context, db *bench.Database) (has bool, err error) {
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select to_regclass('awa.segment_prunes') is not null").Scan(&has)
	})
	return has, err
}

// shortHistory has segments sealed and history pruned many times in the time given.
func shortHistory(ctx context.Context, db *bench.Database, d time.Duration) error {
	return db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		_, err := bench.Queue.ConfigureStorage(ctx, conn, map[string]string{
			"segment_max_age":   fmt.Sprintf("%f seconds", max(1, d.Seconds()/40)),
			"history_retention": fmt.Sprintf("%f seconds", d.Seconds()/10),
		})
		return err
	})
}

// state is what the database holds at a moment.
type state struct {
	wal, tables, indexes, dead float64 // bytes, and rows
	lag                        float64 // seconds; see lagOf
	prunes                     int
}

// watch reads the state when the first interval begins and whenever one ends,
// until ctx ends.
func watch(ctx context.Context, db *bench.Database, l load, rings bool) (states []state, err error) {
	start := time.Now().Add(settling)
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		for i := 0; i <= l.intervals() && until(ctx, start.Add(time.Duration(i)*l.every)); i++ {
			var s state
			err := conn.QueryRow(ctx, stateQuery).Scan(&s.wal, &s.dead, &s.tables, &s.indexes)
			if err == nil && rings {
				err = conn.QueryRow(ctx, lagQuery).Scan(&s.lag, &s.prunes)
			}
			if ctx.Err() != nil { // the load is over and the end of this state not wanted
				return nil
			}
			if err != nil {
				return err
			}
			states = append(states, s)
		}
		return nil
	})
	return states, err
}

const stateQuery = `
	select (pg_current_wal_insert_lsn() - '0/0')::double precision,
	  (select coalesce(sum(s.n_dead_tup), 0)::double precision from pg_stat_user_tables as s),
	  coalesce(sum(pg_table_size(c.oid)), 0)::double precision,
	  coalesce(sum(pg_indexes_size(c.oid)), 0)::double precision
	from pg_class as c
	join pg_namespace as n on n.oid = c.relnamespace
	where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')`

// lagQuery tells for how long the oldest segment has been due to be pruned, and how
// many were. It is due when its retention is over, or when the ring needs its slot.
const lagQuery = `
	with ring as (
	  select (select count(*) from pg_inherits as i where i.inhparent = 'awa.ready_entries'::regclass) as slots,
	    (select coalesce(max(p.generation) + 1, 0) from awa.segment_prunes as p) as oldest
	)
	select coalesce(greatest(0, extract(epoch from clock_timestamp() - min(d.due))), 0)::double precision,
	  (select count(*) from awa.segment_prunes as p)
	from ring as g
	cross join lateral (
	  select r.rotated_at + s.history_retention as due
	  from awa.segment_rotations as r, awa.storage_settings as s
	  where r.generation = g.oldest + 1
	  union all
	  select r.rotated_at from awa.segment_rotations as r where r.generation = g.oldest + g.slots - 2
	) as d`

// addLasting sets the first third of the time beside the last one, and draws the
// whole of it.
func (f *figures) addLasting(l load, c *course, states []state) error {
	n := len(c.Intervals)
	if len(states) < n+1 {
		return fmt.Errorf("%d of %d states of the storage were read", len(states), n+1)
	}
	third := (n + 2) / 3
	for _, figure := range []struct {
		name, unit string
		of         func(i int) float64 // at the end of an interval, or in it
	}{
		{"jobs started", "jobs/s", func(i int) float64 { return bench.Rate(c.Intervals[i].Begun, l.every) }},
		{"latency, median", "ms", func(i int) float64 { return c.Intervals[i].Median }},
		{"latency, 99th percentile", "ms", func(i int) float64 { return c.Intervals[i].P99 }},
		{"queue depth", "jobs", func(i int) float64 { return float64(c.Intervals[i].Depth) }},
		{"size of tables", "MB", func(i int) float64 { return states[i+1].tables / 1e6 }},
		{"size of indexes", "MB", func(i int) float64 { return states[i+1].indexes / 1e6 }},
		{"dead tuples", "rows", func(i int) float64 { return states[i+1].dead }},
		{"WAL a job", "bytes", func(i int) float64 {
			return (states[i+1].wal - states[i].wal) / float64(max(1, c.Intervals[i].Begun))
		}},
		{"prune lag", "s", func(i int) float64 { return states[i+1].lag }},
	} {
		if states[n].prunes == 0 && figure.name == "prune lag" {
			continue
		}
		values, points := make([]float64, n), make([]chart.Point, n)
		for i := range values {
			values[i] = figure.of(i)
			points[i] = chart.Point{X: (time.Duration(i+1) * l.every).Minutes(), Y: values[i]}
		}
		f.add(figure.name+", first third", figure.unit, values[:third]...)
		f.add(figure.name+", last third", figure.unit, values[n-third:]...)
		f.draw(figure.name+" over time", "minutes", figure.unit, points)
	}
	f.add("latency in all, 99th percentile", "ms", c.P99)
	f.add("deepest queue", "jobs", float64(c.Deepest))
	if states[n].prunes > 0 {
		f.add("segments pruned", "", float64(states[n].prunes-states[0].prunes))
	}
	return nil
}
