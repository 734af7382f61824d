package install_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/awaqueue/awa/internal/pgtest"
	"github.com/awaqueue/awa/migrations"
	"github.com/awaqueue/awa/plpgsql"
)

// An upgrade locks what its steps name before the first of them; a step that locks
// anything else against clients would wait for them with all that in hand.
func TestStepsNameWhatTheyChange(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	m, err := migrate.NewMigrator(t.Context(), nil, "public.unused")
	if err != nil {
		t.Fatal(err)
	}
	m.Data = map[string]any{"schema": "awa", "segments": 3}
	if err := m.LoadMigrations(migrations.FS); err != nil {
		t.Fatal(err)
	}
	pkg, err := migrate.LoadCodePackage(plpgsql.FS)
	if err != nil {
		t.Fatal(err)
	}
	code, err := pkg.Eval(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	type step struct{ name, sql string }
	var steps []step
	for _, mig := range m.Migrations {
		steps = append(steps, step{mig.Name, mig.UpSQL})
	}
	steps = append(steps, step{"the code", code}, step{"the code over itself", code})

	named := regexp.MustCompile(`(?m)^-- changes: (.+)$`)
	for _, s := range steps {
		var names []string
		for _, line := range named.FindAllStringSubmatch(s.sql, -1) {
			names = append(names, strings.Split(line[1], ", ")...)
		}
		last := scan[uint32](t, conn, `select coalesce(max(oid), 0) from pg_class`)
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), s.sql); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		rows, err := tx.Query(t.Context(), `
			select distinct coalesce(p.relname, c.relname)
			from pg_locks as l
			join pg_class as c on c.oid = l.relation
			left join pg_inherits as i on i.inhrelid = c.oid
			left join pg_class as p on p.oid = i.inhparent
			where l.pid = pg_backend_pid() and c.oid <= $1 and c.relkind in ('r', 'p', 'v')
			  and c.relnamespace = 'awa'::regnamespace
			  and l.mode not in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock')`, last)
		if err != nil {
			t.Fatal(err)
		}
		locked, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range locked {
			if !slices.Contains(names, table) {
				t.Errorf("%s locks %s, and names %v", s.name, table, names)
			}
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
