package lifecycle_test

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// connect connects, and waits for a server that recovers.
func (w *wide) connect(server *localpg.Server, settings string) *pgx.Conn {
	for {
		conn, err := pgx.Connect(context.Background(), server.URL())
		if err == nil {
			_, err = conn.Exec(context.Background(), settings)
		}
		if err == nil {
			return conn
		}
		if !w.crashing {
			w.t.Error(err)
			return conn
		}
		time.Sleep(10 * time.Millisecond) // as often as it may be asked
	}
}

// crash kills the server, starts it again, and looks at what is left, before anybody may mend it.
func (w *wide) crash(server *localpg.Server, opts localpg.Options) *pgx.Conn {
	server.Crash()
	if err := server.Restart(context.Background(), opts); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.crashes++
	w.mu.Unlock()
	conn := pgtest.Conn(w.t, server.URL())
	sound(w.t, conn)
	return conn
}

// end ends a prepared transaction, whatever becomes of the server meanwhile.
func (w *wide) end(server *localpg.Server, sql string) {
	for tried := false; ; tried = true {
		conn := w.connect(server, ``)
		_, err := conn.Exec(context.Background(), sql)
		_ = conn.Close(context.Background())
		if state := sqlState(err); err == nil || tried && state == "42704" {
			return
		} else if !w.crashing || !slices.Contains(cutOff, state) {
			w.t.Errorf("%s: %v", sql, err)
			return
		}
	}
}
