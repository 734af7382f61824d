package scratch

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

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
