package awaotel_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/awaotel"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// The handler of a job runs in the trace of the request that enqueued it.
func Example() {
	ctx := context.Background()
	url, drop, err := pgtest.New(ctx) // an application knows its own
	if err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		pool.Close()
		if err := drop(); err != nil {
			log.Fatal(err)
		}
	}()

	traces := sdktrace.NewTracerProvider() // with an exporter, in an application
	telemetry, err := awaotel.New(awaotel.Config{TracerProvider: traces})
	if err != nil {
		log.Fatal(err)
	}

	// The producer.
	queue := awa.New()
	request, span := traces.Tracer("shop").Start(ctx, "POST /orders")
	mail := awa.EnqueueParams{Kind: "send_email"}
	if err := telemetry.Inject(request, &mail); err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Enqueue(request, pool, mail); err != nil {
		log.Fatal(err)
	}
	span.End()

	// The worker.
	mux := worker.NewMux()
	mux.Use(telemetry.Middleware)
	mux.Handle("send_email", func(ctx context.Context, _ *worker.Attempt) error {
		same := trace.SpanContextFromContext(ctx).TraceID() == span.SpanContext().TraceID()
		fmt.Println("in the same trace:", same)
		return nil
	})
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	res, err := mux.Work(ctx, queue, pool, &jobs[0])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Outcome)
	// Output:
	// in the same trace: true
	// completed
}
