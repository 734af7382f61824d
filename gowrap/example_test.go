package awa_test

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
)

// freshURL returns the connection string of a database with awa in it, and what
// removes it. An application knows its own.
func freshURL(ctx context.Context) (string, func()) {
	url, drop, err := pgtest.New(ctx)
	if err != nil {
		panic(err)
	}
	return url, func() {
		if err := drop(); err != nil {
			panic(err)
		}
	}
}

// freshPool is freshURL with a pool on the database. An application opens its
// own instead.
func freshPool(ctx context.Context) (*pgxpool.Pool, func()) {
	url, drop := freshURL(ctx)
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		panic(err)
	}
	return pool, func() {
		pool.Close()
		drop()
	}
}

// installInto installs awa into another schema.
func installInto(ctx context.Context, pool *pgxpool.Pool, schema string) {
	err := pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		_, err := install.Migrate(ctx, conn.Conn(), install.Options{Schema: schema})
		return err
	})
	if err != nil {
		panic(err)
	}
}
