package proof

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// TestCrash ends a server of its own in the middle of work, again and again:
// AWA_CRASHES says how often, 2 by default. Producers and finishers commit
// durably, claimers do not.
func TestCrash(t *testing.T) {
	crashes := 2
	if s := os.Getenv("AWA_CRASHES"); s != "" {
		var err error
		if crashes, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	// The server writes an asynchronous commit when a durable one follows, and
	// rarely by itself.
	opts := localpg.Options{Settings: map[string]string{"wal_writer_delay": "10s"}}
	server := pgtest.Server(t, opts)
	w := &witness{t: t, url: server.URL(), queue: "crash", diary: newDiary()}
	conn := w.connect()
	exec(t, conn, `update awa.storage_settings set segment_max_age = '150ms', history_retention = '300ms'`)
	exec(t, conn, `select awa.configure_queue('crash', '{"enqueue_shards": 2}')`)

	forgotten := 0
	// A prune that comes last flushes the log and saves every claim: then on to
	// another crash.
	for n := 0; n < crashes || forgotten == 0 && n < crashes+8; n++ {
		if n%2 == 1 {
			w.limit(new(2))
		}
		w.work(n%2 == 0, server.Crash)
		if err := server.Restart(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		forgotten += w.recover()
		if t.Failed() {
			t.FailNow()
		}
	}
	if forgotten == 0 {
		t.Error("no claim was forgotten")
	}
	w.drain()
	t.Logf("%d jobs, %d doubtful ones, %d finishes, %d claims forgotten",
		len(w.diary.enqueued), w.diary.unsure, len(w.diary.closed), forgotten)
}

const (
	durably = `set synchronous_commit = on`
	hastily = `set synchronous_commit = off`
)

// work keeps everybody busy, pulls the plug in the middle, and returns when
// all have noticed. With last claims no durable commit comes in between, which
// would save them.
func (w *witness) work(lastClaims bool, pull func()) {
	var over, still atomic.Bool
	var last atomic.Int64
	var all sync.WaitGroup
	var finished atomic.Int64
	claimed := make(chan []awa.Job, 4)
	// run repeats f until the plug is pulled; only that may make it fail.
	run := func(settings string, f func(*pgx.Conn) error) {
		conn := w.connect()
		exec(w.t, conn, settings)
		all.Go(func() {
			defer conn.Close(context.Background())
			durable := settings == durably
			for !over.Load() {
				if durable && still.Load() {
					return
				}
				if err := f(conn); err != nil && !over.Load() {
					w.t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		run(durably, w.produce)
	}
	for range 2 {
		run(hastily, func(conn *pgx.Conn) error {
			if still.Load() {
				last.Add(1)
			}
			jobs, err := w.claim(conn)
			if len(jobs) > 0 {
				select {
				case claimed <- jobs:
				default: // in hand until after the crash
				}
			}
			return err
		})
		run(durably, func(conn *pgx.Conn) error {
			select {
			case jobs := <-claimed:
				finished.Add(int64(len(jobs)))
				return w.finish(conn, jobs)
			default:
				return nil
			}
		})
	}
	run(hastily, func(conn *pgx.Conn) error {
		_, err := queue.Maintain(context.Background(), conn)
		return err
	})
	until := int64(300 + rand.IntN(500))
	deadline := time.Now().Add(10 * time.Minute)
	for finished.Load() < until && time.Now().Before(deadline) && !w.t.Failed() {
		time.Sleep(time.Millisecond)
	}
	if lastClaims {
		still.Store(true)
		for last.Load() < 10 && time.Now().Before(deadline) && !w.t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	over.Store(true)
	pull()
	all.Wait()
	if finished.Load() < until {
		w.t.Errorf("only %d finishes in time", finished.Load())
	}
}
