package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
)

// pgqSystem is PgQ: batches of events for registered consumers. It keeps no state
// of a single job: a batch is finished as a whole.
type pgqSystem struct{ version string }

func (pgqSystem) name() string { return "PgQ" }

func (s pgqSystem) settings() string {
	return fmt.Sprintf("%s; bulk by insert … select insert_event in transactions of 10,000 with a tick after each, one consumer that reads and finishes whole batches", s.version)
}

func (pgqSystem) fresh(ctx context.Context, server *bench.Server) (*bench.Database, error) {
	return server.NewEmptyDatabase(ctx)
}

// findPgQ fails where the server has no such extension.
func findPgQ(ctx context.Context, server *bench.Server) (system, error) {
	db, err := server.NewEmptyDatabase(ctx)
	if err != nil {
		return nil, err
	}
	var s pgqSystem
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select default_version from pg_available_extensions where name = 'pgq'").Scan(&s.version)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = errors.New("the server has no extension pgq (Debian: postgresql-15-pgq3)")
	}
	return s, errors.Join(err, db.Drop(ctx))
}

func (pgqSystem) open(ctx context.Context, db *bench.Database) (session, error) {
	err := db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		for _, sql := range []string{
			"create extension pgq",
			"select pgq.create_queue('bench')",
			"select pgq.set_queue_config('bench', 'ticker_max_count', '1')", // tick whenever asked to
			"select pgq.set_queue_config('bench', 'ticker_max_lag', '0')",
			"select pgq.set_queue_config('bench', 'rotation_period', '5 seconds')",
			"select pgq.register_consumer('bench', 'worker')",
			"select pgq.ticker('bench')",
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	return &pgqSession{db}, err
}

type pgqSession struct{ db *bench.Database }

func (s *pgqSession) close() error { return nil }

func (s *pgqSession) bulk(ctx context.Context, n, size int) (took time.Duration, err error) {
	docs := make([]string, n)
	for i, doc := range bench.Payload(n, size) {
		docs[i] = string(doc)
	}
	err = s.db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		start := time.Now()
		for from := 0; from < n; {
			to := min(n, from+min(10_000, 20_000_000/size+1))
			if err := pgqPut(ctx, conn, docs[from:to]); err != nil {
				return err
			}
			from = to
		}
		took = time.Since(start)
		return nil
	})
	return took, err
}

// pgqPut inserts events in one transaction and ticks behind it.
func pgqPut(ctx context.Context, conn *pgx.Conn, docs []string) error {
	if _, err := conn.Exec(ctx, "select count(pgq.insert_event('bench', 'bench', d)) from unnest($1::text[]) as d", docs); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "select pgq.ticker('bench')")
	return err
}

// next works one batch and returns how many events it had; false: there is none.
func pgqNext(ctx context.Context, conn *pgx.Conn) (events int, found bool, err error) {
	var id *int64
	if err := conn.QueryRow(ctx, "select pgq.next_batch('bench', 'worker')").Scan(&id); err != nil || id == nil {
		return 0, false, err
	}
	rows, _ := conn.Query(ctx, "select ev_id, ev_type, ev_data from pgq.get_batch_events($1)", *id) // Collect returns its error
	type event struct {
		ID         int64
		Type, Data string
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[event])
	if err != nil {
		return 0, false, err
	}
	_, err = conn.Exec(ctx, "select pgq.finish_batch($1)", *id)
	return len(all), true, err
}

func (s *pgqSession) drain(ctx context.Context, n int) (took time.Duration, err error) {
	err = s.db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		start := time.Now()
		for done := 0; done < n; {
			events, found, err := pgqNext(ctx, conn)
			if err != nil {
				return err
			}
			if !found {
				return fmt.Errorf("%d of %d events came", done, n)
			}
			done += events
		}
		took = time.Since(start)
		return nil
	})
	return took, err
}

func (s *pgqSession) produce(ctx context.Context, n int, d time.Duration) (float64, error) {
	conns, done, err := connections(ctx, s.db, n)
	if err != nil {
		return 0, err
	}
	defer done()
	doc := string(bench.Payload(1, 100)[0])
	return sideBySide(n, d, func(i int) (bool, error) {
		_, err := conns[i].Exec(ctx, "select pgq.insert_event('bench', 'bench', $1)", doc)
		return true, err
	})
}

func (s *pgqSession) oneJob(context.Context, int, time.Duration) (float64, error) { return 0, errNone }

func (s *pgqSession) flow(context.Context, load) (*course, error) {
	return nil, errNone // the ticker's period is what it takes
}

func (s *pgqSession) hold(ctx context.Context) (release func() error, err error) {
	return holdOpen(ctx, s.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select pgq.insert_event('bench', 'held', '{}')")
		return err
	})
}

func (s *pgqSession) traffic(ctx context.Context, d time.Duration) ([]float64, error) {
	m := newMeter(d)
	docs := make([]string, chunk)
	for i, doc := range bench.Payload(chunk, 100) {
		docs[i] = string(doc)
	}
	conns, closeAll, err := connections(ctx, s.db, 3)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	errs := make(chan error, 3)
	go func() {
		errs <- m.feed(func(n int) error { return pgqPut(ctx, conns[0], docs[:n]) })
	}()
	go func() { errs <- pgqMaintain(ctx, conns[1], m) }()
	go func() {
		for !m.over() {
			events, found, err := pgqNext(ctx, conns[2])
			if err != nil {
				errs <- err
				return
			}
			if m.add(events); !found {
				time.Sleep(time.Millisecond)
			}
		}
		errs <- nil
	}()
	err = errors.Join(<-errs, <-errs, <-errs)
	return m.rates(), err
}

// pgqMaintain rotates tables as pgqd does.
func pgqMaintain(ctx context.Context, conn *pgx.Conn, m *meter) error {
	for !m.over() {
		for _, sql := range []string{
			"select pgq.maint_rotate_tables_step1('bench')", "select pgq.maint_rotate_tables_step2()",
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		time.Sleep(time.Second)
	}
	return nil
}
