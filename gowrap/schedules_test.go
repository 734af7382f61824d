package awa_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestSchedules(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		ctx := t.Context()
		p := awa.ScheduleParams{
			Name: "report", Cron: "0 6 * * MON-FRI", Kind: "report", Args: map[string]any{"n": 1}, Queue: "q",
			Timezone: "Europe/Berlin", Priority: 1, MaxAttempts: 3, Tags: []string{"t"}, Metadata: map[string]any{"m": 1},
			OrderingKey: "o", Deadline: 90 * time.Second, MissedFire: awa.MissedFireCatchUp,
		}
		before := time.Now()
		next := must[time.Time](t)(queue.UpsertSchedule(ctx, pool, p))
		if want := must[time.Time](t)(queue.CronNext(ctx, pool, p.Cron, p.Timezone, before)); !next.Equal(want) {
			t.Errorf("next fire %v, want %v", next, want)
		}
		schedules := must[[]awa.Schedule](t)(queue.ListSchedules(ctx, pool))
		if len(schedules) != 1 {
			t.Fatalf("%d schedules", len(schedules))
		}
		s := schedules[0]
		if s.Name != p.Name || s.Cron != p.Cron || s.Timezone != p.Timezone || s.Kind != p.Kind || string(s.Args) != `{"n": 1}` ||
			s.Queue != p.Queue || s.Priority != 1 || s.MaxAttempts != 3 || len(s.Tags) != 1 || string(s.Metadata) != `{"m": 1}` ||
			s.OrderingKey != p.OrderingKey || s.Deadline != p.Deadline || s.MissedFire != p.MissedFire ||
			!s.PausedAt.IsZero() || !s.NextFireAt.Equal(next) || !s.LastFireAt.IsZero() || s.LastJobID != 0 ||
			s.CreatedAt.IsZero() || s.UpdatedAt.IsZero() {
			t.Errorf("%+v", s)
		}
		if !must[bool](t)(queue.PauseSchedule(ctx, pool, p.Name)) {
			t.Error("not paused")
		}
		if next := must[time.Time](t)(queue.UpsertSchedule(ctx, pool, p)); !next.IsZero() {
			t.Errorf("paused, it fires at %v", next)
		}
		if s := must[[]awa.Schedule](t)(queue.ListSchedules(ctx, pool))[0]; s.PausedAt.IsZero() || !s.NextFireAt.IsZero() {
			t.Errorf("paused: %+v", s)
		}
		for name, found := range map[string]bool{"report": true, "other": false} {
			if got := must[bool](t)(queue.ResumeSchedule(ctx, pool, name)); got != found {
				t.Errorf("resume %s: %v", name, got)
			}
			if got := must[bool](t)(queue.RemoveSchedule(ctx, pool, name)); got != found {
				t.Errorf("remove %s: %v", name, got)
			}
			if got := must[bool](t)(queue.PauseSchedule(ctx, pool, name)); got {
				t.Errorf("pause %s: %v", name, got)
			}
		}
	})
}

func TestScheduleErrors(t *testing.T) {
	ctx, pool := t.Context(), pgtest.Pool(t)
	for name, p := range map[string]awa.ScheduleParams{
		"no expression": {Name: "n", Kind: "k"},
		"never":         {Name: "n", Kind: "k", Cron: "0 0 30 2 *"},
		"no zone":       {Name: "n", Kind: "k", Cron: "@daily", Timezone: "Mars/Phobos"},
		"no policy":     {Name: "n", Kind: "k", Cron: "@daily", MissedFire: "later"},
	} {
		if _, err := queue.UpsertSchedule(ctx, pool, p); !errors.Is(err, awa.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := queue.UpsertSchedule(ctx, pool, awa.ScheduleParams{Args: func() {}}); err == nil {
		t.Error("a function is no argument")
	}
	if _, err := queue.CronNext(ctx, pool, "61 * * * *", "", time.Time{}); !errors.Is(err, awa.ErrInvalidArgument) {
		t.Errorf("minute 61: %v", err)
	}
	if next := must[time.Time](t)(queue.CronNext(ctx, pool, "0 0 30 2 *", "", time.Time{})); !next.IsZero() {
		t.Errorf("30 February is %v", next)
	}
}

// A schedule belongs to the transaction that upserts it.
func TestScheduleInTransaction(t *testing.T) {
	ctx, pool := t.Context(), pgtest.Pool(t)
	tx, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	must[time.Time](t)(queue.UpsertSchedule(ctx, tx, awa.ScheduleParams{Name: "n", Cron: "@daily", Kind: "k"}))
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if schedules := must[[]awa.Schedule](t)(queue.ListSchedules(ctx, pool)); len(schedules) != 0 {
		t.Errorf("%+v", schedules)
	}
}
