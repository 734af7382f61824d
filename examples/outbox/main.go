// Outbox is a transactional outbox: an order and the job that ships it are
// committed together, or not at all. No message can be lost between the two, and
// none is sent for an order that never was.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
)

// Ship is the job: a message to the warehouse.
type Ship struct {
	Order int64 `json:"order"`
}

// Kind names the job.
func (Ship) Kind() string { return "ship" }

var queue = awa.New()

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL")) // empty: the PG* variables
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = pool.Exec(ctx, `
		create table if not exists outbox_orders (
		  id    bigint generated always as identity primary key,
		  item  text not null,
		  count integer not null check (count > 0)
		)`)
	if err != nil {
		return err
	}

	for _, count := range []int{2, 0} {
		id, err := order(ctx, pool, "anvil", count)
		if err != nil {
			fmt.Printf("%d anvils: %v\n", count, err)
			continue
		}
		fmt.Printf("%d anvils: order %d\n", count, id)
	}
	counts, err := queue.Counts(ctx, pool, "warehouse")
	if err != nil {
		return err
	}
	fmt.Printf("to ship: %d\n", counts.Available)
	return nil
}

// order takes an order. The job comes first here to show that the order of the
// statements does not matter: the failing insert takes it back.
func order(ctx context.Context, pool *pgxpool.Pool, item string, count int) (id int64, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `select nextval(pg_get_serial_sequence('outbox_orders', 'id'))`).Scan(&id)
		if err != nil {
			return err
		}
		_, err = worker.EnqueueTyped(ctx, queue, tx, Ship{Order: id}, awa.EnqueueParams{Queue: "warehouse"})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into outbox_orders (id, item, count) overriding system value
			values ($1, $2, $3)`, id, item, count)
		return err
	})
	return id, err
}
