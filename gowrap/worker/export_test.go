package worker

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// LongestWorker is what New accepts as a name.
const LongestWorker = longestWorker

// Longest is the longest delay that the server accepts.
const Longest = longest

// Together is the delay that the server is told.
var Together = together

// Cut is where a range of receipts is cut in two.
var Cut = cut

// SetPatience shortens the time that a statement may take, and the time for the last
// writes of a stop, for a client that has not begun.
func (c *Client) SetPatience(d time.Duration) { c.patience, c.lastWords = d, d }

// SetGrace sets the time that handlers and claims have at the end of a stop, for a client that
// has not begun.
func (c *Client) SetGrace(d time.Duration) { c.grace = d }

// Recheck asks which attempts are open, as after a silence of the server.
func (c *Client) Recheck(ctx context.Context) error { return c.recheck(ctx) }

// DoubtName gives the client's name up, as after a claim whose answer was lost.
func (c *Client) DoubtName() { c.identity.doubt(c.identity.known(), io.ErrUnexpectedEOF) }

// Heartbeat beats once.
func (c *Client) Heartbeat(ctx context.Context) error {
	_, err := c.heartbeat(ctx, c.patience)
	return err
}

// MaintainRound is one round of maintenance. It reports whether that brought jobs.
func (c *Client) MaintainRound(ctx context.Context) (worked bool, err error) {
	return c.maintainer.round(ctx, c.patience)
}

// OpenSession does to conn what the client does to the connection that it is notified by.
func (c *Client) OpenSession(ctx context.Context, conn *pgx.Conn) error {
	return c.listener.open(ctx, conn)
}
