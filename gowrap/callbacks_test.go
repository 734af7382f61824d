package awa_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestCallbackAnswers(t *testing.T) {
	pool := pgtest.Pool(t)
	queue := awa.New()
	ctx := t.Context()
	answers := map[awa.JobState]func(awa.CallbackID) error{
		awa.StateCompleted: func(id awa.CallbackID) error { return queue.CompleteCallback(ctx, pool, id, json.RawMessage(`[1]`)) },
		awa.StateRetryable: func(id awa.CallbackID) error { return queue.FailCallback(ctx, pool, id, "refused") },
		awa.StateAvailable: func(id awa.CallbackID) error { return queue.RetryCallback(ctx, pool, id) },
		awa.StateRunning:   func(id awa.CallbackID) error { return queue.ResumeCallback(ctx, pool, id, json.RawMessage(`"on"`)) },
		awa.StateWaitingExternal: func(id awa.CallbackID) error {
			return queue.HeartbeatCallback(ctx, pool, id, time.Hour)
		},
	}
	for state, answer := range answers {
		t.Run(string(state), func(t *testing.T) {
			job := claimOne(t, pool, awa.ClaimParams{Queue: "callback " + string(state)})
			id, err := queue.RegisterCallback(ctx, pool, job.Receipt, time.Minute)
			if err != nil || id == "" {
				t.Fatalf("register: %q, %v", id, err)
			}
			status, err := queue.CallbackStatus(ctx, pool, job.Receipt)
			if err != nil || !status.Open || status.Waiting != id {
				t.Fatalf("status while it waits: %+v, %v", status, err)
			}
			if err := answer(id); err != nil {
				t.Fatal(err)
			}
			got, err := queue.GetJob(ctx, pool, job.ID)
			if err != nil || got.State != state {
				t.Fatalf("state %s, %v", got.State, err)
			}
			err = queue.CompleteCallback(ctx, pool, id, nil)
			if again := state == awa.StateWaitingExternal; again != (err == nil) || !again && !errors.Is(err, awa.ErrNotFound) {
				t.Fatalf("a second answer: %v", err)
			}
		})
	}
}

func TestCallbackArguments(t *testing.T) {
	pool := pgtest.Pool(t)
	queue := awa.New()
	ctx := t.Context()
	job := claimOne(t, pool, awa.ClaimParams{Queue: "callback arguments"})
	if _, err := queue.RegisterCallback(ctx, pool, job.Receipt, 0); !errors.Is(err, awa.ErrInvalidArgument) {
		t.Errorf("no timeout: %v", err)
	}
	if _, err := queue.Complete(ctx, pool, job.Receipt); err != nil {
		t.Fatal(err)
	}
	if id, err := queue.RegisterCallback(ctx, pool, job.Receipt, time.Minute); err != nil || id != "" {
		t.Errorf("a stale receipt waits: %q, %v", id, err)
	}
	if status, err := queue.CallbackStatus(ctx, pool, job.Receipt); err != nil || status.Open {
		t.Errorf("a closed attempt: %+v, %v", status, err)
	}
	if err := queue.CompleteCallback(ctx, pool, "no id", nil); !errors.Is(err, awa.ErrInvalidArgument) {
		t.Errorf("an id that is none: %v", err)
	}
}
