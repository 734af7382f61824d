package awaotel_test

import (
	"context"
	"testing"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/awaotel"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// Many handlers at once, in a client: every attempt has its span in its own
// producer's trace, and is counted once.
func TestTelemetryOfAClient(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{})
	const n = 100
	requests := map[string]bool{}
	for range n {
		request := l.enqueueIn(t, pool, awa.EnqueueParams{Kind: "k"})
		requests[request.SpanContext().SpanID().String()] = true
	}
	mux := worker.NewMux()
	mux.Use(l.Middleware)
	handled := make(chan struct{}, n)
	mux.Handle("k", func(context.Context, *worker.Attempt) error {
		handled <- struct{}{}
		return nil
	})
	client, err := worker.New(worker.Config{Pool: pool, Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: 20}}}, mux)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := client.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for range n {
		select {
		case <-handled:
		case <-ctx.Done():
			t.Fatal("not every job was handled")
		}
	}
	if err := client.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	spans := l.ended()
	for _, span := range spans {
		delete(requests, span.Parent().SpanID().String())
	}
	if len(spans) != n || len(requests) != 0 {
		t.Errorf("%d spans, %d producers without", len(spans), len(requests))
	}
	if attempts := sum(l.metric(t, "awa.attempts")); attempts["completed/default/k"] != n {
		t.Errorf("attempts: %v", attempts)
	}
	if running := sum(l.metric(t, "awa.attempts.running")); running["/default/k"] != 0 {
		t.Errorf("running: %v", running)
	}
}
