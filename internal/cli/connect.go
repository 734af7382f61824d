package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// dsn is the connection string that the user gave, or "".
func (a *app) dsn() string { return cmp.Or(a.databaseURL, os.Getenv("DATABASE_URL")) }

// config is where and how to connect. An empty connection string leaves it to
// the PG* variables.
func (a *app) config() (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(a.dsn())
	if err != nil {
		return nil, err
	}
	if _, set := config.RuntimeParams["application_name"]; !set {
		config.RuntimeParams["application_name"] = "awa-admin"
	}
	if _, set := config.RuntimeParams["client_encoding"]; !set {
		config.RuntimeParams["client_encoding"] = "UTF8" // else it is the database's
	}
	if config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		// In a pooler's session prepared statements meet those of the command before.
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	if a.timeout > 0 {
		config.ConnectTimeout = a.timeout
		config.RuntimeParams["statement_timeout"] = strconv.FormatInt(max(1, a.timeout.Milliseconds()), 10)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		level := slog.LevelInfo
		if n.SeverityUnlocalized == "WARNING" {
			level = slog.LevelWarn
		}
		args := []any{"severity", n.Severity}
		if n.Hint != "" {
			args = append(args, "hint", n.Hint)
		}
		a.log.Log(context.Background(), level, n.Message, args...)
	}
	return config, nil
}

// withConn runs f on a connection.
func (a *app) withConn(ctx context.Context, f func(*pgx.Conn) error) error {
	config, err := a.config()
	if err != nil {
		return err
	}
	return connected(ctx, config, f)
}

// connected is withConn for a config of its own.
func connected(ctx context.Context, config *pgx.ConnConfig, f func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	return f(conn)
}

// sql puts the storage schema in the place of each %[1]s.
func (a *app) sql(format string) string {
	return fmt.Sprintf(format, pgx.Identifier{a.schema}.Sanitize())
}
