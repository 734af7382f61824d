package awa_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	awa "github.com/awaqueue/awa/gowrap"
)

// An application that uses database/sql enqueues in its own transaction.
func ExampleStdDB() {
	ctx := context.Background()
	url, done := freshURL(ctx)
	defer done()

	db, err := sql.Open("pgx", url)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()

	queue := awa.New()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, "create table orders (id integer primary key)"); err != nil {
		log.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "insert into orders values ($1)", 7); err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Enqueue(ctx, awa.StdDB(tx), awa.EnqueueParams{Kind: "ship", Args: map[string]int{"order": 7}}); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}

	counts, err := queue.Counts(ctx, awa.StdDB(db), "default")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts.Available, "to ship")
	// Output: 1 to ship
}
