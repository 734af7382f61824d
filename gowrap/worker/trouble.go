package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// troubles are the failures that the client waits out.
type troubles struct {
	mu      sync.Mutex // guards what follows
	seen    map[trouble]*occurrences
	dropped time.Time // when the pool's connections were given up last
}

// trouble is what counts as the same failure: an outage of hours, met by every loop
// of the client, shall not fill a log.
type trouble struct{ message, state string }

type occurrences struct {
	logged time.Time
	silent int // since then
}

const (
	// A failure that goes on is logged so often.
	repeatTrouble = time.Minute
	// Connections are not given up more often than this: the new ones may be no better.
	betweenDrops = 5 * time.Second
)

// warn logs a failure that is waited out, and gives up connections that may be the
// reason.
func (c *Client) warn(message string, err error, args ...any) {
	now := time.Now()
	t := trouble{message, sqlState(err)}
	c.troubles.mu.Lock()
	if c.troubles.seen == nil {
		c.troubles.seen = map[trouble]*occurrences{}
	}
	o := c.troubles.seen[t]
	if o == nil {
		o = &occurrences{}
		c.troubles.seen[t] = o
	}
	level, silent := slog.LevelWarn, o.silent
	if now.Sub(o.logged) < repeatTrouble {
		level = slog.LevelDebug
		o.silent++
	} else {
		o.logged, o.silent = now, 0
	}
	drop := outlived(err) && now.Sub(c.troubles.dropped) >= betweenDrops
	if drop {
		c.troubles.dropped = now
	}
	c.troubles.mu.Unlock()

	args = append(args, "error", err)
	if silent > 0 && level == slog.LevelWarn {
		args = append(args, "times_unlogged", silent)
	}
	c.log.Log(context.Background(), level, message, args...)
	if drop {
		c.cfg.Pool.Reset()
		if c.listener != nil {
			c.listener.doubt()
		}
	}
}

// outlived tells the failures after which the other connections of the pool are not
// worth a try each: a statement that got no answer, for a path that lost one
// connection without a word has lost all; and a server that takes no writes, for
// after a failover a connection stays with the server that it was made to.
func outlived(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || sqlState(err) == readOnly
}

// readOnly is the SQLSTATE of a write in a read-only transaction.
const readOnly = "25006"

func sqlState(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}
