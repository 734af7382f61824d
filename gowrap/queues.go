package awa

import (
	"context"
	"encoding/json"
)

// ConfigureQueue changes settings of a queue, by their SQL names: whatever
// json.Marshal makes an object of. A null puts a setting back to its default.
//
// Errors: ErrInvalidArgument.
func (c Client) ConfigureQueue(ctx context.Context, db DBTX, queue string, settings any) error {
	doc, err := required("settings", settings)
	if err != nil {
		return refuse("configure queue", err)
	}
	err = c.value("configure_queue").
		arg("queue", "text", queue).
		document("settings", doc).
		exec(ctx, db)
	return wrap("configure queue", err)
}

// QueueSettings returns all settings of a queue, by their SQL names, as
// ConfigureQueue takes them; those of an unknown queue are the defaults.
//
// Errors: ErrInvalidArgument for a bad name.
func (c Client) QueueSettings(ctx context.Context, db DBTX, queue string) (json.RawMessage, error) {
	var all string
	err := c.value("queue_settings").asText().
		arg("queue", "text", queue).
		row(ctx, db).Scan(&all)
	return json.RawMessage(all), wrap("queue settings", err)
}

// PauseQueue makes claims of the queue yield nothing until ResumeQueue. Producers
// and finishes go on.
//
// Errors: ErrInvalidArgument for a bad name.
func (c Client) PauseQueue(ctx context.Context, db DBTX, queue string) error {
	return wrap("pause queue", c.value("pause_queue").arg("queue", "text", queue).exec(ctx, db))
}

// ResumeQueue ends PauseQueue.
//
// Errors: ErrInvalidArgument for a bad name.
func (c Client) ResumeQueue(ctx context.Context, db DBTX, queue string) error {
	return wrap("resume queue", c.value("resume_queue").arg("queue", "text", queue).exec(ctx, db))
}

// RemoveQueue forgets a queue that holds nothing any more: its name, settings and
// the totals of what was pruned. It reports false if nobody knows the queue. It
// waits for transactions that use queues, in turns of 50 ms in which the others
// wait, too. A transaction around it must be READ COMMITTED.
//
// Errors: ErrWrongState while a schedule, a job, a dead letter or unpruned history
// belongs to the queue; ErrBusy when such a transaction stays open;
// ErrInvalidArgument for a bad name.
func (c Client) RemoveQueue(ctx context.Context, db DBTX, queue string) (removed bool, err error) {
	err = readCommitted(ctx, db, func(db DBTX) error {
		return c.value("remove_queue").arg("queue", "text", queue).row(ctx, db).Scan(&removed)
	})
	return removed, wrap("remove queue", err)
}
