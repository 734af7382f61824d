package awatest

import (
	"context"
	"fmt"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// setClock sets the clock that the queue reads in the session of db, and returns
// what puts the earlier one back.
func setClock(ctx context.Context, db awa.DBTX, c awa.Client, at time.Time) (reset func() error, err error) {
	setting := c.Schema() + ".now"
	var before string
	var owner bool
	// The server ignores the setting in the session of anybody else.
	err = db.QueryRow(ctx, `
		select coalesce(current_setting($1::text, true), ''),
		       coalesce((select pg_has_role(session_user, n.nspowner, 'member')
		                 from pg_namespace as n where n.nspname = $2::text), false)`,
		setting, c.Schema()).Scan(&before, &owner)
	if err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	if !owner {
		return nil, fmt.Errorf("clock: only the owner of the schema %q may set it", c.Schema())
	}
	set := func(ctx context.Context, value string) error {
		if _, err := db.Exec(ctx, `select set_config($1::text, $2::text, false)`, setting, value); err != nil {
			return fmt.Errorf("clock: %w", err)
		}
		return nil
	}
	if err := set(ctx, at.UTC().Format(time.RFC3339Nano)); err != nil {
		return nil, err
	}
	// Also when ctx is done: the session may go back to a pool.
	return func() error { return set(context.WithoutCancel(ctx), before) }, nil
}
