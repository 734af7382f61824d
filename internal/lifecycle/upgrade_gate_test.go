package lifecycle_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
	"github.com/awaqueue/awa/migrations"
)

// TestUpgradeBesideClaims: claims read their queue's settings and then come to the gate of the
// ring. An upgrade that changes the settings gets through although there is always one between
// the two.
func TestUpgradeBesideClaims(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	const most = 20
	tooMany := make(chan struct{})
	attempts := 0
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if strings.Contains(notice.Message, "gave way") {
			if attempts++; attempts == most {
				close(tooMany)
			}
		}
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	all := fstest.MapFS{}
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		sql, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = &fstest.MapFile{Data: sql}
	}
	all[fmt.Sprintf("%03d_next.sql", len(names)+1)] = &fstest.MapFile{Data: []byte(
		"-- changes: queue_meta\nalter table {{ .schema }}.queue_meta add column next integer;\n")}

	ctx, leave := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 12 {
		client := pgtest.Conn(t, url)
		mustExec(t, client, `set search_path = awa, public`)
		clients.Go(func() {
			for ctx.Err() == nil {
				_, err := client.Exec(context.Background(), `do $$
					begin
					  lock table awa.queue_meta in access share mode;
					  perform pg_sleep(0.02); -- what a claim does in between, on a busy machine
					  perform awa._enter_ring();
					  commit;
					end $$`)
				if err != nil {
					t.Errorf("a client: %v", err)
					return
				}
			}
		})
	}
	done := make(chan error, 1)
	go func() {
		_, err := install.Migrate(context.Background(), conn, install.Options{Migrations: all})
		done <- err
	}()
	select {
	case err = <-done:
		leave()
	case <-tooMany:
		t.Errorf("the upgrade gave way %d times", most)
		leave()
		err = <-done
	}
	clients.Wait()
	if err != nil {
		t.Fatal(err)
	}
}
