package cli

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	awa "github.com/awaqueue/awa/gowrap"
)

// scrapeTimeout bounds what one scrape may take of the database.
const scrapeTimeout = 10 * time.Second

// describe makes the description of a metric.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("awa_"+name, help, labels, nil)
}

var (
	up               = describe("up", "1 when the database told the figures of this scrape, else 0.")
	queueJobs        = describe("queue_jobs", "Jobs of a queue in a state; terminal ones until they are pruned.", "queue", "state")
	queueDeadLetters = describe("queue_dead_letters", "Dead letters of a queue.", "queue")
	queueOldest      = describe("queue_oldest_waiting_seconds", "How long the first claimable job of a queue has waited.", "queue")
	queueEnqueued    = describe("queue_enqueued_per_second", "Attempts that came to a queue, over about the last minute.", "queue")
	queueClosed      = describe("queue_closed_per_second", "Attempts of a queue that ended, over about the last minute.", "queue")
	queuePaused      = describe("queue_paused", "1 while a queue is paused.", "queue")
	segments         = describe("storage_segments", "Segments of the ring in a phase: current, sealed or empty.", "phase")
	storageBytes     = describe("storage_bytes", "Size of the ring.")
	rotated          = describe("storage_rotated_timestamp_seconds", "When the ring was rotated last.")
	schedulesLate    = describe("schedules_late", "Schedules that should have fired more than a minute ago.")
)

// figures are what the database tells at a scrape. Each has a connection of its own, so
// that none waits for a round of maintenance.
type figures struct{ *app }

func (figures) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		up, queueJobs, queueDeadLetters, queueOldest, queueEnqueued, queueClosed, queuePaused,
		segments, storageBytes, rotated, schedulesLate,
	} {
		ch <- d
	}
}

func (f figures) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	err := f.withConn(ctx, func(conn *pgx.Conn) error {
		client := awa.WithSchema(f.schema)
		queues, err := client.Overview(ctx, conn)
		if err != nil {
			return err
		}
		slots, err := client.StorageStatus(ctx, conn)
		if err != nil {
			return err
		}
		var late int64
		if err := conn.QueryRow(ctx, f.sql(`
			select count(*) from %[1]s.cron_schedules where next_fire_at < now() - interval '1 minute'`)).Scan(&late); err != nil {
			return err
		}
		collectQueues(ch, queues)
		collectStorage(ch, slots)
		gauge(ch, schedulesLate, float64(late))
		return nil
	})
	if err != nil {
		f.log.Warn("maintain: No figures for a scrape", "error", err)
	}
	gauge(ch, up, oneIf(err == nil))
}

func collectQueues(ch chan<- prometheus.Metric, queues []awa.QueueOverview) {
	for _, q := range queues {
		for state, n := range q.ByState() {
			gauge(ch, queueJobs, float64(n), q.Queue, string(state))
		}
		gauge(ch, queueDeadLetters, float64(q.DLQ), q.Queue)
		gauge(ch, queueOldest, q.OldestWaiting.Seconds(), q.Queue)
		gauge(ch, queueEnqueued, q.EnqueuedPerSecond, q.Queue)
		gauge(ch, queueClosed, q.ClosedPerSecond, q.Queue)
		gauge(ch, queuePaused, oneIf(q.Paused), q.Queue)
	}
}

func collectStorage(ch chan<- prometheus.Metric, slots []awa.SegmentStatus) {
	phases := map[string]int{"current": 0, "sealed": 0, "empty": 0}
	var bytes int64
	var last time.Time
	for _, s := range slots {
		phases[s.Phase]++
		bytes += s.Bytes
		if s.RotatedAt != nil && s.RotatedAt.After(last) {
			last = *s.RotatedAt
		}
	}
	for phase, n := range phases {
		gauge(ch, segments, float64(n), phase)
	}
	gauge(ch, storageBytes, float64(bytes))
	if !last.IsZero() {
		gauge(ch, rotated, float64(last.UnixMilli())/1000)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, value, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err) // a name that is no UTF-8
	}
	ch <- m
}

// meter counts what a loop of maintenance does.
type meter struct {
	registry *prometheus.Registry
	rounds   *prometheus.CounterVec
	took     prometheus.Histogram
	affected *prometheus.CounterVec
	good     atomic.Int64 // when the last good round ended, Unix time in nanoseconds
}

func (a *app) newMeter() *meter {
	m := &meter{
		registry: prometheus.NewRegistry(),
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "awa_maintain_rounds_total", Help: "Rounds of maintenance of this process: ok or failed.",
		}, []string{"outcome"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "awa_maintain_round_seconds", Help: "What a round took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		affected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "awa_maintain_affected_total", Help: "What a task of maintenance did, in jobs, segments or rows.",
		}, []string{"task"}),
	}
	m.rounds.WithLabelValues("ok")
	m.rounds.WithLabelValues("failed")
	m.registry.MustRegister(figures{a}, m.rounds, m.took, m.affected)
	return m
}

// round counts a round: all went well, or a task failed beside the others.
func (m *meter) round(t table, took time.Duration) {
	m.good.Store(time.Now().UnixNano())
	outcome := "ok"
	if unlessFailed(t) != nil {
		outcome = "failed"
	}
	m.rounds.WithLabelValues(outcome).Inc()
	m.took.Observe(took.Seconds())
	for i := range t.rows {
		if n, err := strconv.ParseFloat(t.value(i, "affected"), 64); err == nil {
			m.affected.WithLabelValues(t.value(i, "task")).Add(n)
		}
	}
}
