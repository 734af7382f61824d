// Package migrations holds the tern migrations of awa's storage: tables, types
// and indexes, no function bodies. Those are in package plpgsql.
package migrations

import "embed"

// FS holds the migrations, NNN_verb_noun.sql, templated by storage schema and
// number of segments.
//
//go:embed *.sql
var FS embed.FS
