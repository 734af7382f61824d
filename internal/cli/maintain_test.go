package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
)

// Trouble is told when it is new, when it changes, when work was done in between
// and once a minute.
func TestTold(t *testing.T) {
	start := time.Now()
	last := told{}
	for n, c := range []struct {
		after                   time.Duration
		task, affected, trouble string
		want                    bool
	}{
		{0, "prune", "0", "busy segment 1", true},
		{time.Second, "prune", "0", "busy segment 1", false},
		{2 * time.Second, "rotate", "0", "blocked segment 9", true},
		{3 * time.Second, "prune", "0", "busy segment 1", false},
		{61 * time.Second, "prune", "0", "busy segment 1", true},
		{62 * time.Second, "prune", "0", "blocked segment 1", true},
		{63 * time.Second, "prune", "1", "pruned segment 1", true},
		{64 * time.Second, "prune", "1", "pruned segment 2", true},
		{65 * time.Second, "prune", "0", "blocked segment 1", true},
		{66 * time.Second, "prune", "0", "blocked segment 1", false},
	} {
		if got := last.news(c.task, c.affected, c.trouble, start.Add(c.after)); got != c.want {
			t.Errorf("%d: %s %s: got %t, want %t", n, c.task, c.trouble, got, c.want)
		}
	}
}

// writes is an output that calls itself with each line.
type writes func(line string)

func (w writes) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// traced notes what is sent.
type traced []string

func (s *traced) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	*s = append(*s, q.SQL)
	return ctx
}

func (s *traced) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A round is one statement, which commits by itself: a program that vanishes without a word
// does not leave a transaction with its locks in the server.
func TestRoundIsOneStatement(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	var sent traced
	config.Tracer = &sent
	a := &app{schema: install.DefaultSchema}
	if err := connected(t.Context(), config, func(conn *pgx.Conn) error {
		_, err := query(t.Context(), conn, a.sql(maintainSQL))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(sent, "commit") {
		t.Errorf("sent: %q", sent)
	}
}

// loopOn runs a loop with that output until it ends, and returns what it logged.
func loopOn(t *testing.T, ctx context.Context, url string, longest time.Duration, stdout io.Writer) (told string, err error) {
	t.Helper()
	var stderr bytes.Buffer
	a := &app{databaseURL: url, schema: install.DefaultSchema, output: "table"}
	if err := a.prepare(&stderr); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(ctx)
	cmd.SetOut(stdout)
	err = a.maintainLoop(cmd, 20*time.Millisecond, longest, a.newMeter())
	return stderr.String(), err
}

// refusing is an output that takes nothing.
type refusing func() error

func (r refusing) Write([]byte) (int, error) { return 0, r() }

// A full disk takes no output. Maintenance goes on, by the same connection, and says so once.
func TestMaintainLoopWithoutRoom(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	due := func() {
		if _, err := conn.Exec(t.Context(), `select awa.enqueue('k', queue => 'q', run_at => clock_timestamp() + interval '1 ms')`); err != nil {
			t.Error(err)
		}
	}
	due()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	refused := 0
	told, err := loopOn(t, ctx, url, time.Minute, refusing(func() error {
		if refused++; refused == 5 {
			cancel()
		}
		due()
		return &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
	}))
	if err != nil || refused < 5 {
		t.Errorf("refused %d times: %v", refused, err)
	}
	if strings.Contains(told, "Round failed") || strings.Count(told, "no space left on device") != 1 {
		t.Errorf("it said: %s", told)
	}
}

// When nobody reads its output any more, the loop ends.
func TestMaintainLoopWithoutReader(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	if _, err := pgtest.Conn(t, url).Exec(t.Context(), `select awa.enqueue('k', run_at => clock_timestamp() + interval '1 ms')`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	told, err := loopOn(t, ctx, url, time.Minute, refusing(func() error {
		return &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}
	}))
	if !errors.Is(err, syscall.EPIPE) || told != "" {
		t.Errorf("%v, and it said: %s", err, told)
	}
}

// A server that accepts connections and says nothing does not hold up the loop.
func TestMaintainLoopGivesUpAConnection(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url := fmt.Sprintf("postgres://somebody@%s/none?sslmode=disable", silent.Addr())
	if _, err := loopOn(t, ctx, url, 100*time.Millisecond, io.Discard); err == nil {
		t.Error("it waited until it was told to stop")
	}
}

// A round that gets no answer ends, and the loop goes on by another connection.
func TestMaintainLoopGivesUpARound(t *testing.T) {
	t.Parallel()
	// Where the machine is so busy that other rounds take as long, the loop needs more patience.
	for _, longest := range []time.Duration{5 * time.Second, time.Minute} {
		promoted, told, err := giveUpARound(t, longest)
		if err == nil && promoted == 2 {
			return
		}
		t.Logf("with %v for each round %d promotions, %v\n%s", longest, promoted, err, told)
	}
	t.Error("the loop did not go on")
}

// giveUpARound counts the jobs that a loop promotes: one, whereupon a round gets no answer until
// it is given up, and another.
func giveUpARound(t *testing.T, longest time.Duration) (promoted int, told string, err error) {
	t.Helper()
	url := pgtest.URL(t)
	holder := pgtest.Conn(t, url)
	run := func(sql string) {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Error(err)
		}
	}
	const due = `select awa.enqueue('k', queue => 'q'); select awa.fail(c.receipt, retry_after => '0') from awa.claim('q') as c`
	run(due)

	ctx, cancel := context.WithTimeout(t.Context(), 12*longest)
	defer cancel()
	stdout := writes(func(line string) {
		if !strings.Contains(line, "promote promoted 1") {
			return
		}
		if promoted++; promoted == 2 {
			cancel()
			return
		}
		run(`begin; lock table awa.storage_settings in access exclusive mode`)
	})
	var log bytes.Buffer
	stderr := writes(func(line string) {
		log.WriteString(line)
		if strings.Contains(line, "Round failed") && holder.PgConn().TxStatus() == 'T' {
			run(`rollback`)
			run(due)
		}
	})
	a := &app{databaseURL: url, schema: install.DefaultSchema, output: "table"}
	if err := a.prepare(stderr); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(ctx)
	cmd.SetOut(stdout)
	err = a.maintainLoop(cmd, 20*time.Millisecond, longest, a.newMeter())
	return promoted, log.String(), err
}
