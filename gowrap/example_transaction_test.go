package awa_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
)

// A job enqueued in a transaction exists if, and as soon as, the rest of the
// transaction does.
func Example_transaction() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if _, err := pool.Exec(ctx, "create table orders (id integer primary key)"); err != nil {
		log.Fatal(err)
	}
	order := func(id int) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := queue.Enqueue(ctx, tx, awa.EnqueueParams{Kind: "ship", Args: map[string]int{"order": id}})
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "insert into orders values ($1)", id)
			return err
		})
	}
	fmt.Println("first order: ", order(7))
	fmt.Println("second order:", order(7) != nil)

	counts, err := queue.Counts(ctx, pool, "default")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("to ship:     ", counts.Available)
	// Output:
	// first order:  <nil>
	// second order: true
	// to ship:      1
}

// A sentinel tells what happened; the server's error says the rest.
func Example_errors() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	_, err := awa.New().Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet", Priority: 9})
	fmt.Println(errors.Is(err, awa.ErrInvalidArgument))

	var server interface{ SQLState() string }
	if errors.As(err, &server) {
		fmt.Println(server.SQLState())
	}
	// Output:
	// true
	// AW006
}
