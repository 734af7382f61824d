package worker

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// forPool is how long a connection of the pool is waited for, before the handlers may
// be the reason that there is none.
const forPool = time.Second

// spare is a connection for what cannot wait until handlers give one back: the pool's, or
// where those are all in use, one beside it. done gives it back.
func (c *Client) spare(ctx context.Context) (conn *pgx.Conn, done func(), err error) {
	soon, cancel := context.WithTimeout(ctx, forPool)
	defer cancel()
	pooled, err := c.cfg.Pool.Acquire(soon)
	if s := c.cfg.Pool.Stat(); err != nil && soon.Err() != nil && ctx.Err() == nil {
		if s.AcquiredConns() >= s.MaxConns() {
			return c.beside(ctx)
		}
		pooled, err = c.cfg.Pool.Acquire(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	return pooled.Conn(), pooled.Release, nil
}

// beside makes a connection as the pool makes and hands out its own.
func (c *Client) beside(ctx context.Context) (conn *pgx.Conn, done func(), err error) {
	pool := c.cfg.Pool.Config()
	cfg := pool.ConnConfig
	if pool.BeforeConnect != nil {
		if err := pool.BeforeConnect(ctx, cfg); err != nil {
			return nil, nil, err
		}
	}
	conn, err = pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	done = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forPool)
		defer cancel()
		_ = conn.Close(ctx)
	}
	if err := prepare(ctx, pool, conn); err != nil {
		done()
		return nil, nil, err
	}
	return conn, done, nil
}

var errUnprepared = errors.New("the pool's hook refuses the connection that is made beside it")

// prepare runs the hooks of a pool on a new connection.
func prepare(ctx context.Context, pool *pgxpool.Config, conn *pgx.Conn) error {
	if pool.AfterConnect != nil {
		if err := pool.AfterConnect(ctx, conn); err != nil {
			return err
		}
	}
	//lint:ignore SA1019 A pool may have the deprecated hook.
	before := pool.BeforeAcquire
	ready := true
	var err error
	switch {
	case pool.PrepareConn != nil:
		ready, err = pool.PrepareConn(ctx, conn)
	case before != nil:
		ready = before(ctx, conn)
	}
	if err == nil && !ready {
		err = errUnprepared
	}
	return err
}
