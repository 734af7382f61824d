package worker

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// maintainer calls maintain for as long as the client runs: often while jobs
// come due, seldom when nothing happens.
type maintainer struct {
	c        *Client
	deferred signal // this client put jobs off
}

const (
	idleMaintain = time.Second
	// While another client leads, this one looks after maintenance so rarely that it
	// costs nothing, and often enough should the leader hang.
	spareMaintain = 30 * time.Second
	// A deferral keeps the pace up for so long: most retries come back within it.
	deferralLasts = 5 * time.Second
	// A round may take many times as long as a statement. The first try takes less, for
	// nothing is maintained while it waits for a connection that is dead.
	firstRound, longestRound = 2, 10 // times the patience for one statement
)

func newMaintainer(c *Client) *maintainer { return &maintainer{c, newSignal()} }

func (m *maintainer) loop(ctx context.Context) {
	var failures backoff
	var last time.Time // round
	pause := m.c.cfg.MaintainInterval
	var brisk time.Time // until then the pace is kept up
	for {
		if m.spare() && time.Since(last) < spareMaintain {
			pause = min(idleMaintain, max(pause, m.c.cfg.MaintainInterval))
		} else {
			last = time.Now()
			worked, err := m.round(ctx, m.limit(failures.failures))
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				m.c.warn("Maintenance failed; will try again", err)
				pause = max(failures.next(), m.c.cfg.MaintainInterval)
			case worked:
				failures.reset()
				brisk = time.Now().Add(deferralLasts)
				pause = m.c.cfg.MaintainInterval / 4
			case time.Now().Before(brisk):
				failures.reset()
				pause = m.c.cfg.MaintainInterval
			default:
				failures.reset()
				pause = max(min(pause*3/2, idleMaintain), m.c.cfg.MaintainInterval)
			}
		}
		timer := time.NewTimer(jitter(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-m.deferred:
			brisk = time.Now().Add(deferralLasts)
			pause = min(pause, m.c.cfg.MaintainInterval)
			timer.Stop()
			if !sleep(ctx, pause) {
				return
			}
		}
	}
}

// spare reports whether another client maintains. Clients without a session to
// tell by all do; the engine lets one at a time through.
func (m *maintainer) spare() bool { return m.c.listener != nil && !m.c.listener.leader() }

// limit is how long a round may take that follows so many failures.
func (m *maintainer) limit(failures int) time.Duration {
	return time.Duration(min(firstRound<<min(failures, 10), longestRound)) * m.c.patience
}

// round reports whether it brought jobs: more may be due. Also when one task failed: the
// others were done all the same.
func (m *maintainer) round(ctx context.Context, limit time.Duration) (worked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	reports, err := m.c.cfg.Client.Maintain(ctx, m.c.cfg.Pool)
	for _, r := range reports {
		worked = worked || r.Affected > 0 && slices.Contains(bringing, r.Task)
		if r.Outcome == "failed" {
			err = fmt.Errorf("%s: %s", r.Task, r.Detail)
		}
	}
	return worked, err
}

// bringing are the tasks of maintain that bring jobs into their queues.
var bringing = []string{"promote", "unpark", "rescue", "dependents", "cron", "batch"}
