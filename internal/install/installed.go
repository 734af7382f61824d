package install

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
)

// installed is what a database holds.
type installed struct {
	version  int    // 0: nothing
	segments int    // 0: no ring
	hash     string // of the code; "": unknown
}

// stamp is what the installer leaves as comment on the storage schema.
func stamp(version int, hash string) string {
	return fmt.Sprintf("awa: schema version %d, code sha256:%s", version, hash)
}

var codeHash = regexp.MustCompile(`code sha256:([0-9a-f]{64})`)

// inspect reads what is installed. It writes nothing and needs no right
// beyond reading the catalogue and the version table. What bears the name of that table may be
// a view, whose functions run as whoever reads it, so it is read only if it is a table of
// somebody who is trusted anyway.
func inspect(ctx context.Context, tx pgx.Tx, o Options) (installed, error) {
	var in installed
	// A version outlives a schema that was dropped.
	var known, versioned, filled, trusted bool
	if err := tx.QueryRow(ctx,
		`select to_regnamespace($2) is not null, to_regclass($1) is not null,
		        exists (select from pg_class where relnamespace = to_regnamespace($2) and relname = 'ready_entries'),
		        exists (
		          select from pg_class as c
		          join pg_roles as r on r.oid = c.relowner
		          where c.oid = to_regclass($1) and c.relkind = 'r'
		            and (r.rolsuper or r.rolname = current_user
		              or r.oid = (select n.nspowner from pg_namespace as n where n.oid = to_regnamespace($2))))`,
		o.versionTable(), o.Schema).Scan(&known, &versioned, &filled, &trusted); err != nil {
		return in, fmt.Errorf("install: inspect: %w", err)
	}
	if filled && !versioned {
		return in, fmt.Errorf("install: schema %s is there without %s: it was renamed or restored alone; rename or restore that table too",
			o.Schema, o.versionTable())
	}
	if !known || !versioned {
		return in, nil
	}
	if !trusted {
		return in, fmt.Errorf("install: %s is in the hands of another role than schema %s, or is no table: look at what it is, and drop or reassign it",
			o.versionTable(), o.Schema)
	}
	if err := tx.QueryRow(ctx, `select version from `+o.versionTable()).Scan(&in.version); errors.Is(err, pgx.ErrNoRows) {
		return in, fmt.Errorf("install: %s is empty: it was restored without its row; restore that too, or drop the table and schema %s and install anew",
			o.versionTable(), o.Schema)
	} else if err != nil {
		return in, fmt.Errorf("install: read %s: %w", o.versionTable(), err)
	}
	var comment string
	if err := tx.QueryRow(ctx,
		`select coalesce(obj_description(to_regnamespace($1), 'pg_namespace'), ''),
		        (select count(*) from pg_inherits where inhparent = to_regclass($1 || '.ready_entries'))`,
		o.Schema).Scan(&comment, &in.segments); err != nil {
		return in, fmt.Errorf("install: inspect: %w", err)
	}
	if m := codeHash.FindStringSubmatch(comment); m != nil {
		in.hash = m[1]
	}
	return in, nil
}

// isCurrent reports whether the database holds exactly this release.
func (in installed) isCurrent(r release) bool {
	return in.version == r.latest() && in.hash == r.hash
}

// target compiles the release for the database that in describes, and refuses
// a database that is ahead of it.
func (in installed) target(o Options) (release, int, error) {
	segments, err := o.segments(in.segments)
	if err != nil {
		return release{}, 0, err
	}
	r, err := o.compile(segments)
	if err != nil {
		return release{}, 0, err
	}
	if in.version > r.latest() {
		return release{}, 0, fmt.Errorf("%w: schema %s is at version %d, this program knows versions up to %d: use the newer program",
			ErrNewer, o.Schema, in.version, r.latest())
	}
	return r, segments, nil
}
