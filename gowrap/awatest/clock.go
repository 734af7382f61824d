package awatest

import (
	"context"
	"errors"
	"fmt"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// setClock sets the clock that the queue reads in the session of db, and returns
// what puts the earlier one back. Only one session has its clock set at a time,
// until its transaction ends if it is in one: a second promotion finds nothing
// while the first one's transaction is open.
func setClock(ctx context.Context, db awa.DBTX, c awa.Client, at time.Time) (reset func() error, err error) {
	setting := c.Schema() + ".now"
	var before string
	var owner bool
	var now time.Time
	// The server ignores the setting in the session of anybody else.
	err = db.QueryRow(ctx, `
		select coalesce(current_setting($1::text, true), ''),
		       coalesce((select pg_has_role(session_user, n.nspowner, 'member')
		                 from pg_namespace as n where n.nspname = $2::text), false),
		       now()`,
		setting, c.Schema()).Scan(&before, &owner, &now)
	if err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	if !owner {
		return nil, fmt.Errorf("clock: only the owner of the schema %q may set it", c.Schema())
	}
	unlock, err := lockClock(ctx, db, c, now)
	if err != nil {
		return nil, err
	}
	set := func(ctx context.Context, value string) error {
		if _, err := db.Exec(ctx, `select set_config($1::text, $2::text, false)`, setting, value); err != nil {
			return fmt.Errorf("clock: %w", err)
		}
		return nil
	}
	// Also when ctx is done: the session may go back to a pool.
	last := context.WithoutCancel(ctx)
	if err := set(ctx, at.UTC().Format(time.RFC3339Nano)); err != nil {
		return nil, errors.Join(err, unlock(last))
	}
	return func() error { return errors.Join(set(last, before), unlock(last)) }, nil
}

// lockClock waits for whoever has the clock set. earlier is the now() of an
// earlier statement: a transaction has one for all of its statements.
func lockClock(ctx context.Context, db awa.DBTX, c awa.Client, earlier time.Time) (unlock func(context.Context) error, err error) {
	const key = `hashtextextended('awatest clock ' || $1::text, 0)`
	var inTransaction bool
	if err := db.QueryRow(ctx, `select now() = $1::timestamptz`, earlier).Scan(&inTransaction); err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	lock := func(ctx context.Context, function string) error {
		if _, err := db.Exec(ctx, `select `+function+`(`+key+`)`, c.Schema()); err != nil {
			return fmt.Errorf("clock: %w", err)
		}
		return nil
	}
	if inTransaction {
		return func(context.Context) error { return nil }, lock(ctx, "pg_advisory_xact_lock")
	}
	return func(ctx context.Context) error { return lock(ctx, "pg_advisory_unlock") }, lock(ctx, "pg_advisory_lock")
}
