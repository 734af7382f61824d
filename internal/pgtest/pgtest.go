// Package pgtest gives each Go test a fresh database with awa installed.
//
// A test process uses the server of DATABASE_URL, or else starts a throw-away
// one at the first call. Packages that use it call Main from their TestMain.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/scratch"
)

// process is what the tests of one process share.
var process struct {
	mu       sync.Mutex // guards what follows
	server   *scratch.Server
	template *scratch.Database // has awa installed; a new database is its copy
}

// Main runs the tests, then removes what they left: the throw-away server, or
// the template database on the server of DATABASE_URL.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m *testing.M) {
	code := m.Run()
	if err := closeProcess(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
	}
	os.Exit(code)
}

func closeProcess(ctx context.Context) error {
	process.mu.Lock()
	defer process.mu.Unlock()
	var err error
	if process.template != nil {
		err = process.template.Drop(ctx)
	}
	if process.server != nil {
		err = errors.Join(err, process.server.Close())
	}
	return err
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

// Server is a server of the test's own, which it may harm, with awa installed.
func Server(t testing.TB, opts localpg.Options) *localpg.Server {
	t.Helper()
	return ServerOf(t, opts, install.Options{})
}

// ServerOf is Server with awa installed as the options say.
func ServerOf(t testing.TB, opts localpg.Options, awa install.Options) *localpg.Server {
	t.Helper()
	server := EmptyServer(t, opts)
	conn := Conn(t, server.URL())
	if _, err := install.Migrate(t.Context(), conn, awa); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	return server
}

// EmptyServer is Server without awa.
func EmptyServer(t testing.TB, opts localpg.Options) *localpg.Server {
	t.Helper()
	server, err := localpg.Start(t.Context(), opts)
	if errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip(err) // the rest of the suite may run on DATABASE_URL
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}

// Length is how long a random test runs at least: what the variable says, or as usual.
func Length(t testing.TB, variable string, usual time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return length
}

// Deadlock is what the throw-away server logged of the first deadlock: both statements,
// of which a client is told nothing.
func Deadlock() string {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.server == nil {
		return ""
	}
	_, log, _ := strings.Cut(process.server.Log(), "deadlock detected")
	return log[:min(len(log), 5000)]
}

func fresh(t testing.TB, create func(context.Context) (string, func() error, error)) string {
	t.Helper()
	url, drop, err := create(context.Background())
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
func New(ctx context.Context) (url string, drop func() error, err error) {
	server, template, err := prepare(ctx, true)
	if err != nil {
		return "", nil, err
	}
	return created(server.Create(ctx, template.Name))
}

func newEmpty(ctx context.Context) (url string, drop func() error, err error) {
	server, _, err := prepare(ctx, false)
	if err != nil {
		return "", nil, err
	}
	return created(server.Create(ctx, scratch.Empty))
}

func created(db *scratch.Database, err error) (string, func() error, error) {
	if err != nil {
		return "", nil, err
	}
	return db.URL, func() error { return db.Drop(context.Background()) }, nil
}

// prepare opens the server and, where asked, makes the template, at the first
// call that needs them.
func prepare(ctx context.Context, installed bool) (*scratch.Server, *scratch.Database, error) {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.server == nil {
		server, err := scratch.Open(ctx, os.Getenv("DATABASE_URL"), localpg.Options{})
		if err != nil {
			return nil, nil, err
		}
		process.server = server
	}
	if installed && process.template == nil {
		template, err := process.server.CreateInstalled(ctx, install.Options{})
		if err != nil {
			return nil, nil, err
		}
		if err := template.Seal(ctx); err != nil {
			return nil, nil, errors.Join(err, template.Drop(ctx))
		}
		process.template = template
	}
	return process.server, process.template, nil
}
