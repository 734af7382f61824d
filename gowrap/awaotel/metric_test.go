package awaotel_test

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/awaotel"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMetricsCountAttemptsByResult(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{})
	answers := []error{nil, nil, errors.New("no")}
	for _, answer := range answers {
		if _, err := queue.Enqueue(t.Context(), pool, awa.EnqueueParams{Kind: "k"}); err != nil {
			t.Fatal(err)
		}
		l.work(t, pool, func(context.Context, *worker.Attempt) error {
			if n := sum(l.metric(t, "awa.attempts.running")); n["/default/k"] != 1 {
				t.Errorf("running: %v", n)
			}
			return answer
		})
	}
	if n := sum(l.metric(t, "awa.attempts")); len(n) != 2 || n["completed/default/k"] != 2 || n["failed/default/k"] != 1 {
		t.Errorf("attempts: %v", n)
	}
	if n := sum(l.metric(t, "awa.attempts.running")); n["/default/k"] != 0 {
		t.Errorf("running: %v", n)
	}
	var timed uint64
	for _, p := range l.metric(t, "awa.attempt.duration").(metricdata.Histogram[float64]).DataPoints {
		timed += p.Count
		if p.Sum < 0 {
			t.Errorf("%v s", p.Sum)
		}
	}
	if timed != 3 {
		t.Errorf("%d durations", timed)
	}
}

// sum reads a counter by result, queue and kind.
func sum(data metricdata.Aggregation) map[string]int64 {
	counts := map[string]int64{}
	for _, p := range data.(metricdata.Sum[int64]).DataPoints {
		a := p.Attributes.ToSlice()
		counts[attributeOf(a, "awa.result")+"/"+attributeOf(a, "awa.queue")+"/"+attributeOf(a, "awa.kind")] += p.Value
	}
	return counts
}

// A panic of another middleware passes through, and is an attempt that failed.
func TestPanicOfAMiddleware(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{})
	if _, err := queue.Enqueue(t.Context(), pool, awa.EnqueueParams{Kind: "k"}); err != nil {
		t.Fatal(err)
	}
	mux := worker.NewMux()
	mux.Use(l.Middleware, func(worker.Handler) worker.Handler {
		return func(context.Context, *worker.Attempt) error { panic("broken middleware") }
	})
	jobs, err := queue.Claim(t.Context(), pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		t.Fatal(err)
	}
	res, err := mux.Work(t.Context(), queue, pool, &jobs[0])
	if err != nil || res.Outcome != worker.Failed {
		t.Errorf("%+v, %v", res, err)
	}
	if n := sum(l.metric(t, "awa.attempts")); n["failed/default/k"] != 1 {
		t.Errorf("attempts: %v", n)
	}
	if len(l.ended()) != 1 {
		t.Error("the span did not end")
	}
}

// broken is an error whose methods panic for a nil pointer.
type broken struct{ cause error }

func (b *broken) Error() string { return b.cause.Error() }
func (b *broken) Unwrap() error { return b.cause }

// mute is an error whose text panics.
type mute struct{}

func (mute) Error() string { panic("no text") }

// However a handler ends, its span ends, it does not stay among those that run, and
// what becomes of the job is what would without telemetry.
func TestEveryEndIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		result  string
		outcome worker.Outcome
	}{
		"nil pointer": {(*broken)(nil), "failed", worker.Failed},
		"mute":        {mute{}, "failed", worker.Failed},
		"terminal":    {worker.Terminal(mute{}), "failed", worker.Failed},
		"cancelled":   {errors.Join(worker.Cancel("why"), mute{}), "cancelled", worker.Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			pool := pgtest.Pool(t)
			l := newLab(t, awaotel.Config{})
			if _, err := queue.Enqueue(t.Context(), pool, awa.EnqueueParams{Kind: "k"}); err != nil {
				t.Fatal(err)
			}
			res := l.work(t, pool, func(context.Context, *worker.Attempt) error { return c.err })
			if res.Outcome != c.outcome {
				t.Errorf("outcome %s", res.Outcome)
			}
			if n := sum(l.metric(t, "awa.attempts.running")); n["/default/k"] != 0 {
				t.Errorf("running: %v", n)
			}
			if n := sum(l.metric(t, "awa.attempts")); n[c.result+"/default/k"] != 1 {
				t.Errorf("attempts: %v", n)
			}
			if spans := l.ended(); len(spans) != 1 {
				t.Errorf("%d spans ended", len(spans))
			}
		})
	}
}

func TestQueuesAreObserved(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{})
	for range 2 {
		if _, err := queue.Enqueue(t.Context(), pool, awa.EnqueueParams{Kind: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	l.work(t, pool, quiet)
	stop, err := l.ObserveQueues(queue, pool)
	if err != nil {
		t.Fatal(err)
	}
	jobs := map[string]int64{}
	for _, p := range l.metric(t, "awa.queue.jobs").(metricdata.Gauge[int64]).DataPoints {
		a := p.Attributes.ToSlice()
		jobs[attributeOf(a, "awa.queue")+"/"+attributeOf(a, "awa.state")] = p.Value
	}
	if len(jobs) != 8 || jobs["default/available"] != 1 || jobs["default/completed"] != 1 || jobs["default/running"] != 0 {
		t.Errorf("%v", jobs)
	}
	oldest := l.metric(t, "awa.queue.oldest_waiting").(metricdata.Gauge[float64]).DataPoints
	if len(oldest) != 1 || oldest[0].Value <= 0 {
		t.Errorf("%+v", oldest)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
