// Package awa is the Go client of awa, a job queue that lives inside
// PostgreSQL. The queue is a set of SQL functions; this package calls them. One
// method is one SQL statement, and no rule of the queue is repeated in Go:
// anything that these methods do, psql can do as well.
//
// Every method takes the database as an argument. Pass a [*pgxpool.Pool] or a
// [*pgx.Conn] and the call is a transaction of its own; pass a [pgx.Tx] and the
// call belongs to that transaction: a job enqueued in it exists when it commits,
// a claim rolled back was never made. [StdDB] makes one of a *sql.Tx.
//
//	queue := awa.New()
//	id, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "send_email", Args: mail})
//
// Fields of a params struct that keep their zero value are not sent, so the
// defaults are those that the SQL functions declare.
//
// No type needs to be registered on the connection, and every query mode of pgx
// works, the simple protocol and a transaction-pooling PgBouncer included. pgx speaks
// the encoding of the database; where that is not UTF8, put client_encoding=UTF8 into
// the connection string, or others read other names.
//
// [*pgxpool.Pool]: https://pkg.go.dev/github.com/jackc/pgx/v5/pgxpool#Pool
package awa
