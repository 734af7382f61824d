package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
)

// connections opens n connections whose commits are durable, and returns with
// them what closes them.
func connections(ctx context.Context, db *bench.Database, n int) ([]*pgx.Conn, func(), error) {
	conns := make([]*pgx.Conn, 0, n)
	closeAll := func() {
		for _, c := range conns {
			c.Close(context.WithoutCancel(ctx))
		}
	}
	for range n {
		c, err := db.Connect(ctx, bench.Durable)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, c)
	}
	return conns, closeAll, nil
}

// sideBySide calls each with 0 to n-1, over and over until the time is up or one
// fails, and returns how often they returned true, per second.
func sideBySide(n int, d time.Duration, each func(i int) (bool, error)) (float64, error) {
	errs := make([]error, n)
	var done atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for i := range n {
		wg.Go(func() {
			for time.Since(start) < d && errs[i] == nil {
				var ok bool
				if ok, errs[i] = each(i); ok {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return bench.Rate(int(done.Load()), time.Since(start)), errors.Join(errs...)
}

// meter counts jobs by the second in which they were finished. Its methods may be
// called concurrently.
type meter struct {
	start   time.Time
	seconds []atomic.Int64
	total   atomic.Int64
}

func newMeter(d time.Duration) *meter {
	return &meter{start: time.Now(), seconds: make([]atomic.Int64, int(d.Seconds()))}
}

func (m *meter) add(n int) {
	m.total.Add(int64(n))
	if i := int(time.Since(m.start).Seconds()); i < len(m.seconds) {
		m.seconds[i].Add(int64(n))
	}
}

func (m *meter) over() bool { return time.Since(m.start) >= time.Duration(len(m.seconds))*time.Second }

func (m *meter) rates() []float64 {
	rates := make([]float64, len(m.seconds))
	for i := range m.seconds {
		rates[i] = float64(m.seconds[i].Load())
	}
	return rates
}

// feed calls put with the size of a chunk whenever fewer than the backlog wait,
// until the meter's time is up.
func (m *meter) feed(put func(n int) error) error {
	fed := 0
	for !m.over() {
		if fed-int(m.total.Load()) > backlog-chunk {
			time.Sleep(time.Millisecond)
			continue
		}
		if err := put(chunk); err != nil {
			return err
		}
		fed += chunk
	}
	return nil
}

// holdOpen leaves a transaction open in which put has enqueued a job. release rolls
// it back.
func holdOpen(ctx context.Context, db *bench.Database, put func(pgx.Tx) error) (release func() error, err error) {
	return holdTx(ctx, db, pgx.TxOptions{}, put)
}

// holdSnapshot leaves a transaction open that has only read.
func holdSnapshot(ctx context.Context, db *bench.Database) (release func() error, err error) {
	return holdTx(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select count(*) from pg_class")
		return err
	})
}

func holdTx(ctx context.Context, db *bench.Database, options pgx.TxOptions, f func(pgx.Tx) error) (release func() error, err error) {
	conn, err := db.Connect(ctx, bench.Durable)
	if err != nil {
		return nil, err
	}
	release = func() error { return conn.Close(context.WithoutCancel(ctx)) }
	tx, err := conn.BeginTx(ctx, options)
	if err == nil {
		err = f(tx)
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}
