// Package install puts awa into a database: tern migrations, then the code
// package, as one transaction under tern's advisory lock.
package install

import (
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"

	"github.com/awaqueue/awa/migrations"
	"github.com/awaqueue/awa/plpgsql"
)

const (
	// DefaultSchema is the storage schema of an installation that names none.
	DefaultSchema = "awa"
	// DefaultSegments is the size of the ring of an installation that names none.
	DefaultSegments = 8
	// MinSegments and MaxSegments bound the size of the ring.
	MinSegments, MaxSegments = 3, 32
)

// Options says what to install and where.
type Options struct {
	// Schema is the storage schema. Defaults to "awa".
	Schema string
	// Segments is the number of segments of the ring, 3 to 32. It is fixed by
	// the first install. Zero means the installed number, or 8.
	Segments int
	// Logger hears of each step. Defaults to none.
	Logger *slog.Logger
	// Migrations and Code replace the embedded SQL. Both or neither.
	Migrations, Code fs.FS
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

// withDefaults fills what is left open and refuses what is wrong.
func (o Options) withDefaults() (Options, error) {
	if o.Schema == "" {
		o.Schema = DefaultSchema
	}
	// The templates write the name unquoted, so it must need no quotes.
	if !schemaName.MatchString(o.Schema) || strings.HasPrefix(o.Schema, "pg_") {
		return o, fmt.Errorf("install: schema name %q: want a lower-case letter or underscore, then up to 39 lower-case letters, digits and underscores, and not pg_ in front", o.Schema)
	}
	// An install takes from PUBLIC what is in its schema.
	if o.Schema == "public" || o.Schema == "information_schema" {
		return o, fmt.Errorf("install: schema name %q: others use what is there, and awa needs a schema of its own", o.Schema)
	}
	if o.Segments != 0 && (o.Segments < MinSegments || o.Segments > MaxSegments) {
		return o, fmt.Errorf("install: %d segments: want %d to %d", o.Segments, MinSegments, MaxSegments)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Migrations == nil {
		o.Migrations = migrations.FS
	}
	if o.Code == nil {
		o.Code = plpgsql.FS
	}
	return o, nil
}

// segments settles the size of the ring: what is installed wins, and an
// explicit wish must agree with it.
func (o Options) segments(installed int) (int, error) {
	switch {
	case installed == 0 && o.Segments == 0:
		return DefaultSegments, nil
	case installed == 0:
		return o.Segments, nil
	case o.Segments == 0 || o.Segments == installed:
		return installed, nil
	}
	return 0, fmt.Errorf("install: schema %s has %d segments, not %d: their number is fixed by the first install",
		o.Schema, installed, o.Segments)
}

// versionTable is the table in which tern keeps the version. It lies outside
// the storage schema, which a migration creates.
func (o Options) versionTable() string {
	return "public." + o.Schema + "_schema_version"
}
