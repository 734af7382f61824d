package lifecycle_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/pgtest"
)

// With $1 as the receipt of a running attempt each of these closes or changes it and returns
// true, and false if the receipt is stale.
var finishes = []string{
	`select awa.complete($1)`,
	`select count(*) = 0 from awa.complete_many(array[$1::awa.receipt])`,
	`select awa.fail($1) is not null`,
	`select count(*) = 1 from awa.fail_many(array[$1::awa.receipt])`,
	`select awa.snooze($1, '1 hour')`,
	`select count(*) = 0 from awa.snooze_many(array[$1::awa.receipt], '1 hour')`,
	`select awa.cancel_attempt($1)`,
	`select count(*) = 0 from awa.extend_lease(array[$1::awa.receipt], '1 hour')`,
	`select awa.set_progress($1, 1)`,
	`select awa.register_callback($1, '1 hour') is not null`,
}

// TestFinishesOfWhatIsNotSeen tells receipts apart of which a snapshot shows no claim: stale if
// there is none, for a repeated call must come to an end, and 40001 if the claim is younger than
// the snapshot or was taken by a prune since.
func TestFinishesOfWhatIsNotSeen(t *testing.T) {
	url := pgtest.URL(t)
	admin, keeper := pgtest.Conn(t, url), pgtest.Conn(t, url)
	exec := execOn(t, admin)
	one := func(sql string, args ...any) (s string) {
		t.Helper()
		if err := admin.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return s
	}
	claim := func() string {
		t.Helper()
		exec(`select awa.enqueue('k', queue => 'q')`)
		return one(`select receipt::text from awa.claim('q')`)
	}
	// So many that a prune takes the one that runs along.
	prune := func() {
		t.Helper()
		exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[500]), queue => 'others')`)
		exec(`select awa.complete_many(array(select c.receipt from awa.claim('others', 500) as c))`)
		if got := one(`select awa.rotate()`) + ", " + one(`select awa.prune()`); got != "rotated, pruned" {
			t.Fatal(got)
		}
	}
	// finish calls sql in a transaction whose snapshot is older than what meanwhile does.
	finish := func(level pgx.TxIsoLevel, sql, receipt string, meanwhile func()) string {
		t.Helper()
		tx, err := keeper.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		if _, err := tx.Exec(t.Context(), `select 1`); err != nil {
			t.Fatal(err)
		}
		if meanwhile != nil {
			meanwhile()
			receipt = one(`select receipt::text from young`)
		}
		var accepted bool
		err = tx.QueryRow(t.Context(), sql, receipt).Scan(&accepted)
		if e, ok := errors.AsType[*pgconn.PgError](err); ok {
			return e.Code
		} else if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return fmt.Sprint(accepted)
	}

	pruned := claim()
	exec(`select awa.complete($1)`, pruned)
	prune()
	exec(`create table young (receipt awa.receipt)`)
	young := func() {
		t.Helper()
		exec(`select awa.complete_many(array(select receipt from young))`)
		exec(`truncate young`)
		exec(`insert into young values ($1)`, claim())
	}
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		for _, sql := range finishes {
			for name, receipt := range map[string]string{
				"pruned": pruned, "invented": "(0,1,1,1)", "empty": "(,,,)", "of no slot": "(99,1,1,1)", "of a negative slot": "(-1,1,1,1)",
			} {
				if got := finish(level, sql, receipt, nil); got != "false" {
					t.Errorf("%s, %s: %s with a receipt that is %s", level, sql, got, name)
				}
			}
			if got := finish(level, sql, "", young); got != "40001" {
				t.Errorf("%s, %s: %s with a receipt that is younger than the snapshot", level, sql, got)
			}
			if got := finish(level, sql, "", func() { young(); prune() }); got != "40001" {
				t.Errorf("%s, %s: %s with a receipt that is younger, and moved on by a prune", level, sql, got)
			}
		}
	}
	exec(`select awa.complete_many(array(select receipt from young))`)
	sound(t, admin)
}
