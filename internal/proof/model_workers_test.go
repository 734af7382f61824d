package proof

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

func anyWorker(r *rapid.T) string {
	return rapid.SampledFrom([]string{"alpha", "beta"}).Draw(r, "worker")
}

func (w *world) register(r *rapid.T) {
	s, worker := w.anyone(r), anyWorker(r)
	w.call(r, s, "register_worker", func(ctx context.Context, conn *pgx.Conn) error {
		return queue.RegisterWorker(ctx, conn, worker, nil)
	}, func(v *step, err error) error {
		v.register(worker)
		return err
	})
}

// heartbeat demands each notice once, unless its segment was pruned before.
func (w *world) heartbeat(r *rapid.T) {
	s, worker := w.anyone(r), anyWorker(r)
	var notices []awa.Notice
	w.call(r, s, "heartbeat", func(ctx context.Context, conn *pgx.Conn) (err error) {
		notices, err = queue.Heartbeat(ctx, conn, worker)
		return err
	}, func(v *step, err error) error {
		if err != nil {
			return err
		}
		news := v.heartbeat(worker)
		w.answers["told"] += len(notices)
		for _, n := range notices {
			if _, due := news[keyOf(n.Receipt)]; !due && !w.lags(s) {
				return fmt.Errorf("told again: %+v", n)
			}
			delete(news, keyOf(n.Receipt))
		}
		for k, n := range news {
			if !n.lost && !w.lags(s) {
				return fmt.Errorf("not told: %+v: %+v", k, n)
			}
		}
		return nil
	})
}

func (w *world) setProgress(r *rapid.T) {
	percent := rapid.IntRange(1, 100).Draw(r, "percent")
	w.attempt(r, "set_progress", `select awa.set_progress($1::text::awa.receipt, $2::text::integer)`, fmt.Sprint(percent), func(v *step, id int64) {
		v.report(v.jobs[id].receipt, percent)
	})
}

func (w *world) extendLease(r *rapid.T) {
	s := w.anyone(r)
	receipts := w.anyReceipts(r, s)
	lease := rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Minute, 10 * time.Minute, 3 * time.Hour}).Draw(r, "lease")
	var stale []awa.Receipt
	w.call(r, s, "extend_lease", func(ctx context.Context, conn *pgx.Conn) (err error) {
		stale, err = queue.ExtendLease(ctx, conn, receipts, lease)
		return err
	}, func(v *step, err error) error {
		var want []awa.Receipt
		for _, receipt := range receipts {
			if v.open(receipt) {
				v.extend(receipt, v.now+lease.Microseconds())
			} else {
				want = append(want, receipt)
			}
		}
		return answered(sortedReceipts(stale), sortedReceipts(want), err)
	})
}

// cancelKey cancels the job that has a key.
func (w *world) cancelKey(r *rapid.T) {
	s, key := w.anyone(r), rapid.SampledFrom([]string{"k", "l"}).Draw(r, "key")
	var got bool
	w.call(r, s, "cancel_by_unique_key", func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `select awa.cancel_by_unique_key($1)`, []byte(key)).Scan(&got)
	}, func(v *step, err error) error {
		j := v.jobs[v.keys[key]]
		s.queues[j.queue] = true
		if w.lags(s) && err == nil && !got {
			return nil
		}
		want := (j.waits() || j.open()) && j.holds()
		if err := answered(got, want, err); err != nil {
			return fmt.Errorf("%+v: %w", j, err)
		}
		if want {
			v.tell(j)
			v.cancel(j.id)
		}
		return nil
	})
}

// pause stops a queue's claims, or lets them go on.
func (w *world) pause(r *rapid.T) {
	s, name, paused := w.anyone(r), anyQueue(r), rapid.IntRange(0, 2).Draw(r, "pause") == 0
	call := map[bool]string{true: "pause_queue", false: "resume_queue"}[paused]
	w.call(r, s, call, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, fmt.Sprintf(`select awa.%s($1)`, call), name)
		return err
	}, func(v *step, err error) error {
		if v.paused[name] != paused { // who resumes what is not paused changes nothing
			v.paused[name], v.did.paused[name] = paused, paused
		}
		return err
	})
}
