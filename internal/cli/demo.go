package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/scratch"
)

// step is one act of the demo: what it does in plain words, and the SQL that
// does it.
type step struct {
	say string
	sql string
}

var demoSteps = []step{
	{say: "A job is enqueued by calling a function: from psql, a driver or a trigger. It returns the job's id.",
		sql: `select awa.enqueue('send_email', '{"to": "ada@example.com"}', queue => 'email') as job_id`},
	{say: "One call enqueues many jobs. Here are ten thousand.",
		sql: `select cardinality(awa.enqueue_many('send_email',
  array(select jsonb_build_object('to', 'user' || n || '@example.com') from generate_series(1, 10000) as n),
  queue => 'email')) as enqueued`},
	{say: "And one for later.",
		sql: `select awa.enqueue('send_digest', queue => 'email', run_at => now() + interval '1 hour') as job_id`},
	{say: "The counts are exact, and cost the same with a hundred jobs as with a hundred million.",
		sql: `select * from awa.queue_counts('email')`},
	{say: "A worker claims jobs, in order. Each comes with a receipt; nobody else gets the same job.",
		sql: `create temporary table mine as
select * from awa.claim('email', max_jobs => 9000, worker => 'demo')`},
	{say: "The first three of them:",
		sql: `select m.job_id, m.kind, m.args, m.attempt, m.receipt from mine as m limit 3`},
	{say: "The receipts finish them, all in one call. It returns the receipts that came too late: none.",
		sql: `select * from awa.complete_many(array(select m.receipt from mine as m))`},
	{say: "A receipt works once. The second time it is stale: the call says so and changes nothing.",
		sql: `select awa.complete((select m.receipt from mine as m limit 1)) as accepted`},
	{say: "Five jobs fail and are to be tried again in an hour.",
		sql: `select awa.fail(c.receipt, 'mail server is down', retry_after => interval '1 hour') as state, count(*)
from awa.claim('email', 5, worker => 'demo') as c group by 1`},
	{say: "Seven fail for good.",
		sql: `select awa.fail(c.receipt, 'no such mailbox', terminal => true) as state, count(*)
from awa.claim('email', 7, worker => 'demo') as c group by 1`},
	{say: "Failed jobs can be moved to the dead letters, where they wait for somebody to look at them.",
		sql: `select awa.bulk_move_failed_to_dlq(queue => 'email', reason => 'demo') as moved`},
	{sql: `select * from awa.dlq_depth()`},
	{say: "One of them is put back into its queue. It keeps its errors, and its attempts start over.",
		sql: `select awa.retry_from_dlq((select min(d.id) from awa.dlq_entries as d)) as retried`},
	{say: "The rest is claimed and completed.",
		sql: `insert into mine select * from awa.claim('email', max_jobs => 10000, worker => 'demo')`},
	{sql: `select * from awa.complete_many(array(
  select m.receipt from mine as m where not exists (select from awa.done_entries as d where d.id = m.job_id)))`},
	{say: "The counts again. Except for the dead letter that was taken back, nothing was updated or deleted to get here: every step was an insert.",
		sql: `select * from awa.queue_counts('email')`},
	{say: "The storage is a ring of segments. Rotating seals the current one and opens the next.",
		sql: `select awa.rotate() as outcome`},
	{say: "Pruning reclaims the oldest sealed segment, by TRUNCATE. What must survive, such as failed jobs within their retention, is moved to the current one first.",
		sql: `select awa.prune() as outcome`},
	{say: "What was pruned stays counted.",
		sql: `select * from awa.queue_counts('email')`},
	{say: "The counters can be recounted at any time, while writers run. Any drift would show here: there is none.",
		sql: `select r.* from awa.rebuild_terminal_counters() as r where r.before <> r.after`},
	{say: "Finally, every invariant of the storage can be checked. No row means that none is violated.",
		sql: `select * from awa.check()`},
}

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show what awa does, in a minute, on a throw-away database",
		Long: `Show what awa does on a throw-away database: on the server of --database-url or
DATABASE_URL, else on a server that starts now and is gone afterwards.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx, w := cmd.Context(), cmd.OutOrStdout()
			server, err := scratch.Open(ctx, a.dsn(), localpg.Options{Fsync: true})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, server.Close()) }()
			a.schema = "awa" // the steps say so
			db, err := a.createDatabase(ctx, server, false, 0)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Drop(ctx)) }()
			return a.runDemo(ctx, w, server, db)
		},
	}
}

func (a *app) runDemo(ctx context.Context, w io.Writer, server *scratch.Server, db *scratch.Database) error {
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))

	where := "on the server that you named"
	if server.Local() {
		where = "on a throw-away server"
	}
	fmt.Fprintf(w, "awa is installed in a fresh database %s.\n", where)
	for _, s := range demoSteps {
		if err := a.runStep(ctx, w, conn, s); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(w, "\nThat was awa. The database is dropped now.")
	return err
}

func (a *app) runStep(ctx context.Context, w io.Writer, conn *pgx.Conn, s step) error {
	if s.say != "" {
		fmt.Fprintf(w, "\n-- %s\n", s.say)
	}
	fmt.Fprintf(w, "%s;\n", s.sql)
	start := time.Now()
	summary := ""
	if returnsRows(s.sql) {
		t, err := query(ctx, conn, s.sql)
		if err != nil {
			return err
		}
		if len(t.rows) > 0 {
			fmt.Fprintln(w)
			if err := printTable(w, t); err != nil {
				return err
			}
		}
		summary = plural(int64(len(t.rows)), "row")
	} else {
		tag, err := conn.Exec(ctx, s.sql)
		if err != nil {
			return err
		}
		summary = plural(tag.RowsAffected(), "row")
	}
	_, err := fmt.Fprintf(w, "(%s, %.1f ms)\n", summary, float64(time.Since(start).Microseconds())/1000)
	return err
}

func returnsRows(sql string) bool { return strings.HasPrefix(sql, "select") }

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
