package scratch

import (
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

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
