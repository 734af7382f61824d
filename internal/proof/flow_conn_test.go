package proof

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"
)

// flowConn makes each call in one of the ways in which a client may: none may change what
// comes of it.
type flowConn struct {
	*pgx.Conn
	r        *rapid.T
	prepares bool           // the server has room for prepared transactions
	together bool           // a transaction is open for several calls
	ways     map[string]int // how often each way was taken
}

// storageCalls are those that only a READ COMMITTED transaction may make.
var storageCalls = []string{"maintain", "rotate", "prune", "checkpoint", "rebuild", "rebase", "remove_queue"}

func (c *flowConn) way(sql string, rows bool) string {
	if strings.Contains(sql, "current_setting(") { // asked for a call, and none of its own
		return ""
	}
	if c.together {
		return "guarded"
	}
	ways := []string{"", "", "", "rehearsed", "undone"}
	storage := false
	for _, name := range storageCalls {
		storage = storage || strings.Contains(sql, "awa."+name)
	}
	if !storage {
		ways = append(ways, "repeatable read", "serializable")
		if rows {
			ways = append(ways, "cursor")
		}
	}
	if c.prepares {
		ways = append(ways, "prepared", "given up")
	}
	way := rapid.SampledFrom(ways).Draw(c.r, "way")
	c.ways[way]++
	return way
}

// begin prepares for a call, and makes it in vain if that is its way.
func (c *flowConn) begin(way, sql string, args []any) {
	switch way {
	case "":
	case "guarded":
		must(c.r, c.Conn, `savepoint guard`)
	case "rehearsed":
		must(c.r, c.Conn, `begin`)
		must(c.r, c.Conn, `savepoint guard`)
		c.inVain(sql, args)
		must(c.r, c.Conn, `rollback to guard`)
	case "undone":
		must(c.r, c.Conn, `begin`)
		c.inVain(sql, args)
		must(c.r, c.Conn, `rollback`)
		c.settle()
	case "given up":
		must(c.r, c.Conn, `begin`)
		if c.inVain(sql, args) != nil {
			must(c.r, c.Conn, `rollback`)
		} else {
			c.prepared(`rollback`)
		}
		c.settle()
	case "repeatable read", "serializable":
		must(c.r, c.Conn, `begin isolation level `+way)
	default:
		must(c.r, c.Conn, `begin`)
	}
}

// prepared ends a transaction in two steps, by a name that no other database has.
func (c *flowConn) prepared(end string) {
	must(c.r, c.Conn, fmt.Sprintf(`prepare transaction 'flow %d'`, c.PgConn().PID()))
	must(c.r, c.Conn, fmt.Sprintf(`%s prepared 'flow %d'`, end, c.PgConn().PID()))
}

func (c *flowConn) inVain(sql string, args []any) error { return inVain(c.Conn, sql, args...) }

// inVain reads rows that nobody looks at.
func inVain(conn *pgx.Conn, sql string, args ...any) error {
	rows, err := conn.Query(context.Background(), sql, args...)
	if err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// viaCursor makes each query through a cursor, of which it reads the first row alone and then
// all of them. The cursor stays open as long as the transaction.
type viaCursor struct {
	*pgx.Conn
	name string
}

func (c viaCursor) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if _, err := c.Exec(ctx, fmt.Sprintf(`declare %s scroll cursor for %s`, c.name, sql), args...); err != nil {
		return errorRows{err: err}, err
	}
	if err := inVain(c.Conn, `fetch first from `+c.name, pgx.QueryExecModeDescribeExec); err != nil {
		return errorRows{err: err}, err
	}
	if _, err := c.Exec(ctx, `move absolute 0 in `+c.name); err != nil {
		return errorRows{err: err}, err
	}
	return c.Conn.Query(ctx, `fetch all from `+c.name, pgx.QueryExecModeDescribeExec)
}

// settle sets back what a rollback does not: a pass that was undone is not to delay the next.
func (c *flowConn) settle() { must(c.r, c.Conn, `select setval('awa.rescue_clock', 1)`) }

// end ends what begin began.
func (c *flowConn) end(way string, err error) {
	switch way {
	case "", "undone", "given up":
		return
	case "guarded":
		if err != nil {
			must(c.r, c.Conn, `rollback to guard`)
		}
		must(c.r, c.Conn, `release guard`)
		return
	}
	switch {
	case err != nil:
		must(c.r, c.Conn, `rollback`)
	case way == "prepared":
		c.prepared(`commit`)
	default:
		must(c.r, c.Conn, `commit`)
	}
}

func (c *flowConn) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	way := c.way(sql, false)
	c.begin(way, sql, args)
	tag, err := c.Conn.Exec(ctx, sql, args...)
	c.end(way, err)
	return tag, err
}

func (c *flowConn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	way := c.way(sql, true)
	c.begin(way, sql, args)
	var rows pgx.Rows
	var err error
	if way == "cursor" {
		rows, err = viaCursor{c.Conn, "flow"}.Query(ctx, sql, args...)
	} else {
		rows, err = c.Conn.Query(ctx, sql, args...)
	}
	return &endingRows{Rows: rows, end: func(err error) { c.end(way, err) }}, err
}

func (c *flowConn) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	way := c.way(sql, false)
	c.begin(way, sql, args)
	return endingRow{c.Conn.QueryRow(ctx, sql, args...), func(err error) { c.end(way, err) }}
}

// endingRows ends a transaction when it is closed.
type endingRows struct {
	pgx.Rows
	end func(error)
}

func (rows *endingRows) Next() bool {
	if rows.Rows.Next() {
		return true
	}
	rows.Close()
	return false
}

func (rows *endingRows) Close() {
	if rows.Rows.Close(); rows.end != nil {
		end := rows.end
		rows.end = nil
		end(rows.Err())
	}
}

type endingRow struct {
	row pgx.Row
	end func(error)
}

func (row endingRow) Scan(dest ...any) error {
	err := row.row.Scan(dest...)
	row.end(err)
	return err
}

// errorRows is what a query returns that failed before it began.
type errorRows struct {
	pgx.Rows
	err error
}

func (rows errorRows) Close()     {}
func (rows errorRows) Err() error { return rows.err }
func (rows errorRows) Next() bool { return false }

// together makes several calls in one transaction, perhaps in vain.
func (w *flowWorld) together(r *rapid.T) {
	actions := []func(*rapid.T){
		w.enqueue, w.enqueueAfter, w.claim, w.claim, w.complete, w.complete, w.fail, w.fail, w.snooze, w.cancel,
		w.register, w.answer, w.park, w.hold, w.ask, w.report, w.extend, w.rescueUnknown, w.cancelAttempt,
		w.retry, w.remove, w.letter, w.retryLetter, w.move, w.reschedule, w.removeFrom, w.discard, w.letters, w.retryLetters, w.purge,
		w.cancelKey, w.pause, w.startBatch, w.startBatch, w.runBatch, w.endBatch,
	}
	level := rapid.SampledFrom([]string{"read committed", "repeatable read", "serializable"}).Draw(r, "level")
	if level == "read committed" {
		actions = append(actions, w.maintain, w.maintain, w.maintain, w.maintain, w.maintain, w.lapse, w.rotate, w.beat)
	}
	must(r, w.conn, `begin isolation level `+level)
	back := w.remember()
	w.calls.together = true
	for range rapid.IntRange(2, 6).Draw(r, "calls") {
		doing(r, actions[bits.Draw(r, "action")%len(actions)])
		w.look(r)
	}
	w.calls.together = false
	end := rapid.SampledFrom([]string{`commit`, `commit`, `rollback`}).Draw(r, "end")
	w.answers["together "+level+" "+end]++
	if w.calls.prepares && rapid.Bool().Draw(r, "prepare") {
		w.calls.prepared(end)
	} else {
		must(r, w.conn, end)
	}
	if end == `rollback` {
		back()
		// As the next pass does, after a rotation or prune that was rolled back.
		must(r, w.conn, `begin; set local search_path = awa; select _settle_epoch(); commit`)
	}
}

// remember returns what makes the model what it is now again. Receipts and callbacks stay
// known, which are good for nothing then.
func (w *flowWorld) remember() func() {
	jobs, queues := map[int64]flowJob{}, map[string]flowQueue{}
	for id, j := range w.jobs {
		jobs[id] = j.clone()
	}
	for name, q := range w.queues {
		queues[name] = *q
	}
	schedules, batches := map[*flowSchedule]flowSchedule{}, map[*flowBatch]flowBatch{}
	for _, s := range w.schedules {
		schedules[s] = *s
	}
	for _, b := range w.batches {
		batches[b] = *b
	}
	old := *w
	old.keys, old.due, old.notices, old.late = maps.Clone(w.keys), maps.Clone(w.due), maps.Clone(w.notices), maps.Clone(w.late)
	old.left, old.beats, old.fires, old.batches = maps.Clone(w.left), maps.Clone(w.beats), maps.Clone(w.fires), slices.Clone(w.batches)
	return func() {
		for id, j := range w.jobs {
			if was, known := jobs[id]; known {
				*j = was
			} else {
				delete(w.jobs, id)
			}
		}
		for name, q := range w.queues {
			*q = queues[name]
		}
		w.keys, w.due, w.notices, w.late = old.keys, old.due, old.notices, old.late
		for s, was := range schedules {
			*s = was
		}
		for b, was := range batches {
			*b = was
		}
		w.left, w.beats, w.fires, w.batches = old.left, old.beats, old.fires, old.batches
		w.tokens, w.spent, w.pruned = old.tokens, old.spent, old.pruned
	}
}

func (j *flowJob) clone() flowJob {
	c := *j
	c.after, c.tags = slices.Clone(j.after), slices.Clone(j.tags)
	return c
}

// doing does an action, or nothing if there is nothing to act on.
func doing(r *rapid.T, act func(*rapid.T)) {
	defer func() {
		if stop := recover(); stop != nil && stop != any(nothing{}) {
			panic(stop)
		}
	}()
	act(r)
}

// enqueued adds a job in one of the ways that SQL has for it.
func (w *flowWorld) enqueued(r *rapid.T, j *flowJob) (id int64, err error) {
	ctx := context.Background()
	values := []any{j.kind, j.queue, j.priority, j.max, orNull(j.runAt), nullIfEmpty(j.unique), nil, j.number, j.tags}
	if j.unique != "" {
		values[6] = j.mask.String()
	}
	way := rapid.SampledFrom([]string{"insert_job_compat", "insert into jobs", "insert select", "trigger", "many"}).Draw(r, "enqueue by")
	w.answers["enqueue by "+way]++
	sql := map[string]string{
		"insert_job_compat": `select id from awa.insert_job_compat($1, $2, p_priority => $3::integer::smallint, p_max_attempts => $4::integer::smallint,
			p_run_at => $5, p_unique_key => $6, p_unique_states => $7::text::bit(8),
			p_args => jsonb_build_object('n', $8::integer), p_metadata => jsonb_build_object('m', $8::integer), p_tags => $9::text[])`,
		"insert into jobs": `insert into awa.jobs (kind, queue, priority, max_attempts, run_at, unique_key, unique_states, args, metadata, tags)
			values ($1, $2, $3, $4, $5, $6, $7::text::bit(8), jsonb_build_object('n', $8::integer), jsonb_build_object('m', $8::integer), $9::text[]) returning id`,
		"insert select": `insert into flow_jobs (id) select awa.enqueue($1, queue => $2, priority => $3, max_attempts => $4, run_at => $5,
			unique_key => $6, unique_states => $7::text::bit(8),
			args => jsonb_build_object('n', $8::integer), metadata => jsonb_build_object('m', $8::integer), tags => $9::text[]) returning id`,
		"trigger": `insert into flow_orders (kind, queue, priority, max_attempts, run_at, unique_key, unique_states, number, tags)
			values ($1, $2, $3, $4, $5, $6, $7::text::bit(8), $8, $9::text[]) returning id`,
		"many": `select (awa.enqueue_many(jsonb_build_array(jsonb_build_object('kind', $1::text, 'priority', $3::integer, 'max_attempts', $4::integer,
			'run_at', $5::timestamptz, 'unique_key', '\x' || encode($6::bytea, 'hex'), 'unique_states', $7::text,
			'args', jsonb_build_object('n', $8::integer), 'metadata', jsonb_build_object('m', $8::integer), 'tags', $9::text[])), $2::text))[1]`,
	}[way]
	err = w.calls.QueryRow(ctx, sql, values...).Scan(&id)
	if sqlState(err) == "23505" {
		return 0, fmt.Errorf("%s: %w", way, errHeld)
	}
	return id, err
}

// errHeld is that another job has a unique key, of a way that does not name it.
var errHeld = fmt.Errorf("the key is held")

func nullIfEmpty(key string) any {
	if key == "" {
		return nil
	}
	return []byte(key)
}

// flowTables are an application's, which enqueues from them.
const flowTables = `
create table flow_jobs (id bigint);
create table flow_orders (id bigint, kind text, queue text, priority integer, max_attempts integer, run_at timestamptz, unique_key bytea, unique_states bit(8), number integer, tags text[]);
create function flow_order () returns trigger language plpgsql as $$
begin
  begin
    new.id := awa.enqueue(new.kind, queue => new.queue, priority => new.priority, max_attempts => new.max_attempts, run_at => new.run_at,
      unique_key => new.unique_key, unique_states => new.unique_states,
      args => jsonb_build_object('n', new.number), metadata => jsonb_build_object('m', new.number), tags => new.tags);
    raise division_by_zero;
  exception when division_by_zero then
    null;
  end;
  new.id := awa.enqueue(new.kind, queue => new.queue, priority => new.priority, max_attempts => new.max_attempts, run_at => new.run_at,
    unique_key => new.unique_key, unique_states => new.unique_states,
    args => jsonb_build_object('n', new.number), metadata => jsonb_build_object('m', new.number), tags => new.tags);
  return new;
end $$;
create trigger flow_order before insert on flow_orders for each row execute function flow_order();`
