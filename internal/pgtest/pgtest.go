// Package pgtest gives each Go test a fresh database with awa installed.
//
// A test process uses the server of DATABASE_URL, or else starts a throw-away
// one at the first call. Packages that use it call Main from their TestMain.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/localpg"
)

// server is the one server of this process; its template database has awa
// installed, so that a new database is a file copy.
type server struct {
	admin    string // URL of the database to issue create database from
	local    *localpg.Server
	mu       sync.Mutex // guards template
	template string
}

var theServer = sync.OnceValues(startServer)
var started bool // whether theServer ran; read by Main alone, after the tests

func startServer() (*server, error) {
	started = true
	if admin := os.Getenv("DATABASE_URL"); admin != "" {
		return &server{admin: admin}, nil
	}
	local, err := localpg.Start(context.Background(), localpg.Options{})
	if err != nil {
		return nil, err
	}
	return &server{admin: local.URL(), local: local}, nil
}

// Main runs the tests, then removes what they left: the throw-away server, or
// the template database on the server of DATABASE_URL.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m *testing.M) {
	code := m.Run()
	if started {
		if s, err := theServer(); err == nil {
			if err := s.close(); err != nil {
				fmt.Fprintln(os.Stderr, "pgtest:", err)
			}
		}
	}
	os.Exit(code)
}

func (s *server) close() error {
	if s.local != nil {
		return s.local.Stop()
	}
	if s.template == "" {
		return nil
	}
	return s.drop(context.Background(), s.template)
}

// URL returns the connection string of a fresh database with awa installed. It
// is dropped, with whatever is connected to it, when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	return fresh(t, New)
}

// Empty is URL without awa.
func Empty(t testing.TB) string {
	t.Helper()
	return fresh(t, newEmpty)
}

// Pool returns a pool on a fresh database with awa installed.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Conn returns a connection to the database of url.
func Conn(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func fresh(t testing.TB, make func(context.Context) (string, func() error, error)) string {
	t.Helper()
	url, drop, err := make(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return url
}

// New is URL for examples, which have no testing.TB: it returns the connection
// string and what drops the database.
func New(ctx context.Context) (string, func() error, error) {
	s, err := theServer()
	if err != nil {
		return "", nil, err
	}
	template, err := s.installed(ctx)
	if err != nil {
		return "", nil, err
	}
	return s.create(ctx, template)
}

func newEmpty(ctx context.Context) (string, func() error, error) {
	s, err := theServer()
	if err != nil {
		return "", nil, err
	}
	return s.create(ctx, "template1")
}

// installed returns the name of the template database, made at the first call.
func (s *server) installed(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.template != "" {
		return s.template, nil
	}
	url, drop, err := s.create(ctx, "template1")
	if err != nil {
		return "", err
	}
	name, err := s.install(ctx, url)
	if err != nil {
		return "", errors.Join(err, drop())
	}
	s.template = name
	return name, nil
}

// install installs awa into the database of url and closes it to connections:
// a template in use cannot be copied.
func (s *server) install(ctx context.Context, url string) (name string, err error) {
	err = s.do(ctx, func(admin *pgx.Conn) error {
		// Roles belong to the cluster, so test processes that share a server
		// take turns. The session's end gives the lock back.
		if _, err := admin.Exec(ctx, `select pg_advisory_lock(hashtext('awa pgtest'))`); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		name = conn.Config().Database
		_, err = install.Migrate(ctx, conn, install.Options{})
		if err = errors.Join(err, conn.Close(ctx)); err != nil {
			return err
		}
		_, err = admin.Exec(ctx, "alter database "+name+" with allow_connections false")
		return err
	})
	return name, err
}

func (s *server) create(ctx context.Context, template string) (string, func() error, error) {
	name := "awa_test_" + strings.ToLower(rand.Text()[:12])
	err := s.do(ctx, func(admin *pgx.Conn) error {
		// Another session of this moment on template1 makes the copy fail.
		for attempt := 1; ; attempt++ {
			_, err := admin.Exec(ctx, "create database "+name+" template "+template)
			if err == nil || attempt == 10 {
				return err
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	if err != nil {
		return "", nil, err
	}
	url, err := withDatabase(s.admin, name)
	return url, func() error { return s.drop(context.Background(), name) }, err
}

func (s *server) drop(ctx context.Context, name string) error {
	return s.do(ctx, func(admin *pgx.Conn) error {
		_, err := admin.Exec(ctx, "drop database if exists "+name+" with (force)")
		return err
	})
}

// do runs f on a connection of its own to the admin database.
func (s *server) do(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer conn.Close(ctx)
	if err := f(conn); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	return nil
}

// withDatabase is dsn, a URL or keyword/value string, with another database.
func withDatabase(dsn, name string) (string, error) {
	if !strings.Contains(dsn, "://") {
		return dsn + " dbname=" + name, nil // the last of a keyword wins
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("pgtest: DATABASE_URL: %w", err)
	}
	u.Path = "/" + name
	return u.String(), nil
}
