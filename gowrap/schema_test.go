package awa_test

import (
	"testing"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestStorageSchemasAreApart(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	other := awa.WithSchema("other")
	if _, err := install.Migrate(t.Context(), conn, install.Options{Schema: "other"}); err != nil {
		t.Fatal(err)
	}
	must[int64](t)(other.Enqueue(t.Context(), conn, awa.EnqueueParams{Kind: "k", Queue: "q"}))
	if jobs := claim(t, conn, "q", 1); len(jobs) != 0 {
		t.Errorf("claimed %v of the other schema", jobs)
	}
	jobs := must[[]awa.Job](t)(other.Claim(t.Context(), conn, awa.ClaimParams{Queue: "q"}))
	if len(jobs) != 1 {
		t.Fatalf("claimed %v", jobs)
	}
	if stale := must[[]awa.Receipt](t)(other.CompleteMany(t.Context(), conn, []awa.Receipt{jobs[0].Receipt})); len(stale) != 0 {
		t.Errorf("stale: %v", stale)
	}
	if c := must[awa.QueueCounts](t)(other.Counts(t.Context(), conn, "q")); c.Completed != 1 {
		t.Errorf("%+v", c)
	}
	for _, v := range must[[]awa.Violation](t)(other.Check(t.Context(), conn)) {
		t.Errorf("%+v", v)
	}
}
