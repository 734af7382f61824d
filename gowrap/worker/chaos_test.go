package worker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// TestChaos kills worker processes and crashes the server in the middle of work:
// every job is completed, and no job runs again but one whose run was not yet
// acknowledged. AWA_CHAOS=full is the long form.
func TestChaos(t *testing.T) {
	jobs, kills, crashes := 4000, 3, 1
	if os.Getenv("AWA_CHAOS") == "full" {
		jobs, kills, crashes = 100_000, 20, 5
	}
	opts := localpg.Options{Settings: map[string]string{"wal_writer_delay": "10s"}}
	server := pgtest.Server(t, opts)
	pool := newPool(t, server.URL(), nil)
	exec(t, pool, `update awa.storage_settings set worker_silence = '4 seconds', history_retention = '1 day'`)
	enqueueMany(t, pool, "default", jobs)

	c := &chaos{t: t, url: server.URL(), dir: t.TempDir(), pool: pool}
	for range 2 {
		c.launch()
	}
	t.Cleanup(c.end)
	events := kills + crashes
	for n := range events {
		c.await(jobs * (n + 1) / (events + 2))
		time.Sleep(rand.N(40 * time.Millisecond)) // into the middle of whatever goes on
		if n%(events/crashes) == events/crashes-1 && crashes > 0 {
			c.crash(server, opts)
		} else {
			c.kill()
		}
	}
	c.await(jobs)
	c.end()
	c.judge(jobs)
	t.Logf("%d kills, %d crashes: %d jobs, %d runs of which %d again, %d were unacknowledged",
		c.kills, c.crashes, jobs, c.runs, c.repeats, c.unacknowledged)
}

// chaos runs worker processes. Each writes the number of every job that it runs to
// a file of its own, which outlives it.
type chaos struct {
	t    *testing.T
	url  string
	dir  string
	pool *pgxpool.Pool

	processes []*process
	files     []string

	kills, crashes, runs, repeats, unacknowledged int
}

type process struct {
	cmd  *osexec.Cmd
	file string
}

// chaosEnv makes the test binary a worker process: it names the file to write to.
const chaosEnv = "AWA_CHAOS_WORKER"

func (c *chaos) launch() {
	c.t.Helper()
	file := filepath.Join(c.dir, strconv.Itoa(len(c.files)))
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), chaosEnv+"="+file, "DATABASE_URL="+c.url)
	cmd.Stderr = c.t.Output()
	if _, err := cmd.StdinPipe(); err != nil { // its end is the end of this process
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.files = append(c.files, file)
	c.processes = append(c.processes, &process{cmd, file})
}

// chaosWorker is a worker process.
func chaosWorker(file string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test is gone, however it ended
		os.Exit(1)
	}()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	client, err := worker.New(worker.Config{
		Pool:              pool,
		Queues:            map[string]worker.QueueConfig{"default": {MaxWorkers: 50}},
		CompleteBatch:     50,
		HeartbeatInterval: 200 * time.Millisecond,
	}, tasks(func(_ context.Context, job *worker.Job[task]) error {
		time.Sleep(20 * time.Millisecond)
		_, err := out.Write(binary.BigEndian.AppendUint64(nil, uint64(job.ID)))
		return err
	}))
	if err != nil {
		return err
	}
	return client.Run(context.Background())
}

// await waits until so many jobs are completed.
func (c *chaos) await(n int) {
	c.t.Helper()
	last := awa.QueueCounts{}
	for deadline := time.Now().Add(3 * time.Minute); last.Completed < int64(n); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%d jobs should be completed: %+v", n, last)
		}
		if counted, err := queue.Counts(context.Background(), c.pool, "default"); err == nil {
			last = counted
		}
	}
}

// kill ends the process that has run the longest, and starts another.
func (c *chaos) kill() {
	c.t.Helper()
	p := c.processes[0]
	c.processes = c.processes[1:]
	p.end()
	c.kills++
	c.unacknowledged += c.open(p.file)
	c.launch()
}

func (p *process) end() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
}

// crash ends the server as pg_ctl stop -m immediate does, and starts it again. The
// processes are held meanwhile, so that what was unacknowledged can be counted.
func (c *chaos) crash(server *localpg.Server, opts localpg.Options) {
	c.t.Helper()
	server.Crash()
	c.signal(syscall.SIGSTOP)
	if err := server.Restart(context.Background(), opts); err != nil {
		c.t.Fatal(err)
	}
	c.crashes++
	for _, p := range c.processes {
		c.unacknowledged += c.open(p.file)
	}
	c.signal(syscall.SIGCONT)
}

func (c *chaos) signal(s syscall.Signal) {
	for _, p := range c.processes {
		if err := p.cmd.Process.Signal(s); err != nil {
			c.t.Fatal(err)
		}
	}
}

// open is how many of a process's runs are not completed in the database.
func (c *chaos) open(file string) int {
	c.t.Helper()
	var n int
	var err error
	for range 10 { // connections of before a crash are found out one by one
		err = c.pool.QueryRow(context.Background(), `
			select count(*) from unnest($1::bigint[]) as u (id)
			where not exists (select from awa.done_entries as d where d.id = u.id)`, read(c.t, file)).Scan(&n)
		if err == nil {
			return n
		}
	}
	c.t.Fatal(err)
	return 0
}

func (c *chaos) end() {
	for _, p := range c.processes {
		p.end()
	}
	c.processes = nil
}

// judge demands that every job ran, and that what ran again was unacknowledged.
func (c *chaos) judge(jobs int) {
	c.t.Helper()
	seen := map[int64]int{}
	for _, file := range c.files {
		for _, id := range read(c.t, file) {
			seen[id]++
			c.runs++
		}
	}
	c.repeats = c.runs - len(seen)
	if len(seen) != jobs {
		c.t.Errorf("%d jobs of %d ran", len(seen), jobs)
	}
	if c.repeats > c.unacknowledged {
		c.t.Errorf("%d repeats, but %d runs were unacknowledged", c.repeats, c.unacknowledged)
	}
	n := counts(c.t, c.pool, "default")
	if n.Completed != int64(jobs) || n.Terminal != n.Completed || n.Available+n.Running+n.Retryable+n.Scheduled > 0 {
		c.t.Errorf("%d jobs were enqueued, counts are %+v", jobs, n)
	}
	requireHealthy(c.t, c.pool)
}

// read returns the numbers in a file, without one that was cut off.
func read(t *testing.T, file string) []int64 {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	ids := make([]int64, len(content)/8)
	if err := binary.Read(bytes.NewReader(content), binary.BigEndian, ids); err != nil && len(ids) > 0 {
		t.Fatal(fmt.Errorf("%s: %w", file, err))
	}
	return ids
}
