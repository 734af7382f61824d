package awatest

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func openEmpty(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), pgtest.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestMigrateMayBeRepeated(t *testing.T) {
	pool := openEmpty(t)
	Migrate(t, pool)
	add(t, pool, "Ada", awa.EnqueueParams{})
	Migrate(t, pool)
	RequireEnqueued[greet](t, pool)
}

func TestMigrateFromSeveralTestsAtOnce(t *testing.T) {
	pool := openEmpty(t)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { Migrate(t, pool) })
	}
	all.Wait()
	add(t, pool, "Ada", awa.EnqueueParams{})
}

func TestMigrateAnotherSchema(t *testing.T) {
	pool := openEmpty(t)
	MigrateSchema(t, pool, "billing")
	billing := awa.WithSchema("billing")
	if _, err := billing.Enqueue(t.Context(), pool, awa.EnqueueParams{Kind: "greet", Args: greet{"Ada"}}); err != nil {
		t.Fatal(err)
	}
	RequireEnqueued[greet](t, pool, Of(billing))
	attempts := Drain(t, pool, greeting(polite), DrainParams{Client: billing})
	if len(attempts) != 1 {
		t.Errorf("%+v", attempts)
	}
}
