// Package bench is what the benchmarks share: a server with stated settings, a
// fresh database for each run, summaries and reports.
package bench

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/localpg"
)

// settings of a throw-away server. Everything else is PostgreSQL's default.
var settings = map[string]string{
	"shared_buffers":  "1GB",
	"max_wal_size":    "4GB",
	"max_connections": "200",
}

// Server is a PostgreSQL server to measure.
type Server struct {
	url   string
	local *localpg.Server // nil: the server of DATABASE_URL
	seq   atomic.Int64
}

// Start returns the server of DATABASE_URL, or starts a throw-away one with fsync
// on. The role of DATABASE_URL must be allowed to create databases.
func Start(ctx context.Context) (*Server, error) {
	if u := os.Getenv("DATABASE_URL"); u != "" {
		return &Server{url: u}, nil
	}
	local, err := localpg.Start(ctx, localpg.Options{Fsync: true, Settings: settings})
	if err != nil {
		return nil, err
	}
	return &Server{url: local.URL(), local: local}, nil
}

// Stop ends a throw-away server and leaves any other alone.
func (s *Server) Stop() error {
	if s.local == nil {
		return nil
	}
	return s.local.Stop()
}

// Describe states the version and the settings that matter.
func (s *Server) Describe(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var parts []string
	for _, name := range []string{
		"server_version", "shared_buffers", "fsync", "max_wal_size", "wal_sync_method", "max_connections",
	} {
		var value string
		if err := conn.QueryRow(ctx, "select current_setting($1)", name).Scan(&value); err != nil {
			return "", err
		}
		parts = append(parts, name+"="+value)
	}
	return strings.Join(parts, ", "), nil
}

// databaseURL is the server's URL with another database in it.
func (s *Server) databaseURL(database string) (string, error) {
	u, err := url.Parse(s.url)
	if err != nil || u.Scheme == "" {
		return "", fmt.Errorf("DATABASE_URL must be a URL: postgres://…")
	}
	u.Path = "/" + database
	return u.String(), nil
}
