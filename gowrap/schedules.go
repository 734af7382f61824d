package awa

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
)

// MissedFire says what becomes of the fires of a schedule that passed while nobody
// maintained the queue.
type MissedFire string

const (
	// MissedFireSkip makes no job of a fire that is more than a minute late.
	MissedFireSkip MissedFire = "skip"
	// MissedFireCoalesce makes one job of all that were missed, for the last of them.
	MissedFireCoalesce MissedFire = "coalesce"
	// MissedFireCatchUp makes a job of each.
	MissedFireCatchUp MissedFire = "catch_up"
)

// ScheduleParams describes a schedule and the jobs that it enqueues. Name, Cron and
// Kind are required; every other field may keep its zero value, which leaves the
// default to the server.
type ScheduleParams struct {
	// Name is what the schedule is known by: 1 to 200 characters.
	Name string
	// Cron is when it fires: five fields, minute hour day month weekday, or six with
	// seconds first; or @hourly, @daily, @weekly, @monthly, @yearly, or @every with a
	// delay such as 90m.
	Cron string
	// Kind says which code runs the jobs: 1 to 200 characters.
	Kind string
	// Args are the jobs' arguments, in the forms EnqueueParams.Args allows. Defaults
	// to {}.
	Args any
	// Queue defaults to "default".
	Queue string
	// Timezone is the zone whose clock Cron is read on, such as "Europe/Berlin".
	// Defaults to "UTC".
	Timezone string
	// Priority is 1 (first) to 4. Defaults to 2.
	Priority int
	// MaxAttempts is 1 to 1000. Defaults to 25.
	MaxAttempts int
	// Tags, at most 20.
	Tags []string
	// Metadata of the jobs, in the forms Args allows; cron_name and cron_fire_time are
	// added to it. Defaults to {}.
	Metadata any
	// OrderingKey sends the jobs through one lane of the queue, in order.
	OrderingKey string
	// Deadline is how long one attempt may run. Defaults to no limit.
	Deadline time.Duration
	// MissedFire defaults to MissedFireCoalesce.
	MissedFire MissedFire
}

// UpsertSchedule adds the schedule of that name, or replaces all of it but its
// pause, and returns its next fire, the zero time while it is paused. The same call
// again changes nothing, so a program may declare its schedules whenever it starts.
// It waits for another open transaction that changes the same schedule.
//
// Errors: ErrInvalidArgument, also for a Cron that never fires; ErrRetry.
func (c Client) UpsertSchedule(ctx context.Context, db DBTX, p ScheduleParams) (next time.Time, err error) {
	args, err := document("args", p.Args)
	if err != nil {
		return next, refuse("upsert schedule", err)
	}
	metadata, err := document("metadata", p.Metadata)
	if err != nil {
		return next, refuse("upsert schedule", err)
	}
	err = c.value("upsert_schedule").
		arg("name", "text", p.Name).
		arg("cron", "text", p.Cron).
		arg("kind", "text", p.Kind).
		document("args", args).
		text("queue", p.Queue).
		text("timezone", p.Timezone).
		integer("priority", p.Priority).
		integer("max_attempts", p.MaxAttempts).
		texts("tags", p.Tags).
		document("metadata", metadata).
		text("ordering_key", p.OrderingKey).
		interval("deadline", p.Deadline).
		text("missed_fire", string(p.MissedFire)).
		row(ctx, db).Scan((*zeronull.Timestamptz)(&next))
	return next, wrap("upsert schedule", err)
}

// RemoveSchedule removes a schedule; its jobs stay. It reports false if there is
// none of that name, and waits as UpsertSchedule does.
//
// Errors: ErrRetry.
func (c Client) RemoveSchedule(ctx context.Context, db DBTX, name string) (removed bool, err error) {
	err = c.value("remove_schedule").arg("name", "text", name).row(ctx, db).Scan(&removed)
	return removed, wrap("remove schedule", err)
}

// PauseSchedule keeps a schedule from firing until ResumeSchedule. It reports false
// if there is none of that name, and waits as UpsertSchedule does.
//
// Errors: ErrRetry.
func (c Client) PauseSchedule(ctx context.Context, db DBTX, name string) (found bool, err error) {
	err = c.value("pause_schedule").arg("name", "text", name).row(ctx, db).Scan(&found)
	return found, wrap("pause schedule", err)
}

// ResumeSchedule ends PauseSchedule. The fires of the pause are not made up for. It
// reports false if there is no schedule of that name, and waits as UpsertSchedule
// does.
//
// Errors: ErrRetry.
func (c Client) ResumeSchedule(ctx context.Context, db DBTX, name string) (found bool, err error) {
	err = c.value("resume_schedule").arg("name", "text", name).row(ctx, db).Scan(&found)
	return found, wrap("resume schedule", err)
}

// CronNext returns when an expression fires first after an instant on the clock of
// a time zone: the zero time when it does not within eight years. An empty timezone
// is UTC, a zero instant now.
//
// Errors: ErrInvalidArgument.
func (c Client) CronNext(ctx context.Context, db DBTX, cron, timezone string, after time.Time) (next time.Time, err error) {
	err = c.value("cron_next").
		arg("cron", "text", cron).
		text("timezone", timezone).
		timestamp("after", after).
		row(ctx, db).Scan((*zeronull.Timestamptz)(&next))
	return next, wrap("cron next", err)
}

// Schedule is a schedule as it stands: a row of awa.cron_schedules. What is null
// there is the zero value here.
type Schedule struct {
	Name        string
	Cron        string
	Timezone    string
	Kind        string
	Args        json.RawMessage
	Queue       string
	Priority    int16
	MaxAttempts int16
	Tags        []string
	Metadata    json.RawMessage
	OrderingKey string
	Deadline    time.Duration
	MissedFire  MissedFire
	PausedAt    time.Time // zero unless it is paused
	NextFireAt  time.Time // zero while it is paused
	LastFireAt  time.Time
	LastJobID   int64 // the job of the last fire
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// ListSchedules returns every schedule, by name.
func (c Client) ListSchedules(ctx context.Context, db DBTX) ([]Schedule, error) {
	rows := c.from("cron_schedules", `v.name, v.cron, v.timezone, v.kind, v.args, v.queue, v.priority, v.max_attempts, `+
		`v.tags, v.metadata, v.ordering_key, coalesce(extract(epoch from v.deadline) * 1000000, 0)::bigint, v.missed_fire, `+
		`v.paused_at, v.next_fire_at, v.last_fire_at, v.last_job_id, v.created_at, v.updated_at`).
		order("v.name").
		rows(ctx, db)
	schedules, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Schedule, err error) {
		null := func(t *time.Time) any { return (*zeronull.Timestamptz)(t) }
		var deadline int64 // in microseconds
		err = row.Scan(&s.Name, &s.Cron, &s.Timezone, &s.Kind, &s.Args, &s.Queue, &s.Priority, &s.MaxAttempts,
			&s.Tags, &s.Metadata, (*zeronull.Text)(&s.OrderingKey), &deadline, &s.MissedFire,
			null(&s.PausedAt), null(&s.NextFireAt), null(&s.LastFireAt), (*zeronull.Int8)(&s.LastJobID), &s.CreatedAt, &s.UpdatedAt)
		s.Deadline = time.Duration(deadline) * time.Microsecond
		return s, err
	})
	return schedules, wrap("list schedules", err)
}
