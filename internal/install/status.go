package install

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// State is what a database holds, beside what this program would install.
type State struct {
	// Schema is the storage schema.
	Schema string
	// Version is the installed version; 0 when awa is not installed.
	Version int
	// Latest is the version that this program installs.
	Latest int
	// Pending are the names of the migrations that Migrate would run.
	Pending []string
	// CodeCurrent is whether the installed functions are this program's.
	CodeCurrent bool
	// Segments is the number of segments of the ring, installed or to be.
	Segments int
}

// Current reports whether Migrate would do nothing.
func (s State) Current() bool { return s.Version == s.Latest && s.CodeCurrent }

// Status tells what is installed and what is pending. It changes nothing. A
// database that is newer than this program is an ErrNewer. conn must not be in a
// transaction.
func Status(ctx context.Context, conn *pgx.Conn, opts Options) (State, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return State{}, err
	}
	var in installed
	if err := transaction(ctx, conn, func(tx pgx.Tx) error {
		in, err = inspect(ctx, tx, o)
		return err
	}); err != nil {
		return State{}, err
	}
	r, segments, err := in.target(o)
	if err != nil {
		return State{Schema: o.Schema, Version: in.version}, err
	}
	s := State{
		Schema:      o.Schema,
		Version:     in.version,
		Latest:      r.latest(),
		CodeCurrent: in.hash == r.hash,
		Segments:    segments,
	}
	for _, m := range r.pending(in.version) {
		s.Pending = append(s.Pending, m.Name)
	}
	return s, nil
}
