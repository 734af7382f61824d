package proof

import (
	"testing"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// TestFailover ends the primary in the middle of work and promotes its synchronous
// standby, twice. What was acknowledged is there, and nothing is done twice: as after
// a crash.
func TestFailover(t *testing.T) {
	opts := localpg.Options{Settings: map[string]string{"wal_writer_delay": "10s"}}
	primary := pgtest.Server(t, opts)
	w := &witness{t: t, url: primary.URL(), queue: "failover", diary: newDiary()}
	conn := w.connect()
	exec(t, conn, `update awa.storage_settings set segment_max_age = '150ms', history_retention = '300ms'`)
	exec(t, conn, `select awa.configure_queue('failover', '{"enqueue_shards": 2}')`)

	forgotten := 0
	for n := range 2 {
		standby, err := primary.Standby(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = standby.Stop() })
		conn := w.connect()
		exec(t, conn, `alter system set synchronous_standby_names = '*'`)
		exec(t, conn, `select pg_reload_conf()`)
		for value[string](t, conn, `select r.sync_state from pg_stat_replication as r`) != "sync" {
			exec(t, conn, `select pg_sleep(0.01)`)
		}
		w.work(n%2 == 0, primary.Crash)

		w.url = standby.URL()
		// Until then it keeps the locks of a prune that the primary did not end.
		exec(t, w.connect(), `select pg_promote()`)
		forgotten += w.recover()
		if t.Failed() {
			t.FailNow()
		}
		primary = standby
	}
	w.drain()
	t.Logf("%d jobs, %d doubtful ones, %d finishes, %d claims forgotten",
		len(w.diary.enqueued), w.diary.unsure, len(w.diary.closed), forgotten)
}
