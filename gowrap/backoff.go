package awa

import (
	"context"
	"time"
)

// Backoff returns the delay that the server would choose after attempt fails:
// exponential, with jitter, so that two calls differ.
func (c Client) Backoff(ctx context.Context, db DBTX, attempt int) (time.Duration, error) {
	var delay time.Duration
	err := c.value("backoff").
		number("attempt", attempt).
		row(ctx, db).Scan(&delay)
	return delay, wrap("backoff", err)
}
