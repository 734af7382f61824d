package scratch

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/localpg"
)

// A throw-away server is found whatever the environment says of others, and wherever
// temporary files are.
func TestOpenInAnyEnvironment(t *testing.T) {
	dir, err := os.MkdirTemp("", "awa scratch + ")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"TMPDIR": dir, "PGSERVICE": "nowhere", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGUSER": "nobody", "PGDATABASE": "none",
		"PGTARGETSESSIONATTRS": "standby", "PGCHANNELBINDING": "require", "PGREQUIREPEER": "nobody", "PGGSSENCMODE": "require",
		"PGREQUIREAUTH": "gss",
	} {
		t.Setenv(name, value)
	}
	server, err := Open(t.Context(), "", localpg.Options{})
	if errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	db, err := server.Create(t.Context(), Empty)
	if err != nil {
		t.Fatal(err)
	}
	env, err := db.Env()
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range env {
		if kv == "PGSERVICE=nowhere" || kv == "PGCHANNELBINDING=require" || kv == "PGDATABASE=none" {
			t.Error(kv)
		}
	}
}

// A database on a given server has the settings that tests take for granted, whatever
// the server, the role and the template have.
func TestGivenServerSettings(t *testing.T) {
	local, err := localpg.Start(t.Context(), localpg.Options{Settings: map[string]string{
		"standard_conforming_strings": "off", "timezone": "Asia/Kathmandu", "default_transaction_isolation": "serializable",
		"default_transaction_read_only": "on",
	}})
	if errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Stop() })
	role, err := pgx.Connect(t.Context(), local.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer role.Close(t.Context())
	for _, sql := range []string{`set default_transaction_read_only = off`, `alter role postgres set statement_timeout = '1 min'`} {
		if _, err := role.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}

	server, err := Open(t.Context(), local.URL(), localpg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := server.CreateInstalled(t.Context(), install.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for name, want := range map[string]string{
		"standard_conforming_strings": "on", "timezone": "UTC", "default_transaction_isolation": "read committed",
		"default_transaction_read_only": "off", "statement_timeout": "0", "search_path": `"$user", public`,
	} {
		var got string
		if err := conn.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s: %v", name, got, want, err)
		}
	}
}

// Another database of the same server, in both forms of connection string.
func TestWithDatabase(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:p%40ss@h:5433/old?sslmode=disable",
		"postgres://u:p%40ss@h:5433?sslmode=disable",
		"host=h port=5433 user=u password=p@ss dbname=old sslmode=disable",
	} {
		got, err := withDatabase(dsn, "new")
		if err != nil {
			t.Fatal(err)
		}
		c, err := pgx.ParseConfig(got)
		if err != nil {
			t.Fatal(err)
		}
		if c.Database != "new" || c.Host != "h" || c.Port != 5433 || c.User != "u" || c.Password != "p@ss" {
			t.Errorf("%s became %s", dsn, got)
		}
	}
}

// What is wrong with a connection string is told without the password in it.
func TestErrorsKeepThePassword(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:sekret@127.0.0.1:port/db", "postgres://u:sek ret@127.0.0.1:1/db", "postgres://u:sekret%zz@127.0.0.1:1/db",
		"postgres://u:se/sekret@127.0.0.1:1/db", "host=127.0.0.1 port=x password=sekret",
	} {
		server, err := Open(t.Context(), dsn, localpg.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = server.Create(t.Context(), Empty); err == nil || strings.Contains(err.Error(), "sek") {
			t.Errorf("%v", err)
		}
	}
}
