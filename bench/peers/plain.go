package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
)

// plainSystem is no queue: it appends to plain tables what one would have to, by the
// connections and in the batches that awa works with. The process knows which job is
// next. What its rate does over time, the machine and the server do.
type plainSystem struct{}

func (plainSystem) name() string { return "plain append" }

func (plainSystem) settings() string {
	return fmt.Sprintf("no queue, for comparison: one connection inserts %d jobs at a time into a table with a primary key, "+
		"2 pairs read %d of them and insert a row for the claim, asynchronously, and one for the finish, durably", chunk, batch)
}

func (plainSystem) fresh(ctx context.Context, server *bench.Server) (*bench.Database, error) {
	return server.NewEmptyDatabase(ctx)
}

func (plainSystem) open(ctx context.Context, db *bench.Database) (session, error) {
	err := db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `
			create table jobs (id bigint primary key, created_at timestamptz not null default now(), args jsonb not null);
			create table claims (first_id bigint primary key, claimed_at timestamptz not null default now(), ids bigint[] not null);
			create table finishes (first_id bigint primary key, finished_at timestamptz not null default now())`)
		return err
	})
	return &plainSession{db: db}, err
}

// plainSession numbers its jobs from 1 and works them in that order.
type plainSession struct {
	db           *bench.Database
	added, taken atomic.Int64
}

func (*plainSession) close() error { return nil }

func (s *plainSession) bulk(ctx context.Context, n, size int) (took time.Duration, err error) {
	docs := bench.Payload(n, size)
	err = s.db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		start := time.Now()
		err := s.add(ctx, conn, docs)
		took = time.Since(start)
		return err
	})
	return took, err
}

func (s *plainSession) traffic(ctx context.Context, d time.Duration) ([]float64, error) {
	m := newMeter(d)
	var fed error
	var beside sync.WaitGroup
	beside.Go(func() { fed = s.feed(ctx, m) })
	_, err := bench.Crew(ctx, s.db, 2, func(_ int, w *bench.Worker) error {
		for !m.over() {
			first, waiting := s.next()
			if !waiting {
				time.Sleep(time.Millisecond)
				continue
			}
			if err := s.work(ctx, w, first); err != nil {
				return err
			}
			m.add(batch)
		}
		return nil
	})
	beside.Wait()
	return m.rates(), errors.Join(err, fed)
}

func (s *plainSession) feed(ctx context.Context, m *meter) error {
	docs := bench.Payload(chunk, 100)
	return s.db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		return m.feed(func(n int) error { return s.add(ctx, conn, docs[:n]) })
	})
}

// add has one caller at a time.
func (s *plainSession) add(ctx context.Context, conn *pgx.Conn, docs []json.RawMessage) error {
	_, err := conn.Exec(ctx, `
		insert into jobs (id, args) select $1 + d.n, d.args from unnest($2::jsonb[]) with ordinality as d (args, n)`,
		s.added.Load(), docs)
	if err == nil {
		s.added.Add(int64(len(docs)))
	}
	return err
}

// next takes a batch of jobs that nobody has taken, by the number of the first.
func (s *plainSession) next() (first int64, waiting bool) {
	for {
		taken := s.taken.Load()
		if s.added.Load() < taken+batch {
			return 0, false
		}
		if s.taken.CompareAndSwap(taken, taken+batch) {
			return taken + 1, true
		}
	}
}

func (s *plainSession) work(ctx context.Context, w *bench.Worker, first int64) error {
	rows, err := w.Claims.Query(ctx, `
		with taken as materialized (select j.id, j.args from jobs as j where j.id between $1 and $1 + $2 - 1),
		claimed as (insert into claims (first_id, ids) select $1, array_agg(t.id) from taken as t)
		select t.id, t.args from taken as t`, first, int64(batch))
	if err != nil {
		return err
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		ID   int64
		Args []byte
	}])
	if err == nil && len(jobs) != batch {
		err = fmt.Errorf("%d jobs from number %d on, want %d", len(jobs), first, batch)
	}
	if err != nil {
		return err
	}
	_, err = w.Finishes.Exec(ctx, "insert into finishes (first_id) values ($1)", first)
	return err
}

func (s *plainSession) hold(ctx context.Context) (release func() error, err error) {
	return holdOpen(ctx, s.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into jobs (id, args) values (0, '{}')")
		return err
	})
}

func (*plainSession) drain(context.Context, int) (time.Duration, error) { return 0, errNone }

func (*plainSession) produce(context.Context, int, time.Duration) (float64, error) { return 0, errNone }

func (*plainSession) oneJob(context.Context, int, time.Duration) (float64, error) { return 0, errNone }

func (*plainSession) flow(context.Context, load) (*course, error) { return nil, errNone }
