package worker

import (
	"context"

	awa "github.com/awaqueue/awa/gowrap"
)

// Args are the arguments of one kind of job: a struct that encoding/json reads
// and writes.
type Args interface {
	// Kind names the kind of job. It must not depend on the value: Register asks
	// the zero value.
	Kind() string
}

// EnqueueTyped adds a job with these arguments and returns its id, as
// [awa.Client.Enqueue] does with everything else from opts; opts.Kind and
// opts.Args are ignored.
//
// Errors: those of Enqueue.
func EnqueueTyped[T Args](ctx context.Context, c awa.Client, db awa.DBTX, args T, opts awa.EnqueueParams) (int64, error) {
	opts.Kind, opts.Args = args.Kind(), args
	return c.Enqueue(ctx, db, opts)
}
