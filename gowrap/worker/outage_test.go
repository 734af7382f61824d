package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// Every connection is terminated again and again while jobs run. A claim whose
// answer was lost is rescued once its worker's name has fallen silent.
func TestLostConnections(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	const jobs = 3000
	admin := newPool(t, url, func(cfg *pgxpool.Config) { cfg.ConnConfig.RuntimeParams["application_name"] = "admin" })
	exec(t, admin, `update awa.storage_settings set worker_silence = '500ms'`)
	enqueueMany(t, admin, "default", jobs)
	var done atomic.Int64
	start(t, worker.Config{Pool: newPool(t, url, nil), MaxWorkers: 10, SoftStopTimeout: time.Minute}, tasks(
		func(context.Context, *worker.Job[task]) error {
			time.Sleep(time.Millisecond)
			done.Add(1)
			return nil
		}))
	for n := range int64(4) {
		eventually(t, func() bool { return done.Load() >= (n+1)*400 }, func() any { return done.Load() })
		exec(t, admin, `select pg_terminate_backend(a.pid) from pg_stat_activity as a
			where a.datname = current_database() and a.application_name <> 'admin'`)
	}
	eventually(t, func() bool { return counts(t, admin, "default").Completed == jobs },
		func() any { return counts(t, admin, "default") })
	t.Logf("%d jobs, %d runs", jobs, done.Load())
	requireHealthy(t, admin)

	// The listener is back as well.
	eventually(t, func() bool { return waits(t, admin) == 1 }, func() any { return waits(t, admin) })
}

// The server crashes while jobs run, stays away for a while, and comes back. Jobs
// whose claim it forgot run again; what was finished stays finished.
func TestServerCrash(t *testing.T) {
	opts := localpg.Options{Settings: map[string]string{"wal_writer_delay": "10s"}}
	server := pgtest.Server(t, opts)
	leakless(t)
	pool := newPool(t, server.URL(), nil)
	// Long enough that only a crash silences it.
	exec(t, pool, `update awa.storage_settings set worker_silence = '2 seconds'`)
	const jobs = 2000
	enqueueMany(t, pool, "default", jobs)
	runs := make([]atomic.Int32, jobs)
	var done atomic.Int64
	start(t, worker.Config{Pool: pool, MaxWorkers: 10, CompleteBatch: 20}, tasks(
		func(_ context.Context, job *worker.Job[task]) error {
			time.Sleep(time.Millisecond)
			runs[job.Args.N].Add(1)
			done.Add(1)
			return nil
		}))
	for n := range int64(2) {
		eventually(t, func() bool { return done.Load() >= (n+1)*400 }, func() any { return done.Load() })
		server.Crash()
		time.Sleep(100 * time.Millisecond) // an outage has a length
		if err := server.Restart(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() bool {
		n, err := queue.Counts(context.Background(), pool, "default")
		return err == nil && n.Completed == jobs
	}, func() any { return done.Load() })
	repeats := 0
	for i := range runs {
		repeats += int(runs[i].Load()) - 1
	}
	// In a crash at most what ran and what was not yet written is lost.
	if most := 2 * (10 + 4*20); repeats > most {
		t.Errorf("%d repeats, at most %d were unacknowledged", repeats, most)
	}
	t.Logf("%d jobs, %d repeats", jobs, repeats)
	requireHealthy(t, pool)
}

// Others take every connection that the server has while jobs run. The client is refused, and
// goes on when there is room again.
func TestNoConnectionIsLeft(t *testing.T) {
	const slots = 15
	server := pgtest.Server(t, localpg.Options{Settings: map[string]string{"max_connections": strconv.Itoa(slots)}})
	leakless(t)
	cfg, err := pgx.ParseConfig(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["application_name"] = "crowd"
	admin, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	var crowd []*pgx.Conn
	leave := func() {
		for _, conn := range crowd {
			_ = conn.Close(context.Background())
		}
		crowd = nil
	}
	defer leave()
	const jobs = 400
	pool := newPool(t, server.URL(), nil)
	exec(t, pool, `update awa.storage_settings set worker_silence = '2 seconds'`)
	enqueueMany(t, pool, "default", jobs)
	var done atomic.Int64
	var log logbook
	start(t, worker.Config{Pool: pool, MaxWorkers: 4, Logger: log.logger()}, tasks(func(context.Context, *worker.Job[task]) error {
		time.Sleep(time.Millisecond)
		done.Add(1)
		return nil
	}))
	eventually(t, func() bool { return done.Load() > 50 }, func() any { return done.Load() })

	// Counted by the slots that the crowd has: a session that begins is not listed yet.
	for len(crowd)+1 < slots {
		if conn, err := pgx.ConnectConfig(t.Context(), cfg); err == nil {
			crowd = append(crowd, conn)
			continue
		}
		exec(t, admin, `select pg_terminate_backend(a.pid) from pg_stat_activity as a
			where a.backend_type = 'client backend' and a.application_name <> 'crowd'`)
	}
	refused := func() int { return strings.Count(server.Log(), "too many clients") }
	before := refused()
	eventually(t, func() bool { return refused() > before+3 }, func() any { return refused() - before })

	leave() // whose sessions end when the server comes to it
	eventually(t, func() bool {
		n, err := queue.Counts(context.Background(), pool, "default")
		return err == nil && n.Completed == jobs
	}, func() any { return done.Load() })
	requireHealthy(t, pool)
	if strings.Contains(log.text(), "datestyle") {
		t.Errorf("what was refused is taken for something else: %s", log.text())
	}
}

// A client that is started while the server is down begins when it is there.
func TestStartsBeforeServer(t *testing.T) {
	server := pgtest.Server(t, localpg.Options{})
	pool := newPool(t, server.URL(), nil)
	id := enqueue(t, pool, awa.EnqueueParams{})
	server.Crash()
	start(t, worker.Config{Pool: pool}, tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	time.Sleep(20 * time.Millisecond)
	if err := server.Restart(t.Context(), localpg.Options{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		j, err := queue.GetJob(context.Background(), pool, id)
		return err == nil && j.State == awa.StateCompleted
	}, func() any { return id })
}

// Behind PgBouncer in transaction mode nothing needs a session.
func TestPgBouncer(t *testing.T) {
	server := pgtest.Server(t, localpg.Options{})
	bouncer, err := server.StartBouncer(t.Context(), 4)
	if errors.Is(err, localpg.ErrNoBouncer) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bouncer.Stop() })
	leakless(t)
	for name, mode := range map[string]pgx.QueryExecMode{
		"simple protocol": pgx.QueryExecModeSimpleProtocol,
		"exec":            pgx.QueryExecModeExec,
	} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, bouncer.DatabaseURL("postgres"), func(cfg *pgxpool.Config) {
				cfg.ConnConfig.DefaultQueryExecMode = mode
			})
			exec(t, pool, "select awa.reset()")
			drainEach(t, pool, 1000, func(mux *worker.Mux) {
				for range 2 {
					start(t, worker.Config{Pool: pool, PollOnly: true}, mux)
				}
			})
			setting := rows[string](t, pool, "select current_setting('synchronous_commit') from generate_series(1, 4)")
			if setting[0] != "on" {
				t.Errorf("synchronous_commit of a pooled session is %s", setting[0])
			}
		})
	}
}

// The server becomes a standby for longer than a worker may be silent, and is promoted.
// Who was cut off from it meanwhile keeps what it works at; who stays away does not.
// The standby answers reads and refuses writes.
func TestPromotedStandby(t *testing.T) {
	opts := localpg.Options{}
	server := pgtest.Server(t, opts)
	pool := newPool(t, server.URL(), nil)
	receipts := map[string]awa.Receipt{}
	for _, name := range []string{"alive", "dead"} {
		enqueue(t, pool, awa.EnqueueParams{Queue: name})
		exec(t, pool, `select awa.register_worker($1)`, name)
		jobs, err := queue.Claim(t.Context(), pool, awa.ClaimParams{Queue: name, Worker: name})
		if err != nil || len(jobs) != 1 {
			t.Fatal(jobs, err)
		}
		receipts[name] = jobs[0].Receipt
	}
	rescue := func() (n int64) {
		t.Helper()
		// One statement, within which alive cannot fall silent; no pass is put off.
		if err := pool.QueryRow(t.Context(), `
			select m.affected
			from (select count(*) + setval('awa.rescue_clock', 1) as n from awa.heartbeat('alive')) as beat
			cross join lateral (select r.affected from awa.maintain() as r where r.task = 'rescue' and beat.n > 0) as m`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := rescue(); n != 0 {
		t.Fatalf("%d attempts were rescued on the old primary", n)
	}
	exec(t, pool, `update awa.storage_settings set worker_silence = '1 second'`)

	server.Crash()
	if err := os.WriteFile(filepath.Join(server.Dir(), "data", "standby.signal"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	pool.Reset()
	requireHealthy(t, pool)
	if n := counts(t, pool, "alive"); n.Running != 1 {
		t.Errorf("the standby counts %+v", n)
	}
	if _, err := queue.ConfigureStorage(t.Context(), pool, struct{}{}); err != nil {
		t.Errorf("the standby shows its settings: %v", err)
	}
	for _, call := range []string{`select awa.enqueue('task')`, `select awa.heartbeat('alive')`, `select awa.maintain()`} {
		var answer *pgconn.PgError
		if _, err := pool.Exec(t.Context(), call); !errors.As(err, &answer) || answer.Code != "25006" {
			t.Errorf("%s on a standby: %v", call, err)
		}
	}

	upFor := func() (up bool) {
		if err := pool.QueryRow(t.Context(), `select pg_postmaster_start_time() < clock_timestamp() - interval '1 second'`).Scan(&up); err != nil {
			t.Fatal(err)
		}
		return up
	}
	eventually(t, upFor, func() any { return "the standby is young" })
	exec(t, pool, `select pg_promote()`)
	if n := rescue(); n != 0 {
		t.Errorf("the first pass after the failover rescued %d attempts", n)
	}
	eventually(t, func() bool { return rescue() == 1 }, func() any { return counts(t, pool, "dead") })
	for name, receipt := range receipts {
		accepted, err := queue.Complete(t.Context(), pool, receipt)
		if err != nil || accepted != (name == "alive") {
			t.Errorf("%s completes: %v, %v", name, accepted, err)
		}
	}
	requireHealthy(t, pool)
}

// The primary dies while jobs run, and another server takes its place. The client finds
// it, and so does its listener; what was acknowledged is done once.
func TestFailover(t *testing.T) {
	opts := localpg.Options{}
	primary := pgtest.Server(t, opts)
	standby, err := primary.Standby(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Stop() })
	leakless(t)
	one, err := pgx.ParseConfig(primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	other, err := pgx.ParseConfig(standby.URL())
	if err != nil {
		t.Fatal(err)
	}
	hosts := strings.ReplaceAll(url.QueryEscape(one.Host+","+other.Host), "+", "%20")
	pool := newPool(t, fmt.Sprintf("postgres://postgres@/postgres?host=%s&port=%d,%d&target_session_attrs=read-write",
		hosts, one.Port, other.Port), nil)
	exec(t, pool, `alter system set synchronous_standby_names = '*'`)
	exec(t, pool, `select pg_reload_conf()`)
	exec(t, pool, `update awa.storage_settings set worker_silence = '500ms'`)
	eventually(t, func() bool {
		return rows[string](t, pool, `select sync_state from pg_stat_replication`)[0] == "sync"
	}, func() any { return "the standby is asynchronous" })
	const jobs = 2000
	enqueueMany(t, pool, "default", jobs)
	var done atomic.Int64
	start(t, worker.Config{Pool: pool, MaxWorkers: 10}, tasks(func(context.Context, *worker.Job[task]) error {
		time.Sleep(time.Millisecond)
		done.Add(1)
		return nil
	}))
	eventually(t, func() bool { return done.Load() >= 400 }, func() any { return done.Load() })
	primary.Crash()
	exec(t, newPool(t, standby.URL(), nil), `select pg_promote()`)
	eventually(t, func() bool {
		n, err := queue.Counts(context.Background(), pool, "default")
		return err == nil && n.Completed == jobs
	}, func() any { return done.Load() })
	t.Logf("%d jobs, %d repeats", jobs, done.Load()-jobs)
	requireHealthy(t, pool)
	eventually(t, func() bool { return waits(t, pool) == 1 }, func() any { return waits(t, pool) })
}

// holdAll takes every connection of the pool, as a handler might. The function it returns
// gives them back.
func holdAll(ctx context.Context, t *testing.T, pool *pgxpool.Pool) func() {
	var conns []*pgxpool.Conn
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			t.Error(err)
			break
		}
		conns = append(conns, conn)
	}
	return func() {
		for _, conn := range conns {
			conn.Release()
		}
	}
}

// A handler that holds every connection of the pool keeps its attempt, for however long:
// heartbeats do not wait for it. They are sent by a connection like those of the pool.
func TestPoolHeldByAHandler(t *testing.T) {
	for name, prepare := range map[string]func(*pgxpool.Config){
		"PrepareConn": func(cfg *pgxpool.Config) {
			cfg.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
				_, err := conn.Exec(ctx, `set test.prepared = yes`)
				return true, err
			}
		},
		"BeforeAcquire": func(cfg *pgxpool.Config) {
			//lint:ignore SA1019 A pool may have it.
			cfg.BeforeAcquire = func(ctx context.Context, conn *pgx.Conn) bool {
				_, err := conn.Exec(ctx, `set test.prepared = yes`)
				return err == nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) { poolHeld(t, prepare) })
	}
}

func poolHeld(t *testing.T, prepare func(*pgxpool.Config)) {
	admin, _, url := behind(t)
	exec(t, admin, `create function public.prepared () returns trigger language plpgsql as
		$$ begin assert current_setting('test.prepared') = 'yes'; return new; end $$`)
	exec(t, admin, `create trigger prepared before insert on awa.workers for each row execute function public.prepared()`)
	pool := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.MaxConns = 3
		prepare(cfg)
	})
	id := enqueue(t, admin, awa.EnqueueParams{})
	held := make(chan struct{}, 1)
	holding, release := context.WithCancel(context.Background())
	c := begin(t, worker.Config{Pool: pool, HeartbeatInterval: 10 * time.Millisecond}, time.Minute,
		tasks(func(ctx context.Context, _ *worker.Job[task]) error {
			defer holdAll(ctx, t, pool)()
			held <- struct{}{}
			<-holding.Done()
			return nil
		}))
	t.Cleanup(release)
	receive(t, held)
	for range 3 {
		before := rows[time.Time](t, admin, `select clock_timestamp()`)[0]
		eventually(t, func() bool {
			return rows[time.Time](t, admin, `select heartbeat_at from awa.jobs`)[0].After(before)
		}, func() any { return rows[string](t, admin, `select to_json(j)::text from awa.jobs as j`) })
	}
	release()
	if j := reach(t, admin, id, awa.StateCompleted); j.Attempt != 1 {
		t.Errorf("it was completed by attempt %d", j.Attempt)
	}
	stop(t, c)
}

// While handlers hold every connection of the pool no claim is sent, so none can have been lost:
// the client goes on under its name.
func TestNameSurvivesAHeldPool(t *testing.T) {
	admin, _, url := behind(t)
	pool := newPool(t, url, func(cfg *pgxpool.Config) { cfg.MaxConns = 3 })
	var log logbook
	held := make(chan struct{}, 1)
	holding, release := context.WithCancel(context.Background())
	done := make(chan struct{}, 1)
	c := begin(t, worker.Config{Pool: pool, PollInterval: 10 * time.Millisecond, Logger: log.logger(),
		Queues: map[string]worker.QueueConfig{"default": {}, "other": {}}}, 300*time.Millisecond,
		tasks(func(ctx context.Context, job *worker.Job[task]) error {
			if job.Queue == "other" {
				done <- struct{}{}
				return nil
			}
			defer holdAll(ctx, t, pool)()
			held <- struct{}{}
			<-holding.Done()
			return nil
		}))
	t.Cleanup(release)
	enqueue(t, admin, awa.EnqueueParams{})
	receive(t, held)
	eventually(t, func() bool { return log.messages(t, slog.LevelDebug)["Claim failed; will try again"] >= 3 },
		func() any { return log.text() })
	release()
	enqueue(t, admin, awa.EnqueueParams{Queue: "other"})
	receive(t, done)
	stop(t, c)
	if names := rows[string](t, admin, `select worker from awa.list_workers()`); len(names) != 1 {
		t.Errorf("it worked under the names %q", names)
	}
}
