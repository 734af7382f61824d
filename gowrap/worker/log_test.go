package worker_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// An idle client whose claim was lost has no name to send a heartbeat for. It does not take
// that for an answer of the server.
func TestNoAnswerWithoutAName(t *testing.T) {
	admin, net, url := behind(t)
	var log logbook
	c := begin(t, worker.Config{Pool: newPool(t, url, nil), PollOnly: true, Logger: log.logger()}, 300*time.Millisecond,
		tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	reach(t, admin, enqueue(t, admin, awa.EnqueueParams{}), awa.StateCompleted)
	logged := func() any { return log.messages(t, slog.LevelDebug) }
	times := func(message string) int { return log.messages(t, slog.LevelDebug)[message] }
	heal := net.blackout()
	eventually(t, func() bool { return times("Heartbeat failed; will try again") > 0 }, logged)
	begun := times("Claim failed; will try again")
	eventually(t, func() bool { return times("Claim failed; will try again") >= begun+4 }, logged)
	if n := times("The server answers again"); n > 0 {
		t.Errorf("it was said %d times that a silent server answers", n)
	}
	heal()
	eventually(t, func() bool { return times("The server answers again") == 1 }, logged)
	stop(t, c)
}

// A storage that came from another cluster and waits for rebase is told of once, however
// often it is claimed from.
func TestForeignStorageIsToldOnce(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	id := enqueue(t, pool, awa.EnqueueParams{})
	exec(t, pool, `update awa.ready_entries set xid = '4000000000000'`)
	var log logbook
	c := start(t, worker.Config{Pool: pool, DisableMaintain: true, Logger: log.logger()},
		tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	eventually(t, func() bool { return strings.Count(log.text(), "AW005") >= 8 }, func() any { return log.text() })
	for message, n := range log.messages(t, slog.LevelInfo) {
		if n > 1 {
			t.Errorf("logged %d times: %s", n, message)
		}
	}
	exec(t, pool, `select awa.rebase()`)
	reach(t, pool, id, awa.StateCompleted)
	stop(t, c)
}

// A handler returns a nil pointer as its error, whose text panics. The attempt failed, and a
// logger that reads the text as it comes may do so.
func TestErrorThatCannotBeRead(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	var broken *textError
	logged := make(reader, 10)
	start(t, worker.Config{Pool: pool, DisableMaintain: true, Logger: slog.New(logged)},
		tasks(func(context.Context, *worker.Job[task]) error { return broken }))
	id := enqueue(t, pool, awa.EnqueueParams{})
	if text := receive(t, logged); !strings.Contains(text, "nil pointer") {
		t.Errorf("logged %q", text)
	}
	expectOutcome(t, pool, id, awa.StateRetryable, 1, "nil pointer")
}

// reader is a log handler that reads the texts of errors, and recovers nothing.
type reader chan string

func (reader) Enabled(context.Context, slog.Level) bool { return true }
func (r reader) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r reader) WithGroup(string) slog.Handler          { return r }
func (r reader) Handle(_ context.Context, entry slog.Record) error {
	entry.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			r <- err.Error()
		}
		return true
	})
	return nil
}
