package install_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
)

// An upgrade locks what its steps name before the first of them; a step that locks
// anything else against clients would wait for them with all that in hand. So would the
// code, which every upgrade installs, for a vacuum of what it comments on.
func TestStepsNameWhatTheyChange(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	steps, err := install.Steps()
	if err != nil {
		t.Fatal(err)
	}
	again := steps[len(steps)-1]
	again.Name += " over itself"
	for _, s := range append(steps, again) {
		names := install.Changed(s.SQL)
		last := scan[uint32](t, conn, `select coalesce(max(oid), 0) from pg_class`)
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), s.SQL); err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		rows, err := tx.Query(t.Context(), `
			select distinct coalesce(p.relname, c.relname)
			from pg_locks as l
			join pg_class as c on c.oid = l.relation
			left join pg_inherits as i on i.inhrelid = c.oid
			left join pg_class as p on p.oid = i.inhparent
			where l.pid = pg_backend_pid() and c.oid <= $1 and c.relkind in ('r', 'p', 'v')
			  and c.relnamespace = 'awa'::regnamespace
			  and l.mode not in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
			  and (l.mode <> 'ShareUpdateExclusiveLock' or $2 and c.relkind = 'r')`, last, s.Name == again.Name)
		if err != nil {
			t.Fatal(err)
		}
		locked, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range locked {
			if !slices.Contains(names, table) {
				t.Errorf("%s locks %s, and names %v", s.Name, table, names)
			}
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
