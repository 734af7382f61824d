package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/awaqueue/awa/internal/bench"
)

// riverSystem is River, tuned for throughput.
type riverSystem struct{}

func (riverSystem) name() string { return "River" }

func (riverSystem) settings() string {
	return fmt.Sprintf("%s; InsertManyFast (COPY) in bulk; 2,000 workers, FetchCooldown 1 ms, FetchPollInterval 20 ms, its batch completer; a pool of 16 connections",
		moduleVersion("github.com/riverqueue/river"))
}

func (riverSystem) fresh(ctx context.Context, server *bench.Server) (*bench.Database, error) {
	return server.NewEmptyDatabase(ctx)
}

func (riverSystem) open(ctx context.Context, db *bench.Database) (session, error) {
	pool, err := db.Pool(ctx, 16)
	if err != nil {
		return nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: quiet})
	if err != nil {
		return nil, err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return &riverSession{db: db, pool: pool}, err
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// riverArgs are the arguments of a job: those of bench.Payload.
type riverArgs struct {
	I   int    `json:"i"`
	Pad string `json:"pad"`
}

func (riverArgs) Kind() string { return "bench" }

// riverWorker calls a function with the number of each job.
type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	handle func(i int64)
}

func (w *riverWorker) Work(_ context.Context, job *river.Job[riverArgs]) error {
	w.handle(int64(job.Args.I))
	return nil
}

type riverSession struct {
	db   *bench.Database
	pool *pgxpool.Pool
}

func (s *riverSession) close() error {
	s.pool.Close()
	return nil
}

func (s *riverSession) client(workers int, handle func(i int64)) (*river.Client[pgx.Tx], error) {
	config := &river.Config{Logger: quiet, FetchCooldown: time.Millisecond, FetchPollInterval: 20 * time.Millisecond}
	if workers > 0 {
		config.Queues = map[string]river.QueueConfig{queueName: {MaxWorkers: workers}}
		config.Workers = river.NewWorkers()
		river.AddWorker(config.Workers, &riverWorker{handle: handle})
	}
	return river.NewClient(riverpgxv5.New(s.pool), config)
}

var riverOpts = &river.InsertOpts{Queue: queueName}

func riverJobs(n, size int) []river.InsertManyParams {
	pad := strings.Repeat("x", max(0, min(size, 1000)-20))
	if size > 1000 {
		pad = string(bench.Payload(1, size)[0][14 : size-10])
	}
	jobs := make([]river.InsertManyParams, n)
	for i := range jobs {
		jobs[i] = river.InsertManyParams{Args: riverArgs{i + 1, pad}, InsertOpts: riverOpts}
	}
	return jobs
}

func (s *riverSession) bulk(ctx context.Context, n, size int) (time.Duration, error) {
	client, err := s.client(0, nil)
	if err != nil {
		return 0, err
	}
	jobs := riverJobs(n, size)
	start := time.Now()
	for from := 0; from < n; {
		to := min(n, from+min(10_000, 20_000_000/size+1))
		if _, err := client.InsertManyFast(ctx, jobs[from:to]); err != nil {
			return 0, err
		}
		from = to
	}
	return time.Since(start), nil
}

// drain is over with the event of the last completion: River sends it once that is
// committed.
func (s *riverSession) drain(ctx context.Context, n int) (took time.Duration, err error) {
	start := time.Now()
	err = s.work(ctx, 2000, func(int64) {}, func(events <-chan *river.Event, _ *river.Client[pgx.Tx]) error {
		for completed := range n {
			select {
			case <-events:
			case <-ctx.Done():
				return fmt.Errorf("%d of %d jobs completed: %w", completed, n, ctx.Err())
			}
		}
		took = time.Since(start)
		return nil
	})
	return took, err
}

// work runs f beside a client that works. Completions come as events.
func (s *riverSession) work(ctx context.Context, workers int, handle func(int64), f func(<-chan *river.Event, *river.Client[pgx.Tx]) error) error {
	client, err := s.client(workers, handle)
	if err != nil {
		return err
	}
	events, cancel := client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: 1_000_000, Kinds: []river.EventKind{river.EventKindJobCompleted},
	})
	defer cancel()
	if err := client.Start(ctx); err != nil {
		return err
	}
	return errors.Join(f(events, client), client.StopAndCancel(context.WithoutCancel(ctx)))
}

func (s *riverSession) produce(ctx context.Context, n int, d time.Duration) (float64, error) {
	client, err := s.client(0, nil)
	if err != nil {
		return 0, err
	}
	args := riverJobs(1, 100)[0].Args
	return sideBySide(n, d, func(int) (bool, error) {
		_, err := client.Insert(ctx, args, riverOpts)
		return true, err
	})
}

// oneJob: River's client fetches for all its workers at once.
func (s *riverSession) oneJob(context.Context, int, time.Duration) (float64, error) {
	return 0, errNone
}

func (s *riverSession) traffic(ctx context.Context, d time.Duration) ([]float64, error) {
	m := newMeter(d)
	err := s.work(ctx, 2000, func(int64) {}, func(events <-chan *river.Event, client *river.Client[pgx.Tx]) error {
		var counting sync.WaitGroup
		counting.Go(func() {
			for !m.over() {
				select {
				case <-events:
					m.add(1)
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
		jobs := riverJobs(chunk, 100)
		err := m.feed(func(n int) error {
			_, err := client.InsertManyFast(ctx, jobs[:n])
			return err
		})
		counting.Wait()
		return err
	})
	return m.rates(), err
}

func (s *riverSession) flow(ctx context.Context, l load) (c *course, err error) {
	f, workers := newFlow(l), 10
	if l.batched() {
		workers = 2000
	}
	pad := riverJobs(1, 100)[0].Args.(riverArgs).Pad
	err = s.work(ctx, workers, f.works, func(_ <-chan *river.Event, client *river.Client[pgx.Tx]) error {
		c, err = f.run(ctx, func(ctx context.Context, _ int, from int64, n int) error {
			if n == 1 {
				_, err := client.Insert(ctx, riverArgs{int(from), pad}, riverOpts)
				return err
			}
			jobs := make([]river.InsertManyParams, n)
			for i := range jobs {
				jobs[i] = river.InsertManyParams{Args: riverArgs{int(from) + i, pad}, InsertOpts: riverOpts}
			}
			_, err := client.InsertManyFast(ctx, jobs)
			return err
		})
		return err
	})
	return c, err
}

func (s *riverSession) hold(ctx context.Context) (release func() error, err error) {
	client, err := s.client(0, nil)
	if err != nil {
		return nil, err
	}
	return holdOpen(ctx, s.db, func(tx pgx.Tx) error {
		_, err := client.InsertTx(ctx, tx, riverArgs{}, riverOpts)
		return err
	})
}
