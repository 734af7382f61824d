package worker

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// LongestWorker is what New accepts as a name.
const LongestWorker = longestWorker

// SetPatience shortens the time that a statement may take, and the time for the last
// writes of a stop, for a client that has not begun.
func (c *Client) SetPatience(d time.Duration) { c.patience, c.lastWords = d, d }

// OpenSession does to conn what the client does to the connection that it is notified by.
func (c *Client) OpenSession(ctx context.Context, conn *pgx.Conn) error {
	return c.listener.open(ctx, conn)
}
