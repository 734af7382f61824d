package proof

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// TestOrder demands that jobs of a lane are claimed in the order in which they were
// enqueued, whatever else is called, however often the ring turns and however many segments
// they wait through.
func TestOrder(t *testing.T) {
	shorten(t, map[string]string{"rapid.checks": "4", "rapid.steps": "80", "rapid.nofailfile": "true"})
	url := shortRing(t)
	w := &orderWorld{conn: pgtest.Conn(t, url), other: pgtest.Conn(t, url), answers: map[string]int64{}}
	exec(t, w.conn, `set jit = off`)
	rapid.Check(t, func(r *rapid.T) {
		w.restart(r)
		repeat(r, w.act, func(*rapid.T) {})
		w.end(r)
	})
	t.Log(w.answers)
}

// orderWorld is a storage and, by queue, which of its jobs wait.
type orderWorld struct {
	conn, other *pgx.Conn // other keeps a transaction open, now and then
	waiting     map[string][]int64
	held        []awa.Receipt
	answers     map[string]int64 // of rotate and prune
}

var orderQueues = []string{"a", "b", "c"}

func (w *orderWorld) restart(r *rapid.T) {
	must(r, w.other, `rollback`)
	must(r, w.conn, `select awa.reset()`)
	must(r, w.conn, `select awa.configure_queue(q, '{"failed_retention": "0"}') from unnest($1::text[]) as q`, orderQueues)
	must(r, w.conn, `update awa.storage_settings set segment_max_age = $2, history_retention = '0', straggler_limit = $1`,
		rapid.SampledFrom([]int{0, 3, 1000}).Draw(r, "stragglers"),
		// How long a lane counts as worked after a claim.
		rapid.SampledFrom([]time.Duration{0, 24 * time.Hour}).Draw(r, "age"))
	w.waiting, w.held = map[string][]int64{}, nil
}

func (w *orderWorld) act(r *rapid.T) {
	ctx := context.Background()
	q := rapid.SampledFrom(orderQueues).Draw(r, "queue")
	switch rapid.SampledFrom([]string{
		"enqueue", "enqueue", "enqueue", "claim", "claim", "finish", "finish", "turn", "turn", "prune", "prune", "prune", "checkpoint", "cancel", "stay open", "check",
	}).Draw(r, "act") {
	case "enqueue":
		for range rapid.IntRange(1, 4).Draw(r, "jobs") {
			id, err := queue.Enqueue(ctx, w.conn, awa.EnqueueParams{Kind: "k", Queue: q, OrderingKey: "o"})
			if err != nil {
				r.Fatal(err)
			}
			w.waiting[q] = append(w.waiting[q], id)
		}
	case "claim":
		w.claim(r, q, rapid.IntRange(1, 5).Draw(r, "most"))
	case "finish":
		rand.Shuffle(len(w.held), func(i, j int) { w.held[i], w.held[j] = w.held[j], w.held[i] })
		n := rapid.IntRange(len(w.held)/2, len(w.held)).Draw(r, "jobs")
		stale, err := queue.CompleteMany(ctx, w.conn, w.held[:n])
		if err != nil || len(stale) > 0 {
			r.Fatal(stale, err)
		}
		w.held = w.held[n:]
	case "turn":
		// Other queues' jobs, without which a ring does not turn.
		must(r, w.conn, `do $$ begin
			perform awa.enqueue_many('k', array_fill('1'::jsonb, array[20]), queue => 'filler');
			perform awa.complete_many(array(select c.receipt from awa.claim('filler', 20) as c));
			perform awa.checkpoint_terminal_counters();
		end $$`)
		w.count(r, `select awa.rotate()`)
	case "prune":
		w.count(r, `select awa.prune()`)
	case "checkpoint":
		must(r, w.conn, `select awa.checkpoint_terminal_counters()`)
	case "cancel":
		if len(w.waiting[q]) == 0 {
			idle(r, "nothing waits")
		}
		i := rapid.IntRange(0, len(w.waiting[q])-1).Draw(r, "job")
		must(r, w.conn, `select awa.cancel($1)`, w.waiting[q][i])
		w.waiting[q] = slices.Delete(w.waiting[q], i, i+1)
	case "stay open":
		// It is in progress in every snapshot until its end.
		must(r, w.other, `rollback`)
		must(r, w.other, `begin; select awa.enqueue('k', queue => 'other')`)
		if rapid.Bool().Draw(r, "end") {
			must(r, w.other, `commit`)
		}
	case "check":
		w.check(r)
	}
}

func (w *orderWorld) count(r *rapid.T, sql string) {
	var answer string
	if err := w.conn.QueryRow(context.Background(), sql).Scan(&answer); err != nil {
		r.Fatal(err)
	}
	w.answers[answer]++
}

func (w *orderWorld) claim(r *rapid.T, q string, most int) {
	jobs, err := queue.Claim(context.Background(), w.conn, awa.ClaimParams{Queue: q, MaxJobs: most})
	if err != nil {
		r.Fatal(err)
	}
	var got []int64
	for _, j := range jobs {
		got = append(got, j.ID)
		w.held = append(w.held, j.Receipt)
	}
	want := w.waiting[q][:min(most, len(w.waiting[q]))]
	if !slices.Equal(got, want) {
		r.Fatalf("queue %s: claimed %v, want %v", q, got, want)
	}
	w.waiting[q] = w.waiting[q][len(want):]
}

func (w *orderWorld) check(r *rapid.T) {
	bad, err := queue.Check(context.Background(), w.conn)
	if err != nil {
		r.Fatal(err)
	}
	for _, v := range bad {
		// With so low a limit of stragglers it may have none.
		if v.Invariant != "the ring has a free segment" {
			r.Fatal(describe(bad))
		}
	}
	for _, q := range orderQueues {
		counts, err := queue.Counts(context.Background(), w.conn, q)
		if err != nil {
			r.Fatal(err)
		}
		if counts.Available != int64(len(w.waiting[q])) {
			r.Fatal(fmt.Sprintf("queue %s: %d jobs wait, counted %d", q, len(w.waiting[q]), counts.Available))
		}
	}
}

// end claims what is left.
func (w *orderWorld) end(r *rapid.T) {
	w.check(r)
	for _, q := range orderQueues {
		w.claim(r, q, 1000)
		w.claim(r, q, 1000)
	}
	w.check(r)
}
