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
	w := &orderWorld{conn: pgtest.Conn(t, url), other: pgtest.Conn(t, url), keeper: pgtest.Conn(t, url), answers: map[string]int64{}}
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
	keeper      *pgx.Conn // keeps the storage while conn claims
	waiting     map[string][]int64
	held        []awa.Receipt
	answers     map[string]int64 // of rotate and prune
}

var orderQueues = []string{"a", "b", "c"}

func (w *orderWorld) restart(r *rapid.T) {
	must(r, w.other, `rollback`)
	must(r, w.keeper, `rollback`)
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
		"enqueue", "enqueue", "enqueue", "claim", "claim", "finish", "finish", "turn", "turn", "prune", "prune", "prune", "at once", "at once", "checkpoint", "cancel", "stay open", "check",
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
		w.fill(r)
		w.count(r, w.conn, `select awa.rotate()`)
	case "prune":
		w.count(r, w.conn, `select awa.prune()`)
	case "at once":
		w.fill(r)
		if len(w.waiting[q]) > 1 && rapid.Bool().Draw(r, "cancel") {
			w.cancel(r, q) // the lane's next window may hold tombstones
		}
		w.atOnce(r, q)
	case "checkpoint":
		must(r, w.conn, `select awa.checkpoint_terminal_counters()`)
	case "cancel":
		w.cancel(r, q)
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

func (w *orderWorld) cancel(r *rapid.T, q string) {
	if len(w.waiting[q]) == 0 {
		idle(r, "nothing waits")
	}
	i := rapid.IntRange(0, len(w.waiting[q])-1).Draw(r, "job")
	must(r, w.conn, `select awa.cancel($1)`, w.waiting[q][i])
	w.waiting[q] = slices.Delete(w.waiting[q], i, i+1)
}

// fill adds other queues' jobs, without which a ring does not turn.
func (w *orderWorld) fill(r *rapid.T) {
	must(r, w.conn, `do $$ begin
		perform awa.enqueue_many('k', array_fill('1'::jsonb, array[20]), queue => 'filler');
		perform awa.complete_many(array(select c.receipt from awa.claim('filler', 20) as c));
		perform awa.checkpoint_terminal_counters();
	end $$`)
}

// atOnce claims while another transaction rotates, prunes or both, and is open.
func (w *orderWorld) atOnce(r *rapid.T, q string) {
	most := rapid.IntRange(1, 5).Draw(r, "most")
	must(r, w.keeper, `begin`)
	for _, call := range rapid.SampledFrom([][]string{{"prune"}, {"rotate", "prune"}, {"prune", "rotate", "prune"}}).Draw(r, "calls") {
		w.count(r, w.keeper, `select awa.`+call+`()`)
	}
	claimed := make(chan error, 1)
	var jobs []awa.Job
	go func() {
		var err error
		jobs, err = queue.Claim(context.Background(), w.conn, awa.ClaimParams{Queue: q, MaxJobs: most})
		claimed <- err
	}()
	var err error
	waits := false
	for done := false; !done && !waits; {
		select {
		case err = <-claimed:
			done = true
		default:
			if e := w.keeper.QueryRow(context.Background(), `select exists (select from pg_locks where pid = $1 and not granted)`,
				w.conn.PgConn().PID()).Scan(&waits); e != nil {
				r.Fatal(e)
			}
		}
	}
	must(r, w.keeper, rapid.SampledFrom([]string{`commit`, `commit`, `rollback`}).Draw(r, "end"))
	if waits {
		w.answers["claims waited"]++
		err = <-claimed
	}
	if err != nil {
		r.Fatal(err)
	}
	w.claimed(r, q, most, jobs)
}

func (w *orderWorld) count(r *rapid.T, conn *pgx.Conn, sql string) {
	var answer string
	if err := conn.QueryRow(context.Background(), sql).Scan(&answer); err != nil {
		r.Fatal(err)
	}
	w.answers[answer]++
}

func (w *orderWorld) claim(r *rapid.T, q string, most int) {
	jobs, err := queue.Claim(context.Background(), w.conn, awa.ClaimParams{Queue: q, MaxJobs: most})
	if err != nil {
		r.Fatal(err)
	}
	w.claimed(r, q, most, jobs)
}

func (w *orderWorld) claimed(r *rapid.T, q string, most int, jobs []awa.Job) {
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
