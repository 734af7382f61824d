package awatest_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/awatest"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// Remind is the job of the application under test.
type Remind struct {
	User string `json:"user"`
}

func (Remind) Kind() string { return "remind" }

// signUp is the code under test: a user, and a reminder a week later.
func signUp(ctx context.Context, tx pgx.Tx, user string) error {
	if _, err := tx.Exec(ctx, "insert into users values ($1)", user); err != nil {
		return err
	}
	_, err := worker.EnqueueTyped(ctx, awa.New(), tx, Remind{User: user}, awa.EnqueueParams{
		Queue: "mail", RunAt: time.Now().Add(7 * 24 * time.Hour)})
	return err
}

// A test of an application: what was enqueued, and what its handlers do with it a
// week later, in a transaction that is rolled back.
func TestSignUp(t *testing.T) {
	pool := pgtest.Pool(t) // an application connects to its test database
	awatest.Migrate(t, pool)
	tx := awatest.Tx(t, pool)
	if _, err := tx.Exec(t.Context(), "create table users (name text)"); err != nil {
		t.Fatal(err)
	}

	if err := signUp(t.Context(), tx, "ada"); err != nil {
		t.Fatal(err)
	}
	job := awatest.RequireEnqueued[Remind](t, tx, awatest.InQueue("mail"), awatest.InState(awa.StateScheduled))
	if job.Args.User != "ada" {
		t.Errorf("reminder for %s", job.Args.User)
	}

	var reminded []string
	mux := worker.NewMux()
	worker.Register(mux, func(_ context.Context, job *worker.Job[Remind]) error {
		reminded = append(reminded, job.Args.User)
		return nil
	})
	attempts := awatest.Drain(t, tx, mux, awatest.DrainParams{Until: time.Now().Add(8 * 24 * time.Hour)})
	if len(attempts) != 1 || attempts[0].Outcome != worker.Completed || len(reminded) != 1 {
		t.Errorf("%+v, reminded %v", attempts, reminded)
	}
}
