package lifecycle_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

// pairStates bring a job, #id, to a state. It has the key #key, and so does #other, which was
// cancelled before; #receipt is of its attempt and #callback what that waits for.
var pairStates = map[string][]string{
	"available": {},
	"scheduled": {`update awa.jobs set run_at = now() + interval '1 hour' where id = #id`},
	"due":       {`update awa.jobs set run_at = now() + interval '1 hour' where id = #id`, `update awa.deferred_jobs set run_at = now() where job_id = #id`},
	"running":   {`#claim`},
	"retryable": {`#claim`, `select awa.fail(#receipt, 'e', '1 hour')`},
	"waiting":   {`#claim`, `#register`},
	"left":      {`#claim`, `#register`, `select awa.park(#receipt)`},
	"resumed":   {`#claim`, `#register`, `select awa.resume_callback(#callback)`},
	"failed":    {`#claim`, `select awa.fail(#receipt, 'e', terminal => true)`},
	"cancelled": {`select awa.cancel(#id)`},
	"completed": {`#claim`, `select awa.complete(#receipt)`},
	"letter":    {`#claim`, `select awa.fail(#receipt, 'e', terminal => true)`, `select awa.move_failed_to_dlq(#id)`},
	"parked":    {`select awa.configure_queue(#queue, '{"concurrency_limit": 1}'), awa.enqueue('k', queue => #queue, concurrency_key => 'c', priority => 1)`, `select awa.claim(#queue)`, `select awa.claim(#queue)`},
	"carried":   {`#claim`, `select awa.rotate()`, `select awa.prune()`},
}

// pairCalls are about the job, its attempt, its key and its place.
var pairCalls = []string{
	`select awa.claim(#queue, 10)`, `select awa.complete(#receipt)`, `select awa.complete_many(array[#receipt])`,
	`select awa.fail(#receipt)`, `select awa.fail(#receipt, terminal => true)`, `select awa.fail_many(array[#receipt], retry_after => '0')`,
	`select awa.snooze(#receipt, '1 hour')`, `select awa.snooze_many(array[#receipt], '0')`, `select awa.cancel_attempt(#receipt)`,
	`select awa.extend_lease(array[#receipt], '90 years')`, `select awa.set_progress(#receipt, 1)`, `select awa.register_callback(#receipt, '1 hour')`,
	`select awa.park(#receipt)`, `select awa.complete_callback(#callback)`, `select awa.fail_callback(#callback)`, `select awa.retry_callback(#callback)`,
	`select awa.resume_callback(#callback)`, `select awa.heartbeat_callback(#callback, '90 years')`,
	`select awa.cancel(#id)`, `select awa.cancel_by_unique_key(#key)`, `select awa.retry(#id)`, `select awa.retry(#other)`, `select awa.retry(#id, queue => 'elsewhere')`,
	`select awa.retry(#other, run_at => now() + interval '1 hour')`,
	`select awa.delete_job_compat(#id)`, `delete from awa.jobs where id = #id`, `delete from awa.jobs where id in (#id, #other)`,
	`update awa.jobs set priority = 3 where id = #id`, `update awa.jobs set run_at = now() where id = #id`, `update awa.jobs set run_at = now() + interval '1 hour' where id = #id`,
	`update awa.jobs set queue = 'elsewhere' where id = #id and state in ('available', 'scheduled', 'retryable')`,
	`select awa.move_failed_to_dlq(#id)`, `select awa.bulk_move_failed_to_dlq(#queue)`, `select awa.retry_from_dlq(#id)`, `select awa.bulk_retry_from_dlq(#queue)`,
	`select awa.purge_dlq(#queue)`, `select awa.discard_failed_by_kind('k')`,
	`select awa.enqueue('k', queue => #queue, unique_key => #key)`, `select awa.enqueue('k', queue => 'elsewhere', unique_key => #key, run_at => now() + interval '1 hour')`,
	`select awa.enqueue('k', queue => #queue, after => array[#id])`,
	`#bite cancel`, `#bite retry`, `#bite delete`, `#bite discard`, `#bite move {"queue": "elsewhere"}`, `#bite reprioritize {"priority": 4}`,
	`#maintain now()`, `#maintain now() + interval '2 hours'`, `select awa.prune()`, `select awa.rotate(), awa.rotate()`,
	`select awa.configure_queue(#queue, '{"concurrency_limit": null}')`, `select awa.configure_queue(#queue, '{"concurrency_limit": 2}')`, `select awa.claim(#queue)`,
	`select awa.pause_queue(#queue)`, `select awa.queue_counts(#queue)`,
	`select awa.rescue_unknown(#worker, '{}')`, `select awa.rescue_unknown(#worker, array[#receipt])`, `select awa.heartbeat(#worker)`,
	`select awa.checkpoint_terminal_counters()`, `select awa.rebuild_terminal_counters()`, `select awa.remove_queue('elsewhere')`,
}

// pairExclusive are calls that need others out of the way, and say so after a while.
var pairExclusive = regexp.MustCompile(`remove_queue|rebuild`)

type pair struct {
	t          *testing.T
	a, b, boss *pgx.Conn
	words      map[string]string
}

// says is a call with its words.
func (p *pair) says(call string) string {
	if rest, ok := strings.CutPrefix(call, "#bite "); ok {
		op, settings, _ := strings.Cut(rest, " ")
		if settings == "" {
			settings = "{}"
		}
		call = fmt.Sprintf(`select awa.run_batch_operation(awa.start_batch_operation('%s', '{"ids": [#id]}', '%s'))`, op, settings)
	}
	for name, value := range p.words {
		call = strings.ReplaceAll(call, name, value)
	}
	return call
}

func (p *pair) one(sql string) string {
	p.t.Helper()
	var got *string
	if err := p.boss.QueryRow(context.Background(), sql).Scan(&got); err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
	if got == nil {
		return ""
	}
	return *got
}

// prepare makes the jobs.
func (p *pair) prepare(n int, state, mask string) {
	p.words = map[string]string{
		"#key": fmt.Sprintf(`'\x%08x'::bytea`, n), "#queue": fmt.Sprintf(`'pair %d'`, n), "#callback": `'00000000-0000-0000-0000-000000000000'`,
		"#receipt": `row(0, 1, 1, 1)::awa.receipt`, "#worker": fmt.Sprintf(`'pair %d'`, n),
	}
	p.words["#other"] = p.one(p.says(`select awa.enqueue('k', queue => #queue, unique_key => #key, unique_states => '` + mask + `', run_at => now() + interval '1 hour')::text`))
	p.one(p.says(`select awa.cancel(#other)::text`))
	p.words["#id"] = p.one(p.says(`select awa.enqueue('k', queue => #queue, unique_key => #key, unique_states => '` + mask + `', max_attempts => 3, concurrency_key => 'c')::text`))
	for _, step := range pairStates[state] {
		switch step {
		case "#claim":
			p.words["#receipt"] = "'" + p.one(p.says(`select c.receipt::text from awa.claim(#queue, 1, #worker) as c`)) + "'::awa.receipt"
		case "#register":
			p.words["#callback"] = "'" + p.one(p.says(`select awa.register_callback(#receipt, '1 hour')::text`)) + "'::uuid"
		default:
			if _, err := p.boss.Exec(context.Background(), p.says(step)); err != nil {
				p.t.Fatalf("%s: %s: %v", state, step, err)
			}
		}
	}
}

// call makes a call in a transaction; what maintain does not do, it says.
func (p *pair) call(tx pgx.Tx, call string) error {
	at, ok := strings.CutPrefix(call, "#maintain ")
	if !ok {
		_, err := tx.Exec(context.Background(), p.says(call))
		return err
	}
	if _, err := tx.Exec(context.Background(), `select set_config('awa.now', (`+at+`)::text, true)`); err != nil {
		return err
	}
	reports, err := read(context.Background(), tx.Conn(), wideMaintain)
	for _, r := range reports {
		if !wideReports.MatchString(r) {
			return fmt.Errorf("maintain: %s", r)
		}
	}
	return err
}

// secondDoes tells what a session does that others look at.
const secondDoes = `
select case when cardinality(pg_blocking_pids(a.pid)) > 0 then 'waits' when a.wait_event_type = 'Timeout' then 'sleeps' else 'works' end
from pg_stat_activity as a where a.pid = %d`

// TestPairs has two sessions make a call each about one job, in whatever state that is: the second
// while the first has not committed, so that it waits and goes on after, gives up or is cancelled,
// or does not see what the first did. AWA_PAIRS says for how long, 4 s by default.
func TestPairs(t *testing.T) {
	length := pgtest.Length(t, "AWA_PAIRS", 4*time.Second)
	url := pgtest.URL(t)
	p := &pair{t: t, a: pgtest.Conn(t, url), b: pgtest.Conn(t, url), boss: pgtest.Conn(t, url)}
	for _, conn := range []*pgx.Conn{p.a, p.b, p.boss} {
		execOn(t, conn)(`set jit = off; set deadlock_timeout = '300 ms'`)
	}
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	var states []string
	for s := range pairStates {
		states = append(states, s)
	}
	ctx := context.Background()
	n, waited := 0, 0
	var since []string
	const least = 3 // met in a wait, or nothing was tried
	on := func(since time.Duration) bool {
		return !t.Failed() && (since < length || since < length+5*time.Minute && waited < least)
	}
	for began := time.Now(); on(time.Since(began)); n++ {
		if n%300 == 0 {
			execOn(t, p.boss)(`select awa.reset()`)
		}
		state, mask := states[rnd.IntN(len(states))], huntMasks[rnd.IntN(len(huntMasks))]
		first, second := pairCalls[rnd.IntN(len(pairCalls))], pairCalls[rnd.IntN(len(pairCalls))]
		undone, keeps := rnd.IntN(3) == 0, rnd.IntN(4) == 0
		// How the second's wait ends: with the first's transaction, if not earlier.
		impatient, cancelled := rnd.IntN(6) == 0, rnd.IntN(6) == 0
		what := fmt.Sprintf("a job that is %s, mask %s: %q, undone %t, beside %q, keeps %t, impatient %t, cancelled %t",
			state, mask, first, undone, second, keeps, impatient, cancelled)
		since = append(since, what)
		p.prepare(n+1, state, mask)
		a, err := p.a.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		level := pgx.ReadCommitted
		if keeps {
			level = pgx.RepeatableRead
		}
		b, err := p.b.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Exec(ctx, `select 1 as snapshot`); err != nil {
			t.Fatal(err)
		}
		if impatient {
			if _, err := b.Exec(ctx, `set local lock_timeout = '5 ms'`); err != nil {
				t.Fatal(err)
			}
		}
		errA := p.call(a, first)
		done := make(chan error, 1)
		go func() { done <- p.call(b, second) }()
		var errB error
		over := false
		// Until it waits for the first, or sleeps for so long that it will not. Whatever takes time
		// beside that, as all does on a slow machine, is no reason to end the first.
		for naps := 0; naps < 10 && !over; {
			select {
			case errB = <-done:
				over = true
			case <-time.After(time.Millisecond):
			}
			if over {
				break
			}
			switch p.one(fmt.Sprintf(secondDoes, p.b.PgConn().PID())) {
			case "waits":
				waited++
				if cancelled {
					p.one(fmt.Sprintf(`select pg_cancel_backend(%d)::text`, p.b.PgConn().PID()))
				}
				naps = 10
			case "sleeps":
				naps++
			}
		}
		if undone || errA != nil {
			err = a.Rollback(ctx)
		} else {
			err = a.Commit(ctx)
		}
		if err != nil {
			t.Errorf("%s: the first's end: %v", what, err)
		}
		if !over {
			select {
			case errB = <-done:
			case <-time.After(5 * time.Minute):
				t.Fatalf("%s: the second waits for ever", what)
			}
		}
		if errB != nil {
			err = b.Rollback(ctx)
		} else {
			err = b.Commit(ctx)
		}
		if err != nil {
			t.Errorf("%s: the second's end: %v", what, err)
		}
		for i, err := range []error{errA, errB} {
			if err == nil {
				continue
			}
			switch s := sqlState(err); {
			case s == "AW002", s == "AW003", s == "AW004":
			case s == "25001" && keeps && i == 1:
			case s == "57014" && cancelled && i == 1, s == "55P03" && impatient && i == 1:
			case s == "55P03" && pairExclusive.MatchString([]string{first, second}[i]):
			case s == "40001" && i == 1 && (keeps || wideMoves.MatchString([]string{first, second}[i]) || strings.Contains(second, "#bite")):
			default:
				t.Errorf("%s: call %d: %v", what, i+1, err)
			}
		}
		if places := p.one(p.says(`select count(*)::text from (select j.id from awa.jobs as j where j.id = #id union all select q.id from awa.dlq_entries as q where q.id = #id) as u`)); places != "0" && places != "1" {
			t.Errorf("%s: the job is in %s places", what, places)
		}
		if n%25 == 24 {
			for _, sql := range []string{`select c::text from awa.check() as c`, countsQuery, driftQuery} {
				if bad := lines(t, p.boss, sql); len(bad) > 0 {
					t.Errorf("%s\nafter one of\n%s", strings.Join(bad, "\n"), strings.Join(since, "\n"))
				}
			}
			since = nil
		}
	}
	t.Logf("%d pairs, of which %d met in a wait", n, waited)
	if waited < least {
		t.Errorf("too little happened: %d pairs met in a wait", waited)
	}
}
