package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestBulkRetryReadsLettersOnce: the unique keys of dead letters are found by their index,
// of no more letters than are asked for, while the statistics know nothing of the queue.
func TestBulkRetryReadsLettersOnce(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(`alter table awa.dlq_entries set (autovacuum_enabled = false)`)
	const letters = 2000
	fill := func(queue string) {
		exec(`select awa.configure_queue($1, '{"dlq_enabled": true}')`, queue)
		exec(`
			select awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'k', 'queue', $1::text, 'unique_key', md5($1 || i))))
			from generate_series(1, $2::integer) as i`, queue, letters)
		exec(`select awa.fail_many(array(select c.receipt from awa.claim($1, $2) as c), terminal => true)`, queue, letters)
	}
	fill("old")
	exec(`analyze awa.dlq_entries`)
	fill("new")

	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	from := rowsRead(t, tx)
	var retried int
	if err := tx.QueryRow(t.Context(), `select awa.bulk_retry_from_dlq('new', max_jobs => 10)`).Scan(&retried); err != nil {
		t.Fatal(err)
	}
	if retried != 10 {
		t.Errorf("%d letters retried", retried)
	}
	if read := rowsRead(t, tx).since(from)["dlq_entries"]; read > 2*letters+100 {
		t.Errorf("%d rows read of %d letters", read, 2*letters)
	}
}
