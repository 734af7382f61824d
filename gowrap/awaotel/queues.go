package awaotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	awa "github.com/awaqueue/awa/gowrap"
)

// ObserveQueues reads queue_overview at each collection and reports, for every
// queue:
//
//	awa.queue.jobs             gauge   jobs, by awa.state
//	awa.queue.dead_letters     gauge   dead letters
//	awa.queue.oldest_waiting   gauge   seconds that the first claimable job has waited
//
// The figures are those of the database, so one process has to report them. stop
// ends the reports. db must be safe for concurrent use, as a pool is.
func (t *Telemetry) ObserveQueues(c awa.Client, db awa.DBTX) (stop func() error, err error) {
	var errs [3]error
	jobs, err := t.meter.Int64ObservableGauge("awa.queue.jobs",
		metric.WithUnit("{job}"), metric.WithDescription("Jobs of a queue in a state."))
	errs[0] = err
	letters, err := t.meter.Int64ObservableGauge("awa.queue.dead_letters",
		metric.WithUnit("{job}"), metric.WithDescription("Dead letters of a queue."))
	errs[1] = err
	oldest, err := t.meter.Float64ObservableGauge("awa.queue.oldest_waiting",
		metric.WithUnit("s"), metric.WithDescription("Time that the first claimable job of a queue has waited."))
	errs[2] = err
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	registration, err := t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		queues, err := c.Overview(ctx, db)
		if err != nil {
			return err
		}
		for _, q := range queues {
			name := attribute.String("awa.queue", q.Queue)
			for state, n := range q.ByState() {
				o.ObserveInt64(jobs, n, metric.WithAttributes(name, attribute.String("awa.state", string(state))))
			}
			o.ObserveInt64(letters, q.DLQ, metric.WithAttributes(name))
			o.ObserveFloat64(oldest, q.OldestWaiting.Seconds(), metric.WithAttributes(name))
		}
		return nil
	}, jobs, letters, oldest)
	if err != nil {
		return nil, err
	}
	return registration.Unregister, nil
}
