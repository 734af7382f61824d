// Package scratch makes databases that are dropped after use: on a given server,
// or else on a throw-away one.
package scratch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/localpg"
)

// Server is where databases are made.
type Server struct {
	admin string          // of the database to issue create database from
	local *localpg.Server // nil: a given server
}

// Open returns the server of dsn, whose role must be allowed to create databases,
// or starts a throw-away one with opts when dsn is empty. Then this process's
// environment has no settings of libpq any more, but for PGOPTIONS.
func Open(ctx context.Context, dsn string, opts localpg.Options) (*Server, error) {
	if dsn != "" {
		return &Server{admin: dsn}, nil
	}
	forget()
	local, err := localpg.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &Server{admin: local.URL(), local: local}, nil
}

// Local reports whether the server is a throw-away one.
func (s *Server) Local() bool { return s.local != nil }

// Log is what a throw-away server has logged; empty for a given one.
func (s *Server) Log() string {
	if s.local == nil {
		return ""
	}
	return s.local.Log()
}

// Close ends a throw-away server and leaves any other alone.
func (s *Server) Close() error {
	if s.local == nil {
		return nil
	}
	return s.local.Stop()
}

// Database is a database of a Server.
type Database struct {
	// Name is its name, which needs no quotes.
	Name string
	// URL is its connection string.
	URL string

	server *Server
}

// Empty is the template of an empty database.
const Empty = "template1"

// Create makes a database as a copy of template.
func (s *Server) Create(ctx context.Context, template string) (*Database, error) {
	name := "awa_test_" + strings.ToLower(rand.Text()[:12])
	dsn, err := withDatabase(s.admin, name)
	if err != nil {
		return nil, err
	}
	create := "create database " + name + " template " + pgx.Identifier{template}.Sanitize()
	err = s.do(ctx, func(admin *pgx.Conn) error {
		// A session of this very moment on the template makes the copy fail.
		for attempt := 1; ; attempt++ {
			_, err := admin.Exec(ctx, create)
			var pgErr *pgconn.PgError
			if attempt == 20 || !errors.As(err, &pgErr) || pgErr.Code != objectInUse {
				return err
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	if err != nil {
		return nil, err
	}
	db := &Database{Name: name, URL: dsn, server: s}
	if s.local == nil {
		if err := db.settle(ctx); err != nil {
			return nil, errors.Join(err, db.Drop(ctx))
		}
	}
	return db, nil
}

// settled are the settings that change what a statement means, what an answer looks like
// or how long it may take, as PostgreSQL has them by default. How a server plans is its
// own affair.
var settled = []string{
	"statement_timeout = 0", "lock_timeout = 0", "idle_in_transaction_session_timeout = 0", "idle_session_timeout = 0",
	"transaction_timeout = 0", "default_transaction_isolation = 'read committed'", "default_transaction_read_only = off",
	"default_transaction_deferrable = off", "standard_conforming_strings = on", "quote_all_identifiers = off",
	"array_nulls = on", "transform_null_equals = off", "datestyle = 'ISO, MDY'", "intervalstyle = postgres",
	"timezone = 'UTC'", "bytea_output = hex", "extra_float_digits = 1", "row_security = on",
	"search_path = '$user', public", "client_min_messages = notice", "default_table_access_method = heap",
	"session_replication_role = origin", "lc_messages = 'C'",
}

// settle gives the database the settings that every test takes for granted, whatever the
// given server or its role has. Those that it does not know or let be set stay.
func (db *Database) settle(ctx context.Context) error {
	return db.server.do(ctx, func(admin *pgx.Conn) error {
		for _, setting := range settled {
			for _, of := range []string{"database " + db.Name, "role current_user in database " + db.Name} {
				_, err := admin.Exec(ctx, "alter "+of+" set "+setting)
				var pgErr *pgconn.PgError
				if errors.As(err, &pgErr) && (pgErr.Code == undefinedObject || pgErr.Code == insufficientPrivilege) {
					continue
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

const (
	undefinedObject       = "42704"
	insufficientPrivilege = "42501"
)

const objectInUse = "55006"

// CreateInstalled makes a database with awa installed.
func (s *Server) CreateInstalled(ctx context.Context, opts install.Options) (*Database, error) {
	db, err := s.Create(ctx, Empty)
	if err != nil {
		return nil, err
	}
	if err := db.install(ctx, opts); err != nil {
		return nil, errors.Join(err, db.Drop(ctx))
	}
	return db, nil
}

func (db *Database) install(ctx context.Context, opts install.Options) error {
	return db.server.do(ctx, func(admin *pgx.Conn) error {
		// Roles belong to the cluster, so processes that share a server take
		// turns. The end of the session gives the lock back.
		if _, err := admin.Exec(ctx, `select pg_advisory_lock(hashtext('awa scratch'))`); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, db.URL)
		if err != nil {
			return err
		}
		_, err = install.Migrate(ctx, conn, opts)
		return errors.Join(err, conn.Close(ctx))
	})
}

// Seal closes the database to connections, so that it can be copied at any
// time.
func (db *Database) Seal(ctx context.Context) error {
	return db.server.do(ctx, func(admin *pgx.Conn) error {
		_, err := admin.Exec(ctx, "alter database "+db.Name+" with allow_connections false")
		return err
	})
}

// Drop removes the database and ends the sessions on it. It does so also when
// ctx is done.
func (db *Database) Drop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	return db.server.do(ctx, func(admin *pgx.Conn) error {
		_, err := admin.Exec(ctx, "drop database if exists "+db.Name+" with (force)")
		return err
	})
}

// do runs f on a connection of its own to the admin database.
func (s *Server) do(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if s.local == nil {
		_, err = conn.Exec(ctx, "set default_transaction_read_only = off; set statement_timeout = 0; set lock_timeout = 0")
	}
	if err == nil {
		err = f(conn)
	}
	if err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	return nil
}

// withDatabase is dsn, a URL or a keyword/value string, with another database.
func withDatabase(dsn, name string) (string, error) {
	if !strings.Contains(dsn, "://") {
		return dsn + " dbname=" + name, nil // the last of a keyword wins
	}
	u, err := url.Parse(dsn)
	if err != nil {
		// That error has the string in it, with its password.
		if _, err := pgx.ParseConfig(dsn); err != nil {
			return "", fmt.Errorf("scratch: connection string: %w", err)
		}
		return "", errors.New("scratch: the connection string is not a URL")
	}
	u.Path = "/" + name
	return u.String(), nil
}
