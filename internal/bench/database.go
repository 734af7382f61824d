package bench

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/internal/install"
)

// Database is a fresh database. Its methods are safe for
// concurrent use; the connections they return are not.
type Database struct {
	Name   string
	url    string
	server *Server
}

// NewDatabase creates a database and installs awa.
func (s *Server) NewDatabase(ctx context.Context) (*Database, error) {
	d, err := s.NewEmptyDatabase(ctx)
	if err != nil {
		return nil, err
	}
	err = d.With(ctx, Durable, func(conn *pgx.Conn) error {
		_, err := install.Migrate(ctx, conn, install.Options{})
		return err
	})
	if err != nil {
		return nil, errors.Join(err, d.Drop(ctx))
	}
	return d, nil
}

// NewEmptyDatabase creates a database and leaves it empty.
func (s *Server) NewEmptyDatabase(ctx context.Context) (*Database, error) {
	d := &Database{Name: fmt.Sprintf("awa_bench_%d_%d", os.Getpid(), s.seq.Add(1)), server: s}
	var err error
	if d.url, err = s.databaseURL(d.Name); err != nil {
		return nil, err
	}
	return d, s.exec(ctx, "create database "+d.Name)
}

// URL is the database's connection string.
func (d *Database) URL() string { return d.url }

// Drop removes the database and ends whatever is connected to it.
func (d *Database) Drop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	return d.server.exec(ctx, "drop database if exists "+d.Name+" with (force)")
}

// Durability of the commits of a connection.
type Durability string

// A durable commit is on disk when it returns; an asynchronous one soon after.
const (
	Durable      Durability = "on"
	Asynchronous Durability = "off"
)

// Connect opens a connection whose commits are as durable as told.
func (d *Database) Connect(ctx context.Context, durability Durability) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(d.url)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["synchronous_commit"] = string(durability)
	cfg.RuntimeParams["application_name"] = "awa-bench"
	return pgx.ConnectConfig(ctx, cfg)
}

// Pool opens a pool of up to size connections whose commits are durable.
func (d *Database) Pool(ctx context.Context, size int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = size
	cfg.ConnConfig.RuntimeParams["application_name"] = "awa-bench"
	return pgxpool.NewWithConfig(ctx, cfg)
}

// Settle brings statistics and the visibility map up to date and starts a fresh
// checkpoint cycle, so that no run pays for what came before it.
func (d *Database) Settle(ctx context.Context) error {
	conn, err := d.Connect(ctx, Durable)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range []string{"vacuum analyze", "checkpoint"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
