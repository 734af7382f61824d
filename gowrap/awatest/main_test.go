package awatest

import (
	"context"
	"errors"
	"testing"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type greet struct {
	Name string `json:"name"`
}

func (greet) Kind() string { return "greet" }

type part struct{}

func (part) Kind() string { return "part" }

var queue = awa.New()

func add(t *testing.T, db awa.DBTX, name string, opts awa.EnqueueParams) int64 {
	t.Helper()
	id, err := worker.EnqueueTyped(t.Context(), queue, db, greet{name}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// greeting is a mux whose greetings end as answer says.
func greeting(answer func(*worker.Job[greet]) error) *worker.Mux {
	mux := worker.NewMux()
	worker.Register(mux, func(_ context.Context, job *worker.Job[greet]) error { return answer(job) })
	return mux
}

func polite(*worker.Job[greet]) error { return nil }

var errRude = errors.New("rude")

const month = 30 * 24 * time.Hour
