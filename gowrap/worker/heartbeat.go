package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/txn"
)

// heartbeats keeps the client's names alive until ctx is done.
func (c *Client) heartbeats(ctx context.Context) {
	var pause backoff
	var down time.Time // since the first of the failures
	for {
		asked, err := c.heartbeat(ctx, min(firstHeartbeat<<min(pause.failures, 10), c.patience))
		wait := c.cfg.HeartbeatInterval
		if asked && err == nil {
			c.heard.Store(int64(time.Since(c.born)))
			c.door.open()
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if down.IsZero() {
				down = time.Now()
			}
			c.warn("Heartbeat failed; will try again", err)
			wait = min(wait, pause.next())
		case asked && !down.IsZero():
			c.log.Info("The server answers again", "after", time.Since(down).Round(time.Millisecond))
			down = time.Time{}
			pause.reset()
			c.unheard.set()
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// heardSince reports whether the server has answered a heartbeat since then.
func (c *Client) heardSince(then time.Time) bool {
	return time.Duration(c.heard.Load()) > then.Sub(c.born)
}

// firstHeartbeat bounds the first try of a heartbeat. It costs the server little, and
// worker_silence leaves no time to wait for a connection that is dead; the next tries
// take longer, for the server may be slow.
const firstHeartbeat = 10 * time.Second

// heartbeat beats once for every name that has attempts, and for the current one. It does
// not wait for handlers that use the whole pool, or their attempts would be rescued while
// they run. It reports whether there was any name.
func (c *Client) heartbeat(ctx context.Context, limit time.Duration) (asked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	names := c.live.workers()
	if name := c.identity.known(); name != "" {
		names[name] = struct{}{}
	}
	if len(names) == 0 {
		return false, nil
	}
	conn, done, err := c.spare(ctx)
	if err != nil {
		return true, err
	}
	defer done()
	for name := range names {
		notices, err := c.cfg.Client.Heartbeat(ctx, conn, name)
		if err != nil {
			return true, err
		}
		c.heed(notices)
	}
	for _, name := range c.identity.strangers(c.live.workers, time.Now()) {
		c.rescueUnknown(ctx, conn, name)
	}
	return true, nil
}

// rescueUnknown has jobs rescued that were claimed under name and did not arrive.
func (c *Client) rescueUnknown(ctx context.Context, conn *pgx.Conn, name string) {
	var rescued int64
	err := txn.ReadCommitted(ctx, conn, func(tx pgx.Tx) (err error) {
		rescued, err = c.cfg.Client.RescueUnknown(ctx, tx, name, c.live.of(name))
		return err
	})
	switch {
	case err != nil:
		c.warn("Could not have the jobs of a lost claim rescued; will try again", err, "name", name)
	case rescued > 0:
		c.identity.more(name)
		c.log.Info("Jobs of a claim whose answer was lost were rescued", "jobs", rescued, "name", name)
	}
}

// rechecks asks which attempts are open, whenever the server answers again: a heartbeat
// whose answer was lost has told which others closed, and no other heartbeat will.
func (c *Client) rechecks(ctx context.Context) {
	var pause backoff
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.unheard:
		}
		err := c.recheck(ctx)
		if err == nil {
			pause.reset()
			continue
		}
		if ctx.Err() == nil {
			c.warn("Could not ask which attempts are open; will try again", err)
		}
		if !sleep(ctx, pause.next()) {
			return
		}
		c.unheard.set()
	}
}

func (c *Client) recheck(ctx context.Context) error {
	var receipts []awa.Receipt
	for _, a := range c.live.all() {
		if a.unsuspecting() {
			receipts = append(receipts, a.Receipt)
		}
	}
	if len(receipts) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	conn, done, err := c.spare(ctx)
	if err != nil {
		return err
	}
	defer done()
	var stale []awa.Receipt
	if err := txn.ReadCommitted(ctx, conn, func(tx pgx.Tx) (err error) {
		stale, err = c.cfg.Client.ExtendLease(ctx, tx, receipts, c.cfg.Lease)
		return err
	}); err != nil {
		return err
	}
	for _, a := range c.live.find(stale) {
		if a != nil && a.unsuspecting() {
			c.log.Info("An attempt was closed while the server was not heard", "job", a.ID, "kind", a.Kind, "queue", a.Queue)
			a.lost.set(fmt.Errorf("%w while the server was not heard", ErrLost))
		}
	}
	return nil
}

// heed stops the handlers of attempts that others closed.
func (c *Client) heed(notices []awa.Notice) {
	if len(notices) == 0 {
		return
	}
	receipts := make([]awa.Receipt, len(notices))
	for i, n := range notices {
		receipts[i] = n.Receipt
	}
	for i, a := range c.live.find(receipts) {
		if a == nil {
			continue
		}
		c.log.Info("An attempt was closed by others", "job", a.ID, "kind", a.Kind, "queue", a.Queue, "reason", notices[i].Reason)
		a.lost.set(fmt.Errorf("%w: %s", ErrLost, notices[i].Reason))
	}
}
