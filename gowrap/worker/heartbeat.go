package worker

import (
	"context"
	"fmt"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// heartbeats keeps the client's names alive until ctx is done.
func (c *Client) heartbeats(ctx context.Context) {
	var pause backoff
	var down time.Time // since the first of the failures
	for {
		err := c.heartbeat(ctx, min(firstHeartbeat<<min(pause.failures, 10), c.patience))
		wait := c.cfg.HeartbeatInterval
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if down.IsZero() {
				down = time.Now()
			}
			c.warn("Heartbeat failed; will try again", err)
			wait = min(wait, pause.next())
		case !down.IsZero():
			c.log.Info("The server answers again", "after", time.Since(down).Round(time.Millisecond))
			down = time.Time{}
			pause.reset()
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// firstHeartbeat bounds the first try of a heartbeat. It costs the server little, and
// worker_silence leaves no time to wait for a connection that is dead; the next tries
// take longer, for the server may be slow.
const firstHeartbeat = 10 * time.Second

// heartbeat beats once for every name that has attempts, and for the current one.
func (c *Client) heartbeat(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	names := c.live.workers()
	if name := c.identity.known(); name != "" {
		names[name] = struct{}{}
	}
	for name := range names {
		notices, err := c.cfg.Client.Heartbeat(ctx, c.cfg.Pool, name)
		if err != nil {
			return err
		}
		c.heed(notices)
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
