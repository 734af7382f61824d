package install_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// Where nobody is a superuser: who may install, on a server of its own because the four roles
// belong to the server.
func TestInstallWithoutSuperuser(t *testing.T) {
	t.Parallel()
	server := pgtest.EmptyServer(t, localpg.Options{})
	as := func(role, database string) *pgx.Conn {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), strings.Replace(server.DatabaseURL(database), "postgres@", role+"@", 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
		return conn
	}
	run := func(conn *pgx.Conn, statements ...string) {
		t.Helper()
		for _, sql := range statements {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	run(as("postgres", "postgres"), "create role tenant login", "create role keeper login createrole", "create role guest login", "create role app login",
		"create database tenants owner tenant", "create database keepers owner keeper", "create database guests", "grant create on database guests to guest")

	_, err := install.Migrate(t.Context(), as("tenant", "tenants"), install.Options{})
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || !strings.Contains(refused.Message, "and awa_producer is missing") || !strings.Contains(refused.Hint, "CREATEROLE") {
		t.Errorf("without the roles: %v", err)
	}
	keeper := as("keeper", "keepers")
	mustMigrate(t, keeper, install.Options{})
	run(keeper, "grant awa_producer, awa_worker to app")
	run(as("app", "keepers"), "select awa.enqueue('k')", "select awa.complete(c.receipt) from awa.claim('default') as c", "select awa.maintain()")
	mustMigrate(t, as("tenant", "tenants"), install.Options{})
	if _, err := install.Migrate(t.Context(), as("guest", "guests"), install.Options{}); err == nil || !strings.Contains(err.Error(), "permission denied for schema public") {
		t.Errorf("without a right in public: %v", err)
	}
	run(as("postgres", "guests"), "grant create on schema public to guest")
	mustMigrate(t, as("guest", "guests"), install.Options{})
	for role, database := range map[string]string{"tenant": "tenants", "keeper": "keepers", "guest": "guests"} {
		conn := as(role, database)
		run(conn, "comment on schema awa is null") // as if other code were installed
		if res := mustMigrate(t, conn, install.Options{}); !res.CodeInstalled {
			t.Errorf("%s upgrades: %+v", role, res)
		}
		if owners := scan[string](t, conn, fmt.Sprintf(`select coalesce(string_agg(distinct p.proowner::regrole::text, ' '), '')
			from pg_proc as p where p.pronamespace = 'awa'::regnamespace and p.proowner <> '%s'::regrole`, role)); owners != "" {
			t.Errorf("functions of %s belong to %s", role, owners)
		}
	}
}
