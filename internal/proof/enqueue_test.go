package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestEnqueueValidation enqueues whatever a caller may pass. Either the job is
// there and reads as it was passed, waiting as well as claimed, or the call
// raises AW006 and names what is out of bounds. There is no third answer, and
// every way to enqueue gives the same one.
func TestEnqueueValidation(t *testing.T) {
	shorten(t, map[string]string{"rapid.checks": "150", "rapid.nofailfile": "true"})
	conn := pgtest.Conn(t, pgtest.URL(t))
	rapid.Check(t, func(r *rapid.T) {
		must(r, conn, `rollback`) // what a failed run left open
		tryJob(r, conn, drawJob(r))
	})
}

// candidate is a job as passed; nil is null.
type candidate struct {
	kind, queue           *string
	args, metadata        *string // JSON
	priority, maxAttempts *int
	runAt                 *string
	tags                  []*string
	orderingKey, deadline *string
}

// drawJob draws a job that is often good, and rarely bad in more than one way.
func drawJob(r *rapid.T) candidate {
	c := candidate{
		kind: ptr("kind"), queue: ptr("queue"), args: ptr("{}"), metadata: ptr("{}"),
		priority: ptr(2), maxAttempts: ptr(25),
	}
	json := rapid.Ptr(rapid.Custom(drawJSON), true)
	change := map[string]func(){
		"kind":     func() { c.kind = rapid.Ptr(names, true).Draw(r, "kind") },
		"queue":    func() { c.queue = rapid.Ptr(names, true).Draw(r, "queue") },
		"args":     func() { c.args = json.Draw(r, "args") },
		"metadata": func() { c.metadata = json.Draw(r, "metadata") },
		"priority": func() { c.priority = rapid.Ptr(rapid.IntRange(-1, 6), true).Draw(r, "priority") },
		"max_attempts": func() {
			c.maxAttempts = rapid.Ptr(rapid.OneOf(rapid.IntRange(-1, 1002), rapid.Int()), true).Draw(r, "max attempts")
		},
		"run_at": func() {
			c.runAt = ptr(rapid.SampledFrom([]string{"infinity", "-infinity", "1970-01-01", "4713-01-01 BC", "294276-12-31"}).Draw(r, "run at"))
		},
		"tags": func() {
			c.tags = rapid.SliceOfN(rapid.Ptr(names, rapid.IntRange(0, 3).Draw(r, "null tags") == 0), 0, 22).Draw(r, "tags")
		},
		"ordering_key": func() { c.orderingKey = ptr(names.Draw(r, "ordering key")) },
		"deadline": func() {
			c.deadline = ptr(rapid.SampledFrom([]string{"1 s", "100 years", "0 s", "-1 day", "101 years", "300000 years"}).Draw(r, "deadline"))
		},
	}
	fields := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"kind", "queue", "args", "metadata", "priority",
		"max_attempts", "run_at", "tags", "ordering_key", "deadline"}), 0, 4, rapid.ID[string]).Draw(r, "fields")
	for _, field := range fields {
		change[field]()
	}
	if c.maxAttempts != nil {
		*c.maxAttempts = int(int32(*c.maxAttempts))
	}
	return c
}

func ptr[T any](v T) *T { return &v }

// names are texts that somebody quotes wrongly, and texts around the limit.
var names = rapid.OneOf(
	rapid.SampledFrom([]string{
		``, `'`, `"`, `\`, `\\x`, `''; drop schema awa cascade; --`, `$$`, `%s %L %`, `{a,b}`, `(1,2)`, `null`, `NULL`,
		" ", "\n", "\t", "a\u0301", "é", "日本語", "🐘", "\u202e", "\ufeff", "default", `{{ .schema }}`,
	}),
	rapid.Map(rapid.SliceOfN(rapid.RuneFrom([]rune(`aZ'"\${}%,() _-é日🐘`)), 0, 30), func(runes []rune) string { return string(runes) }),
	rapid.Custom(func(r *rapid.T) string {
		return strings.Repeat(rapid.SampledFrom([]string{"x", "é", "🐘", `'`}).Draw(r, "letter"), rapid.IntRange(198, 203).Draw(r, "length"))
	}),
)

func drawJSON(r *rapid.T) string {
	var v any
	switch rapid.IntRange(0, 5).Draw(r, "JSON") {
	case 0:
		return rapid.SampledFrom([]string{`null`, `1e400`, `-0`, `0.10`, `[]`, `[[[]]]`, `""`, `true`, `{"a": {"b": [1, null]}}`}).Draw(r, "document")
	case 1:
		v = names.Draw(r, "text")
	case 2:
		v = rapid.SliceOfN(names, 0, 3).Draw(r, "array")
	default:
		v = rapid.MapOfN(names, names, 0, 4).Draw(r, "object")
	}
	doc, err := json.Marshal(v)
	if err != nil {
		r.Fatal(err)
	}
	return string(doc)
}

// broken lists the arguments that are out of bounds.
func (c candidate) broken() []string {
	var names []string
	bad := func(name string, is bool) {
		if is {
			names = append(names, name)
		}
	}
	badName := func(s *string) bool {
		return s == nil || utf8.RuneCountInString(*s) < 1 || utf8.RuneCountInString(*s) > 200
	}
	outside := func(n *int, highest int) bool { return n == nil || *n < 1 || *n > highest }
	bad("kind", badName(c.kind))
	bad("queue", badName(c.queue))
	bad("priority", outside(c.priority, 4))
	bad("max_attempts", outside(c.maxAttempts, 1000))
	bad("args", c.args == nil)
	bad("metadata", c.metadata == nil || !strings.HasPrefix(*c.metadata, "{"))
	nulls := false
	for _, tag := range c.tags {
		nulls = nulls || tag == nil
	}
	bad("deadline", c.deadline != nil && *c.deadline != "1 s" && *c.deadline != "100 years")
	bad("tags", nulls || len(c.tags) > 20)
	return names
}

// The ways to enqueue that take all of these arguments.
var enqueueCalls = []string{
	`select awa.enqueue($1, $2::text::jsonb, $3, $4, $5::text::timestamptz, $6, $7, $8::text::jsonb,
     ordering_key => $9, deadline => $10::text::interval)`,
	`select (awa.enqueue_many($1, array[$2::text::jsonb], $3, $4, $5::text::timestamptz, $6, $7, $8::text::jsonb,
     ordering_key => $9, deadline => $10::text::interval))[1]`,
	`select (awa.enqueue_many(jsonb_build_array(jsonb_build_object(
     'kind', $1::text, 'args', $2::text::jsonb, 'queue', $3::text, 'priority', $4::integer, 'run_at', $5::text,
     'max_attempts', $6::integer, 'tags', to_jsonb($7::text[]), 'metadata', $8::text::jsonb, 'ordering_key', $9::text,
     'deadline', $10::text))))[1]`,
}

func tryJob(r *rapid.T, conn *pgx.Conn, c candidate) {
	ctx := context.Background()
	broken := c.broken()
	for n, call := range enqueueCalls {
		if n == 2 && (c.queue == nil || c.args == nil || c.metadata == nil || c.priority == nil || c.maxAttempts == nil ||
			*c.args == "null" || *c.metadata == "null") {
			continue // a null there leaves the default to the server
		}
		must(r, conn, `begin`)
		var id int64
		err := conn.QueryRow(ctx, call, c.kind, c.args, c.queue, c.priority, c.runAt, c.maxAttempts, c.tags, c.metadata,
			c.orderingKey, c.deadline).Scan(&id)
		if fault := c.judge(broken, err); fault != nil {
			r.Fatalf("way %d: %v", n, fault)
		}
		if err == nil {
			if err := c.readBack(ctx, conn, id); err != nil {
				r.Fatalf("way %d: %v", n, err)
			}
		}
		must(r, conn, `rollback`)
	}
}

// judge demands the right one of the two answers.
func (c candidate) judge(broken []string, err error) error {
	var pgErr *pgconn.PgError
	switch {
	case err == nil && len(broken) == 0:
		return nil
	case err == nil:
		return fmt.Errorf("accepted in spite of %v", broken)
	case !errors.As(err, &pgErr) || pgErr.Code != "AW006" || pgErr.Hint == "":
		return fmt.Errorf("want AW006 for %v: %w", broken, err)
	}
	for _, name := range broken {
		if strings.Contains(pgErr.Message, name) {
			return nil
		}
	}
	return fmt.Errorf("%v are out of bounds, the message is %q", broken, pgErr.Message)
}

// readBack compares the job with what was passed: as it waits, then as it is
// claimed.
func (c candidate) readBack(ctx context.Context, conn *pgx.Conn, id int64) error {
	for _, from := range []string{
		`(select * from awa.jobs where id = $1)`,
		`(select c.*, c.job_id as id from awa.claim($4, 10) as c where c.job_id = $1)`,
	} {
		var same bool
		err := conn.QueryRow(ctx, `
select (j.kind, j.queue, j.priority, j.max_attempts, j.tags, j.args, j.metadata)
  = ($3::text, $4::text, $5::integer, $6::integer, coalesce($7::text[], '{}'), $2::text::jsonb, $8::text::jsonb)
  and coalesce(j.run_at = $9::text::timestamptz, $9 is null)
from `+from+` as j`,
			id, c.args, c.kind, c.queue, c.priority, c.maxAttempts, c.tags, c.metadata, c.runAt).Scan(&same)
		if c.runAt != nil && strings.Contains("infinity 294276-12-31", *c.runAt) && strings.Contains(from, "claim") {
			if errors.Is(err, pgx.ErrNoRows) {
				continue // not due
			}
			return fmt.Errorf("job %d was claimed before its time: %w", id, err)
		}
		if err != nil || !same {
			return fmt.Errorf("job %d is not what was passed, or not there: %w", id, err)
		}
	}
	return nil
}
