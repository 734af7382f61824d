package bench

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
)

// Queue is the client that every benchmark uses.
var Queue = awa.New()

// WithDatabase runs f on a fresh database.
func (s *Server) WithDatabase(ctx context.Context, f func(*Database) error) error {
	d, err := s.NewDatabase(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(d), d.Drop(ctx))
}

// With runs f on one connection.
func (d *Database) With(ctx context.Context, durability Durability, f func(*pgx.Conn) error) error {
	conn, err := d.Connect(ctx, durability)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

// Preload enqueues n jobs and settles the database.
func (d *Database) Preload(ctx context.Context, queue string, n int) error {
	if err := d.Fill(ctx, queue, n); err != nil {
		return err
	}
	return d.Settle(ctx)
}

// Fill enqueues n jobs with 100 bytes of arguments from inside the server, in
// calls of at most 200,000.
func (d *Database) Fill(ctx context.Context, queue string, n int) error {
	err := d.With(ctx, Asynchronous, func(conn *pgx.Conn) error {
		for from := 1; from <= n; from += 200_000 {
			_, err := conn.Exec(ctx, `
				select cardinality(awa.enqueue_many(kind => 'bench', queue => $1, args => array(
				  select jsonb_build_object('i', i, 'pad', repeat('x', 80))
				  from generate_series($2::integer, $3::integer) as i)))`,
				queue, from, min(from+199_999, n))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// Payload returns n arguments of about so many bytes each. Small ones are those
// of Fill; large ones are random letters, which hardly compress.
func Payload(n, size int) []json.RawMessage {
	var random string
	if size > 1000 {
		bytes := make([]byte, 2*size)
		for i, source := 0, rand.New(rand.NewPCG(1, 2)); i < len(bytes); i++ {
			bytes[i] = byte(source.Uint32())
		}
		random = base64.StdEncoding.EncodeToString(bytes)
	}
	docs := make([]json.RawMessage, n)
	for i := range docs {
		pad := strings.Repeat("x", max(0, min(size, 1000)-20))
		if random != "" {
			from := i * 37 % size
			pad = random[from : from+size-20]
		}
		docs[i] = fmt.Appendf(nil, `{"i":%d,"pad":"%s"}`, i+1, pad)
	}
	return docs
}

// MustHaveCompleted fails unless the queue counts n completed jobs and none in
// any other state.
func (d *Database) MustHaveCompleted(ctx context.Context, queue string, n int) error {
	return d.With(ctx, Durable, func(conn *pgx.Conn) error {
		c, err := Queue.Counts(ctx, conn, queue)
		if err == nil && (c.Completed != int64(n) || c.Terminal != int64(n) || c.Available+c.Running != 0) {
			err = fmt.Errorf("%d jobs went in, counts are %+v", n, c)
		}
		return err
	})
}

// Timed calls f n times and returns how long each call took.
func Timed(n int, unit func(time.Duration) float64, f func() error) ([]float64, error) {
	samples := make([]float64, n)
	for i := range samples {
		start := time.Now()
		if err := f(); err != nil {
			return nil, err
		}
		samples[i] = unit(time.Since(start))
	}
	return samples, nil
}

// WALOf returns how many bytes of WAL the server wrote while f ran.
func (d *Database) WALOf(ctx context.Context, f func() error) (bytes float64, err error) {
	err = d.With(ctx, Durable, func(conn *pgx.Conn) error {
		var before string
		if err := conn.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&before); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
		return conn.QueryRow(ctx,
			"select (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::double precision", before).Scan(&bytes)
	})
	return bytes, err
}

// Microseconds and Milliseconds are durations as figures.
func Microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// Milliseconds is like Microseconds.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Rate is n over a duration, per second.
func Rate(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
