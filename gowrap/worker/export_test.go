package worker

import "time"

// SetPatience shortens the time that a statement may take, and the time for the last
// writes of a stop, for a client that has not begun.
func (c *Client) SetPatience(d time.Duration) { c.patience, c.lastWords = d, d }
