package awa_test

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/internal/pgtest"
)

// freshPool returns a pool on a database with awa in it, and what removes it. An
// application opens its own pool instead.
func freshPool(ctx context.Context) (*pgxpool.Pool, func()) {
	url, drop, err := pgtest.New(ctx)
	if err != nil {
		panic(err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		panic(err)
	}
	return pool, func() {
		pool.Close()
		if err := drop(); err != nil {
			panic(err)
		}
	}
}
