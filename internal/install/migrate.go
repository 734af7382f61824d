package install

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"
)

// ErrNewer is returned when a database was migrated by a newer program.
var ErrNewer = errors.New("install: the database is newer than this program")

// Result says what Migrate did.
type Result struct {
	// Schema is the storage schema.
	Schema string
	// From and To are the versions before and after.
	From, To int
	// Applied are the names of the migrations that ran.
	Applied []string
	// CodeInstalled is whether the functions were written anew.
	CodeInstalled bool
	// Segments is the number of segments of the ring.
	Segments int
}

// Changed reports whether Migrate did anything.
func (r Result) Changed() bool { return r.From != r.To || r.CodeInstalled }

// Migrate brings the database to this program's version: pending migrations,
// then the functions, in one transaction. It does nothing when all is current,
// waits for a Migrate that runs elsewhere, and leaves nothing behind when it
// fails. conn must not be in a transaction.
func Migrate(ctx context.Context, conn *pgx.Conn, opts Options) (Result, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return Result{}, err
	}
	var res Result
	var done bool
	// A deploy that changes nothing takes no lock.
	err = transaction(ctx, conn, func(tx pgx.Tx) error {
		res, done, err = migrateStep(ctx, tx, o, check)
		return err
	})
	if done || err != nil {
		return res, err
	}
	err = transaction(ctx, conn, func(tx pgx.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		res, _, err = migrateStep(ctx, tx, o, func(ctx context.Context, in installed, r release) error {
			return apply(ctx, tx, o, in, r)
		})
		return err
	})
	if err != nil {
		return Result{}, err
	}
	return res, nil
}

// transaction runs f in a transaction. There each statement sees what was committed before
// the locks that were taken by then, whatever the default of the database, and finds the
// system's functions and operators alone: others', in a schema of the session's path, may fit
// a call better, and would run as whoever installs.
func transaction(ctx context.Context, conn *pgx.Conn, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := exec(ctx, tx, "path", systemPath+databaseTablespace); err != nil {
			return err
		}
		return f(tx)
	})
}

const systemPath = "set local search_path = pg_catalog, pg_temp;"

// databaseTablespace makes the database's tablespace the default without naming it: where
// default_tablespace names it, PostgreSQL refuses to make a partitioned table.
const databaseTablespace = `
do $tablespace$
begin
  perform set_config('awa.callers_tablespace', current_setting('default_tablespace'), true);
  if current_setting('default_tablespace') = (
    select t.spcname from pg_database as d join pg_tablespace as t on t.oid = d.dattablespace
    where d.datname = current_database()) then
    set local default_tablespace = '';
  end if;
end
$tablespace$;
`

// check is the step that changes nothing.
func check(context.Context, installed, release) error { return nil }

// migrateStep looks at the database and, unless it is current, does act. done
// is whether it was current.
func migrateStep(ctx context.Context, tx pgx.Tx, o Options,
	act func(context.Context, installed, release) error) (res Result, done bool, err error) {
	in, err := inspect(ctx, tx, o)
	if err != nil {
		return Result{}, false, err
	}
	r, segments, err := in.target(o)
	if err != nil {
		return Result{}, false, err
	}
	res = Result{Schema: o.Schema, From: in.version, To: r.latest(), Segments: segments}
	if in.isCurrent(r) {
		return res, true, nil
	}
	for _, m := range r.pending(in.version) {
		res.Applied = append(res.Applied, m.Name)
	}
	res.CodeInstalled = true
	return res, false, act(ctx, in, r)
}

// apply runs what is pending, then the code. What bears the names of awa belongs to whoever
// installs before anything reads it or writes to it, and at the end still: others may create
// what was not there at the first look.
func apply(ctx context.Context, tx pgx.Tx, o Options, in installed, r release) error {
	if err := exec(ctx, tx, "name", o.refuseWord()); err != nil {
		return err
	}
	if err := exec(ctx, tx, o.versionTable(), o.createVersionTable()); err != nil {
		return err
	}
	if err := exec(ctx, tx, "owner", o.refuseOthers()); err != nil {
		return err
	}
	if in.version > 0 {
		if err := exec(ctx, tx, "lock", o.lockTables(r, in.version)); err != nil {
			return err
		}
	}
	if err := exec(ctx, tx, o.versionTable(), o.fillVersionTable()); err != nil {
		return err
	}
	for _, m := range r.pending(in.version) {
		o.Logger.InfoContext(ctx, "install: run migration", "schema", o.Schema, "name", m.Name)
		if err := exec(ctx, tx, m.Name, m.UpSQL); err != nil {
			return err
		}
		if err := exec(ctx, tx, o.versionTable(), o.setVersion(m.Sequence)); err != nil {
			return err
		}
	}
	o.Logger.InfoContext(ctx, "install: install code", "schema", o.Schema, "sha256", r.hash)
	if err := exec(ctx, tx, "code", r.code); err != nil {
		return err
	}
	if err := exec(ctx, tx, "owner", o.refuseOthers()); err != nil {
		return err
	}
	return exec(ctx, tx, "stamp", o.stamp(r))
}

// createVersionTable makes the table as tern makes it, so that tern itself may
// read it.
func (o Options) createVersionTable() string {
	return fmt.Sprintf("create table if not exists %s (version int4 not null primary key);", o.versionTable())
}

func (o Options) fillVersionTable() string {
	return fmt.Sprintf("insert into %[1]s (version) select 0 where not exists (select from %[1]s);", o.versionTable())
}

func (o Options) setVersion(version int32) string {
	return fmt.Sprintf("update %s set version = %d;", o.versionTable(), version)
}

func (o Options) stamp(r release) string {
	return fmt.Sprintf("comment on schema %s is '%s';", o.Schema, stamp(r.latest(), r.hash))
}

// exec runs one text of many statements; an error points at its line.
func exec(ctx context.Context, tx pgx.Tx, name, sql string) error {
	_, err := tx.Exec(ctx, sql)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Position > 0 {
		if at, lineErr := migrate.ExtractErrorLine(sql, int(pgErr.Position)); lineErr == nil {
			return fmt.Errorf("install: %s line %d: %w\n%s", name, at.LineNum, err, at.Text)
		}
	}
	if err != nil {
		return fmt.Errorf("install: %s: %w", name, err)
	}
	return nil
}

// lockNum is the number of tern's advisory lock: tern's own commands and this
// package exclude each other.
const lockNum = int64(9628173550095224)

// lock ends with the transaction: behind a pooler nothing else is sure to meet the same
// session again.
func lock(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, lockNum)
	if err == nil {
		// Opening a table has the session forget that it found no schema: the one who had
		// the lock may have made it.
		_, err = tx.Exec(ctx, `select from pg_namespace limit 1`)
	}
	if err != nil {
		return fmt.Errorf("install: lock: %w", err)
	}
	return nil
}
