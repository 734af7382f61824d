package awa_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// openStd opens a fresh database through database/sql.
func openStd(t *testing.T, settings string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", pgtest.URL(t)+settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestStdTransactionOwnsItsJobs(t *testing.T) {
	db := openStd(t, "")
	for _, commit := range []bool{false, true} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		enqueue(t, awa.StdDB(tx), awa.EnqueueParams{Kind: "k", Queue: "q"})
		must[[]int64](t)(queue.EnqueueMany(t.Context(), awa.StdDB(tx),
			awa.EnqueueManyParams{Kind: "k", Queue: "q", Args: []json.RawMessage{[]byte(`{}`), []byte(`{}`)}}))
		if n := counts(t, awa.StdDB(db), "q").Available; n != 0 {
			t.Errorf("%d jobs before the commit", n)
		}
		want := int64(0)
		if commit {
			want, err = 3, tx.Commit()
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := counts(t, awa.StdDB(db), "q").Available; n != want {
			t.Errorf("commit %t: %d jobs, want %d", commit, n, want)
		}
	}
}

// What pgx reads of a job, database/sql reads as well, in every query mode that
// the driver offers.
func TestStdReadsWhatPgxReads(t *testing.T) {
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			db, err := sql.Open("pgx", url+"&default_query_exec_mode="+mode)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			std := awa.StdDB(db)

			id := enqueue(t, std, awa.EnqueueParams{
				Kind: "k", Queue: mode, Args: map[string]string{"quote": `it's "odd" \`}, Priority: 1, MaxAttempts: 3,
				RunAt: time.Now().Add(-time.Hour), Tags: []string{"a", "b,c"}, Metadata: map[string]int{"n": 1},
				UniqueKey: []byte{0, 1, 0xff}, UniqueStates: awa.InStates(awa.StateAvailable), Deadline: time.Hour,
			})
			jobs := claim(t, std, mode, 1)
			if len(jobs) != 1 || jobs[0].ID != id {
				t.Fatalf("claimed %v", jobs)
			}
			job := jobs[0]
			if string(job.Args) != `{"quote": "it's \"odd\" \\"}` || job.Priority != 1 || len(job.Tags) != 2 ||
				job.DeadlineAt.IsZero() || time.Since(job.CreatedAt).Abs() > time.Hour {
				t.Errorf("%+v", job)
			}
			if state := must[awa.JobState](t)(queue.Fail(t.Context(), std,
				awa.FailParams{Receipt: job.Receipt, Error: "no", Terminal: true})); state != awa.StateFailed {
				t.Errorf("state %s", state)
			}
			if stale := must[[]awa.Receipt](t)(queue.CompleteMany(t.Context(), std,
				[]awa.Receipt{job.Receipt})); len(stale) != 1 || stale[0] != job.Receipt {
				t.Errorf("stale: %v", stale)
			}
			got, want := must[awa.JobInfo](t)(queue.GetJob(t.Context(), std, id)), must[awa.JobInfo](t)(queue.GetJob(t.Context(), conn, id))
			inUTC(&got)
			inUTC(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("through database/sql\n%+v\nthrough pgx\n%+v", got, want)
			}
			if v := must[[]awa.Violation](t)(queue.Check(t.Context(), std)); len(v) != 0 {
				t.Errorf("%+v", v)
			}
		})
	}
}

// inUTC makes instants comparable.
func inUTC(j *awa.JobInfo) {
	for _, at := range []*time.Time{&j.RunAt, &j.HeartbeatAt, &j.DeadlineAt, &j.AttemptedAt, &j.FinalizedAt, &j.CreatedAt, &j.CallbackTimeoutAt} {
		*at = at.UTC()
	}
}

// Rows that pgx collects into structs, and values of every type.
func TestStdReadsReports(t *testing.T) {
	db := openStd(t, "")
	std := awa.StdDB(db)
	enqueue(t, std, awa.EnqueueParams{Kind: "k", Queue: "q"})
	if r := must[[]awa.TaskReport](t)(queue.Maintain(t.Context(), std)); len(r) == 0 {
		t.Error("no reports")
	}
	if s := must[[]awa.SegmentStatus](t)(queue.StorageStatus(t.Context(), std)); len(s) == 0 || s[0].Slot != 0 {
		t.Errorf("%+v", s)
	}
	if o := must[[]awa.QueueOverview](t)(queue.Overview(t.Context(), std)); len(o) != 1 || o[0].OldestWaiting <= 0 {
		t.Errorf("%+v", o)
	}
	if d := must[time.Duration](t)(queue.Backoff(t.Context(), std, 3)); d < 4*time.Second || d > 5*time.Second {
		t.Errorf("backoff %s", d)
	}
	if err := queue.PauseQueue(t.Context(), std, "q"); err != nil {
		t.Error(err)
	}
}

func TestStdErrors(t *testing.T) {
	db := openStd(t, "")
	_, err := queue.Enqueue(t.Context(), awa.StdDB(db), awa.EnqueueParams{Kind: "k", Priority: 9})
	if !errors.Is(err, awa.ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := queue.GetJob(t.Context(), awa.StdDB(db), 1); !errors.Is(err, awa.ErrNotFound) {
		t.Error(err)
	}
	if _, err := queue.Claim(t.Context(), awa.StdDB(db), awa.ClaimParams{Queue: "q", MaxJobs: -1}); !errors.Is(err, awa.ErrInvalidArgument) {
		t.Error(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	enqueue(t, awa.StdDB(conn), awa.EnqueueParams{Kind: "k"})
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Counts(t.Context(), awa.StdDB(conn), "q"); !errors.Is(err, sql.ErrConnDone) {
		t.Error(err)
	}
}
