// Package plpgsql holds awa's functions: a tern code package, run as a whole
// on every install and upgrade. install.sql is its table of contents.
package plpgsql

import "embed"

// FS holds the code package, templated by storage schema and number of
// segments.
//
//go:embed *.sql api/*.sql internal/*.sql
var FS embed.FS
