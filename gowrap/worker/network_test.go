package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// behind is a database, who reaches it by a good network, and a bad one with its url.
func behind(t *testing.T) (admin *pgxpool.Pool, net *proxy, url string) {
	t.Helper()
	database := pgtest.URL(t)
	leakless(t)
	admin = newPool(t, database, nil)
	net, url = through(t, database)
	return admin, net, url
}

// begin is start for a client whose statements may take no longer than that.
func begin(t *testing.T, cfg worker.Config, patience time.Duration, mux *worker.Mux) *worker.Client {
	t.Helper()
	c := newClient(t, cfg, mux)
	c.SetPatience(patience)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Stop(ended) // of a test that failed; what it returns the test has seen
	})
	return c
}

// logbook keeps what is logged.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logbook) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (b *logbook) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// messages counts the lines of each message, from a level on.
func (b *logbook) messages(t *testing.T, level slog.Level) map[string]int {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[string]int{}
	for line := range bytes.Lines(b.buf.Bytes()) {
		var entry struct {
			Level slog.Level
			Msg   string
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Level >= level {
			n[entry.Msg]++
		}
	}
	return n
}

// All connections of a full pool vanish at once, while new ones work, as when a
// firewall forgets them. The client is not taken for dead: it does not try them one
// after the other.
func TestFrozenConnections(t *testing.T) {
	admin, net, url := behind(t)
	exec(t, admin, `update awa.storage_settings set worker_silence = '10 seconds'`)
	pool := newPool(t, url, func(cfg *pgxpool.Config) { cfg.MaxConns = 40 })
	ids := make([]int64, 5)
	for i := range ids {
		ids[i] = enqueue(t, admin, awa.EnqueueParams{Args: task{i}})
	}
	began, proceed := make(chan int, 100), make(chan struct{})
	c := begin(t, worker.Config{Pool: pool}, 500*time.Millisecond, tasks(func(_ context.Context, job *worker.Job[task]) error {
		began <- job.Args.N
		<-proceed
		return nil
	}))
	for range ids {
		receive(t, began)
	}
	fill(t, pool)
	net.freeze()
	before := rows[time.Time](t, admin, `select max(heartbeat_at) from awa.jobs`)[0]
	eventually(t, func() bool {
		exec(t, admin, `select awa.maintain()`) // somebody else's
		return rows[int64](t, admin, `select count(*) from awa.jobs where state = 'running' and heartbeat_at > '`+
			before.Format(time.RFC3339Nano)+`'`)[0] == int64(len(ids))
	}, func() any { return before })
	close(proceed)
	for _, id := range ids {
		if j := reach(t, admin, id, awa.StateCompleted); j.Attempt != 1 {
			t.Errorf("job %d was completed by attempt %d", id, j.Attempt)
		}
	}
	// It works on, and is notified again.
	eventually(t, func() bool { return waits(t, admin) >= 1 }, func() any { return waits(t, admin) })
	reach(t, admin, enqueue(t, admin, awa.EnqueueParams{}), awa.StateCompleted)
	stop(t, c)
	net.cut()
	requireHealthy(t, admin)
}

// A client is stopped while nothing passes. Stop returns all the same and says what is
// left; others do it when the client has fallen silent.
func TestStopInBlackout(t *testing.T) {
	admin, net, url := behind(t)
	exec(t, admin, `update awa.storage_settings set worker_silence = '500ms'`)
	pool := newPool(t, url, nil)
	id := enqueue(t, admin, awa.EnqueueParams{})
	began := make(chan struct{}, 2)
	ends := make(chan struct{})
	c := begin(t, worker.Config{Pool: pool}, 300*time.Millisecond, tasks(func(context.Context, *worker.Job[task]) error {
		began <- struct{}{}
		<-ends
		return nil
	}))
	receive(t, began)
	heal := net.blackout()
	close(ends)
	done := make(chan error, 1)
	go func() { done <- c.Stop(context.Background()) }()
	if err := receive(t, done); !errors.Is(err, worker.ErrUnfinished) {
		t.Errorf("stop: %v", err)
	}
	heal()
	start(t, worker.Config{Pool: admin}, tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	reach(t, admin, id, awa.StateCompleted)
	requireHealthy(t, admin)
}

// While the server is away the client asks for it with pauses, and says so once.
func TestOutageIsQuiet(t *testing.T) {
	admin, net, url := behind(t)
	var log logbook
	queues := map[string]worker.QueueConfig{}
	for _, name := range []string{"default", "a", "b", "c", "d"} {
		queues[name] = worker.QueueConfig{MaxWorkers: 5}
	}
	release := make(chan struct{})
	began := make(chan struct{}, 10)
	enqueueMany(t, admin, "default", 3)
	c := begin(t, worker.Config{Pool: newPool(t, url, nil), Queues: queues, Logger: log.logger()}, time.Minute,
		tasks(func(context.Context, *worker.Job[task]) error {
			began <- struct{}{}
			<-release
			return nil
		}))
	for range 3 {
		receive(t, began)
	}
	eventually(t, func() bool { return waits(t, admin) == 5 }, func() any { return waits(t, admin) })
	net.refusing.Store(true)
	net.cut()
	close(release) // a finish waits as well
	from, since := net.accepted.Load(), time.Now()
	eventually(t, func() bool { return net.accepted.Load()-from >= 120 }, func() any { return net.accepted.Load() })
	// Each of five claims, a finish, the heartbeat, maintenance and the listener fails up
	// to six times before its pause is at its longest, which is 1.5 seconds at least.
	// The driver connects up to twice for each.
	tries := net.accepted.Load() - from
	if most := 2 * 9 * (7 + int64(time.Since(since)/(1500*time.Millisecond))); tries > most {
		t.Errorf("%d connections in %s, at most %d were due", tries, time.Since(since), most)
	}
	for message, n := range log.messages(t, slog.LevelInfo) {
		if n > 2 { // with the server's last words and without
			t.Errorf("logged %d times: %s", n, message)
		}
	}
	net.refusing.Store(false)
	eventually(t, func() bool { return counts(t, admin, "default").Completed == 3 }, func() any { return counts(t, admin, "default") })
	eventually(t, func() bool { return log.messages(t, slog.LevelInfo)["The server answers again"] == 1 }, func() any { return log.messages(t, slog.LevelInfo) })
	stop(t, c)
	requireHealthy(t, admin)
}

// A connection that breaks whenever it is to wait for jobs does not keep client and
// server busy with new ones, and jobs are found without it.
func TestListenerFlaps(t *testing.T) {
	admin, net, url := behind(t)
	flaps := net.on("start_waiting", 1<<30, fate{cut: true})
	c := begin(t, worker.Config{Pool: newPool(t, url, nil)}, time.Minute,
		tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	since := time.Now()
	eventually(t, func() bool { return flaps.Load() >= 8 }, func() any { return flaps.Load() })
	if most := 7 + int64(time.Since(since)/(1500*time.Millisecond)); flaps.Load() > most {
		t.Errorf("%d connections in %s, at most %d were due", flaps.Load(), time.Since(since), most)
	}
	reach(t, admin, enqueue(t, admin, awa.EnqueueParams{}), awa.StateCompleted)
	stop(t, c)
}

// A failover: connections stay with a server that takes no writes any more, new ones
// are made to the one that does. The client leaves the old ones, the one that it is
// notified by included, although they work.
func TestDemotedServer(t *testing.T) {
	for name, pollOnly := range map[string]bool{"listening": false, "polling": true} {
		t.Run(name, func(t *testing.T) { testDemotedServer(t, pollOnly) })
	}
}

func testDemotedServer(t *testing.T, pollOnly bool) {
	database := pgtest.URL(t)
	leakless(t)
	admin := newPool(t, database, nil)
	name := pgx.Identifier{admin.Config().ConnConfig.Database}.Sanitize()
	old := newPool(t, database, func(cfg *pgxpool.Config) { cfg.ConnConfig.RuntimeParams["application_name"] = "old" })
	var log logbook
	c := begin(t, worker.Config{Pool: old, PollOnly: pollOnly, Logger: log.logger()}, time.Minute,
		tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	reach(t, admin, enqueue(t, admin, awa.EnqueueParams{}), awa.StateCompleted)
	exec(t, admin, `alter role current_user in database `+name+` set default_transaction_read_only = on`)
	exec(t, admin, `select pg_terminate_backend(a.pid) from pg_stat_activity as a
		where a.datname = current_database() and a.application_name = 'old'`)
	old.Reset()
	fill(t, old)
	if mode := rows[string](t, old, "show transaction_read_only")[0]; mode != "on" {
		t.Fatalf("read only is %s", mode)
	}
	if !pollOnly {
		// The listening connection is left by itself: the first one when it was terminated.
		eventually(t, func() bool {
			return log.messages(t, slog.LevelDebug)["Lost the listening connection; polling meanwhile"] > 1
		}, func() any { return log.messages(t, slog.LevelDebug) })
	}
	id := enqueue(t, admin, awa.EnqueueParams{})
	exec(t, admin, `alter role current_user in database `+name+` reset default_transaction_read_only`)
	reach(t, admin, id, awa.StateCompleted)
	if !pollOnly {
		eventually(t, func() bool { return waits(t, admin) == 1 }, func() any { return waits(t, admin) })
	}
	stop(t, c)
	requireHealthy(t, admin)
}

// A pooler loses its server after the claim was committed, and says so to the client.
// That is an answer, but not the claim's: the jobs are rescued, and are not kept alive
// by the heartbeat of a client that does not know of them.
func TestPoolerLosesClaim(t *testing.T) {
	database := pgtest.URL(t)
	leakless(t)
	admin := newPool(t, database, nil)
	exec(t, admin, `update awa.storage_settings set worker_silence = '500ms'`)
	for name, answer := range map[string]string{
		"fatal": "SFATAL\x00C57P01\x00Mserver lost\x00\x00", "error": "SERROR\x00C08P01\x00Mserver conn crashed?\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			net, url := through(t, database)
			const jobs = 5
			exec(t, admin, "select awa.reset()")
			enqueueMany(t, admin, "default", jobs)
			packet := append([]byte{'E', 0, 0, 0, byte(4 + len(answer))}, answer...)
			// A cached statement is named, not sent: the first claim carries the text.
			lost := net.on("synchronous_commit", 1, fate{answer: packet})
			pool := newPool(t, url, func(cfg *pgxpool.Config) {
				cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
			})
			cfg := worker.Config{Pool: pool, Name: strings.Repeat("é", worker.LongestWorker)} // and goes on under another
			c := begin(t, cfg, time.Minute, tasks(func(context.Context, *worker.Job[task]) error { return nil }))
			eventually(t, func() bool { return lost.Load() == 1 }, func() any { return lost.Load() })
			eventually(t, func() bool { return counts(t, admin, "default").Completed == jobs },
				func() any { return counts(t, admin, "default") })
			if rows[int64](t, admin, `select count(*) from awa.done_entries where attempt > 1`)[0] == 0 {
				t.Error("no claim was lost")
			}
			stop(t, c)
		})
	}
}

// A job of a claim whose answer was lost is rescued although a handler runs on whose attempt
// was claimed under the same name.
func TestLostClaimBesideALongHandler(t *testing.T) {
	admin, net, url := behind(t)
	const jobs = 300
	enqueueMany(t, admin, "default", jobs)
	pool := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // each claim carries the text
	})
	var lost atomic.Pointer[atomic.Int64]
	end := make(chan struct{})
	var first atomic.Bool
	cfg := worker.Config{Pool: pool, HeartbeatInterval: 100 * time.Millisecond,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: 10, MaxClaim: 1}}}
	const answer = "SFATAL\x00C57P01\x00Mserver lost\x00\x00"
	c := begin(t, cfg, time.Minute, tasks(func(context.Context, *worker.Job[task]) error {
		if first.CompareAndSwap(false, true) {
			lost.Store(net.on("synchronous_commit", 1, fate{answer: append([]byte{'E', 0, 0, 0, byte(4 + len(answer))}, answer...)}))
			<-end
		}
		return nil
	}))
	eventually(t, func() bool { return counts(t, admin, "default").Completed == jobs-1 },
		func() any { return counts(t, admin, "default") })
	if lost.Load().Load() != 1 || rows[int64](t, admin, `select count(*) from awa.done_entries where attempt > 1`)[0] == 0 {
		t.Error("no claim was lost")
	}
	close(end)
	stop(t, c)
	requireHealthy(t, admin)
}

// The server rescues a few at a time. As long as there are more the client asks again at the
// next heartbeat.
func TestLargeLostClaimBesideALongHandler(t *testing.T) {
	url := pgtest.URL(t)
	admin := newPool(t, url, nil)
	began, end := make(chan struct{}), make(chan struct{})
	c := start(t, worker.Config{Pool: newPool(t, url, nil), DisableMaintain: true, HeartbeatInterval: time.Hour},
		tasks(func(context.Context, *worker.Job[task]) error {
			began <- struct{}{}
			<-end
			return nil
		}))
	enqueue(t, admin, awa.EnqueueParams{Args: task{0}})
	receive(t, began)
	exec(t, admin, `select awa.enqueue('k', queue => 'lost', follow_ups => '{"failed": [{"kind": "f"}]}') from generate_series(1, 25)`)
	exec(t, admin, `select awa.claim('lost', 25, $1)`, c.Name())
	c.DoubtName()
	for range 3 {
		if err := c.Heartbeat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := counts(t, admin, "lost"); n.Retryable != 25 {
		t.Errorf("%+v", n)
	}
	close(end)
	stop(t, c)
	requireHealthy(t, admin)
}

// The network is too slow for a claim of all jobs that there are places for, and the client or
// the server gives it up. They are claimed by fewer and run, before lost claims have cost them
// their attempts.
func TestLargeJobsOnASlowNetwork(t *testing.T) {
	t.Run("the client gives up", func(t *testing.T) { largeJobs(t, 2*time.Second, "0") })
	t.Run("the server gives up", func(t *testing.T) { largeJobs(t, time.Minute, "1s") })
}

func largeJobs(t *testing.T, patience time.Duration, statement string) {
	const jobs = 24
	admin, net, url := behind(t)
	exec(t, admin, `update awa.storage_settings set worker_silence = '500ms'`)
	pool := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.ConnectTimeout = time.Minute
		cfg.ConnConfig.RuntimeParams["statement_timeout"] = statement
	})
	queues := map[string]worker.QueueConfig{"default": {MaxWorkers: jobs}}
	c := begin(t, worker.Config{Pool: pool, Queues: queues}, patience,
		tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	eventually(t, func() bool { return waits(t, admin) == 1 }, func() any { return waits(t, admin) })
	net.delay.Store(int64(40 * time.Millisecond)) // 4 s for all of them
	exec(t, admin, `select awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'task', 'max_attempts', 12,
			'args', jsonb_build_object('n', n, 'body', repeat('x', 300000)))))
		from generate_series(1, $1::integer) as n`, jobs)
	eventually(t, func() bool { return counts(t, admin, "default").Terminal == jobs },
		func() any { return counts(t, admin, "default") })
	net.delay.Store(0)
	if n := counts(t, admin, "default"); n.Completed != jobs {
		t.Errorf("%+v", n)
	}
	stop(t, c)
	requireHealthy(t, admin)
}

// The network is too slow for the errors of all jobs that failed together, whose texts are long.
// They are written by fewer.
func TestLongErrorsOnASlowNetwork(t *testing.T) {
	const jobs = 200
	admin, net, url := behind(t)
	pool := newPool(t, url, func(cfg *pgxpool.Config) { cfg.ConnConfig.ConnectTimeout = time.Minute })
	began, slow := make(chan struct{}, jobs), make(chan struct{})
	enqueueMany(t, admin, "default", jobs)
	text := strings.Repeat("x", 40_000)
	c := begin(t, worker.Config{Pool: pool, Logger: slog.New(slog.DiscardHandler), CompleteBatch: jobs, CompleteDelay: time.Minute,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: jobs}}}, 2*time.Second,
		tasks(func(context.Context, *worker.Job[task]) error {
			began <- struct{}{}
			<-slow
			return worker.Terminal(errors.New(text))
		}))
	for range jobs {
		receive(t, began)
	}
	net.delay.Store(int64(40 * time.Millisecond)) // 5 s for all their errors
	close(slow)
	eventually(t, func() bool { return counts(t, admin, "default").Failed == jobs },
		func() any { return counts(t, admin, "default") })
	net.delay.Store(0)
	stop(t, c)
	requireHealthy(t, admin)
}

// A heartbeat brings the news that a job was cancelled, and its answer is lost on the way. The
// server tells it once; the handler hears of it all the same.
func TestLostNotice(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("pool held is %t", held), func(t *testing.T) { lostNotice(t, held) })
	}
}

// lostNotice has the handler hold every connection of the pool, or none.
func lostNotice(t *testing.T, held bool) {
	admin, net, url := behind(t)
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	pool := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		cfg.MaxConns = 3
	})
	c := begin(t, worker.Config{Pool: pool}, time.Minute, tasks(func(ctx context.Context, job *worker.Job[task]) error {
		if job.Args.N == 0 {
			return nil
		}
		if held {
			defer holdAll(ctx, t, pool)()
		}
		began <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	}))
	id := enqueue(t, admin, awa.EnqueueParams{Args: task{1}})
	receive(t, began)
	const answer = "SFATAL\x00C57P01\x00Mserver lost\x00\x00"
	packet := append([]byte{'E', 0, 0, 0, byte(4 + len(answer))}, answer...)
	net.on(".heartbeat(", 1<<30, fate{answer: packet})
	if cancelled, err := queue.Cancel(t.Context(), admin, id, "no more"); err != nil || !cancelled {
		t.Fatal(cancelled, err)
	}
	told := func() bool {
		return rows[bool](t, admin, `select exists (
			select from awa.workers as w, awa.worker_notices as n
			where w.worker = n.worker and pg_visible_in_snapshot(n.xid, w.seen))`)[0]
	}
	eventually(t, told, func() any { return "no heartbeat was answered" })
	net.on(".heartbeat(", 0, fate{})
	if err := receive(t, ended); !errors.Is(err, worker.ErrLost) {
		t.Errorf("the cause is %v", err)
	}
	reach(t, admin, enqueue(t, admin, awa.EnqueueParams{}), awa.StateCompleted)
	stop(t, c)
	requireHealthy(t, admin)
}

// The server refuses its service for a while, in one way after the other. What was
// done meanwhile is written when it serves again, and done once.
func TestRefusedService(t *testing.T) {
	database := pgtest.URL(t)
	leakless(t)
	admin := newPool(t, database, func(cfg *pgxpool.Config) { cfg.ConnConfig.RuntimeParams["application_name"] = "admin" })
	fill(t, admin)
	other := newPool(t, database, func(cfg *pgxpool.Config) { cfg.ConnConfig.Database = "postgres" })
	name := pgx.Identifier{admin.Config().ConnConfig.Database}.Sanitize()
	exec(t, admin, `create table public.full_disk ()`)
	exec(t, admin, `create function public.write () returns trigger language plpgsql as $$
		begin
			if exists (select from public.full_disk) then
				raise exception using errcode = '53100', message = 'could not extend file';
			end if;
			return new;
		end $$`)
	exec(t, admin, `create trigger write before insert on awa.attempt_outcomes for each row execute function public.write()`)
	exec(t, admin, `create trigger write before insert on awa.claims for each row execute function public.write()`)
	reconnect := `select pg_terminate_backend(a.pid) from pg_stat_activity as a
		where a.datname = '` + admin.Config().ConnConfig.Database + `' and a.application_name <> 'admin'`
	troubles := []struct {
		name        string
		begin, heal []string // by a session of another database
	}{
		{"the disk is full", nil, nil},
		{"no statement is quick enough", []string{`alter role current_user in database ` + name + ` set statement_timeout = 1`, reconnect},
			[]string{`alter role current_user in database ` + name + ` reset statement_timeout`, reconnect}},
		{"read only", []string{`alter role current_user in database ` + name + ` set default_transaction_read_only = on`, reconnect},
			[]string{`alter role current_user in database ` + name + ` reset default_transaction_read_only`}},
		{"no connections", []string{`alter database ` + name + ` allow_connections false`, reconnect},
			[]string{`alter database ` + name + ` allow_connections true`}},
	}
	for _, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			var log logbook
			var runs [2]atomic.Int32
			began, release := make(chan struct{}, 10), make(chan struct{})
			client := begin(t, worker.Config{Pool: newPool(t, database, nil), Logger: log.logger()}, time.Minute,
				tasks(func(_ context.Context, job *worker.Job[task]) error {
					runs[job.Args.N].Add(1)
					began <- struct{}{}
					<-release
					return nil
				}))
			ids := []int64{enqueue(t, admin, awa.EnqueueParams{Args: task{0}})}
			receive(t, began)
			if trouble.begin == nil {
				exec(t, admin, `insert into public.full_disk default values`)
			}
			for _, sql := range trouble.begin {
				exec(t, other, sql)
			}
			close(release)
			ids = append(ids, enqueue(t, admin, awa.EnqueueParams{Args: task{1}}))
			eventually(t, func() bool { return log.messages(t, slog.LevelInfo)["Could not finish jobs; will try again"] > 0 },
				func() any { return log.messages(t, slog.LevelInfo) })
			exec(t, admin, `delete from public.full_disk`)
			for _, sql := range trouble.heal {
				exec(t, other, sql)
			}
			for _, id := range ids {
				if j := reach(t, admin, id, awa.StateCompleted); j.Attempt != 1 {
					t.Errorf("job %d was completed by attempt %d", id, j.Attempt)
				}
			}
			stop(t, client)
			for n := range runs {
				if runs[n].Load() != 1 {
					t.Errorf("job %d ran %d times", n, runs[n].Load())
				}
			}
		})
	}
	requireHealthy(t, admin)
}

// A server finds out soon that a client is gone without a word: its session holds the
// lock of the one that maintains, and others maintain seldom while it does. One that is
// there may be silent for as long as nothing happens.
func TestSessionOfAListener(t *testing.T) {
	server := pgtest.Server(t, localpg.Options{Settings: map[string]string{"idle_session_timeout": "1min"}})
	url := server.TCPURL("postgres")
	c := newClient(t, worker.Config{Pool: newPool(t, url, nil)}, worker.NewMux())
	conn := pgtest.Conn(t, url)
	if err := c.OpenSession(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	got := rows[string](t, conn, `select concat_ws(' ', current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'),
		current_setting('tcp_keepalives_count'), current_setting('tcp_user_timeout'))`)[0]
	if runtime.GOOS == "linux" && got != "30 10 3 60000" {
		t.Errorf("idle, interval, count, timeout: %s", got)
	}
	if got := rows[string](t, conn, `show idle_session_timeout`)[0]; got != "0" {
		t.Errorf("it is ended when it was idle for %s", got)
	}
}

// Links are cut, frozen, half closed and delayed at random while two clients work.
// Every job is completed, and none has two handlers at once: what is rescued was not
// being worked on.
func TestBadNetwork(t *testing.T) {
	const jobs = 3000
	admin, net, url := behind(t)
	exec(t, admin, `update awa.storage_settings set worker_silence = '3 seconds'`)
	enqueueMany(t, admin, "default", jobs)
	var inHand [jobs]atomic.Int32
	var done atomic.Int64
	var clients []*worker.Client
	for range 2 {
		clients = append(clients, begin(t, worker.Config{Pool: newPool(t, url, nil), CompleteBatch: 20}, 300*time.Millisecond,
			tasks(func(_ context.Context, job *worker.Job[task]) error {
				if inHand[job.Args.N].Add(1) > 1 {
					t.Errorf("job %d has two handlers", job.Args.N)
				}
				time.Sleep(2 * time.Millisecond)
				inHand[job.Args.N].Add(-1)
				done.Add(1)
				return nil
			})))
	}
	ways := []func(){net.cut, net.freeze, net.halfClose,
		func() { net.delay.Store(int64(rand.N(20 * time.Millisecond))) },
		func() { net.delay.Store(0) },
		func() { heal := net.blackout(); time.Sleep(400 * time.Millisecond); heal() },
	}
	for n := range 2 * len(ways) {
		eventually(t, func() bool { return done.Load() >= int64(n+1)*jobs/20 }, func() any { return done.Load() })
		ways[n%len(ways)]()
	}
	net.delay.Store(0)
	eventually(t, func() bool { return counts(t, admin, "default").Completed == jobs },
		func() any { return counts(t, admin, "default") })
	t.Logf("%d jobs, %d runs", jobs, done.Load())
	for _, c := range clients {
		stop(t, c)
	}
	net.cut()
	requireHealthy(t, admin)
}
