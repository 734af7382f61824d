package worker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
)

// Config configures a client. Pool and Queues are required.
type Config struct {
	// Pool is where the client's statements run. It uses a connection per queue for
	// claims and up to five more for the rest, each only while a statement runs; with
	// fewer they wait for each other. One more connection is taken out of the pool for
	// LISTEN, unless PollOnly. Heartbeats do not wait for handlers that hold the whole
	// pool: they connect beside it. Close the pool only after the client has stopped, or
	// what handlers decided cannot be written.
	Pool *pgxpool.Pool
	// Client names the schema. The zero value is the schema "awa".
	Client awa.Client
	// Queues to work on, by name.
	Queues map[string]QueueConfig
	// MaxWorkers is the most handlers that run at once, of all queues together.
	// When the queues want more than that, they share it by their weights.
	// Defaults to the sum of what the queues allow.
	MaxWorkers int
	// Name of this client among the workers: unique, because a heartbeat keeps all
	// attempts of that name alive. Up to 180 characters. Defaults to the host's name,
	// the process id and some random letters.
	Name string

	// PollInterval is how long the client sleeps before it looks at an empty queue
	// again without being notified. Defaults to 1 s, with PollOnly to 100 ms, and to 2 ms
	// for each queue if that is more.
	PollInterval time.Duration
	// PollOnly does without LISTEN, so that nothing needs the state of a session. It
	// must be set behind a pooler in transaction mode.
	PollOnly bool

	// CompleteDelay is the longest that a finished attempt waits for others to be
	// written with it. Defaults to 5 ms.
	CompleteDelay time.Duration
	// CompleteBatch is how many finished attempts are written without waiting for
	// more. Defaults to 500, or MaxUnacknowledged if that is less.
	CompleteBatch int
	// MaxUnacknowledged bounds what a crash repeats: no job is claimed while so
	// many handlers have returned whose finish is not yet written. Defaults to
	// 4 times CompleteBatch.
	MaxUnacknowledged int

	// SoftStopTimeout is how long handlers may go on after a stop before their
	// contexts are cancelled. Defaults to 10 s; negative cancels at once.
	SoftStopTimeout time.Duration

	// HeartbeatInterval is how often the client says that it is alive, and learns
	// which of its attempts others closed. Defaults to 5 s. Keep it below a third
	// of the server's worker_silence.
	HeartbeatInterval time.Duration
	// Lease is what claims ask for. It matters only if the worker's row is gone, since
	// otherwise the heartbeat counts. Defaults to 5 minutes.
	Lease time.Duration

	// CallbackPollInterval is how often a handler in AwaitCallback looks for the
	// answer, by a statement of its own. Defaults to 1 s.
	CallbackPollInterval time.Duration

	// MaintainInterval is the pause between two rounds of maintenance while there is
	// something to do; the pause grows to 1 s when there is not. Defaults to 100 ms.
	// Of the clients that listen one maintains at a time.
	MaintainInterval time.Duration
	// DisableMaintain leaves maintenance to others.
	DisableMaintain bool

	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// QueueConfig configures one queue of a client.
type QueueConfig struct {
	// MaxWorkers is the most handlers of this queue that run at once. Defaults to
	// Config.MaxWorkers, or else to 100.
	MaxWorkers int
	// Weight is the queue's share when queues compete for Config.MaxWorkers: one
	// of weight 3 gets three times the jobs of one of weight 1. Defaults to 1.
	Weight int
	// MaxClaim is the most jobs of one claim, and fewer are claimed for a while when
	// their answer has not come within half a minute, or within the server's
	// statement_timeout. Defaults to 500.
	MaxClaim int
}

// longestName is what the server accepts, in characters. A worker's name leaves room for
// the number that is added when the client goes on under another one; see identity.
const (
	longestName   = 200
	longestWorker = 180
)

// pollOfOne bounds what thousands of idle queues cost: 500 looks a second at all of them.
const pollOfOne = 2 * time.Millisecond

// withDefaults returns the config completed, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.Pool == nil {
		return c, errors.New("worker: Config.Pool is nil")
	}
	if len(c.Queues) == 0 {
		return c, errors.New("worker: Config.Queues is empty")
	}
	queues := make(map[string]QueueConfig, len(c.Queues))
	sum := 0
	for name, q := range c.Queues {
		if utf8.RuneCountInString(name) > longestName {
			return c, fmt.Errorf("worker: queue %.40q…: a name has up to %d characters", name, longestName)
		}
		if name == "" || q.MaxWorkers < 0 || q.Weight < 0 || q.MaxClaim < 0 {
			return c, fmt.Errorf("worker: queue %q: a name is missing or a number is negative", name)
		}
		setDefault(&q.MaxWorkers, c.MaxWorkers)
		setDefault(&q.MaxWorkers, 100)
		setDefault(&q.Weight, 1)
		setDefault(&q.MaxClaim, 500)
		sum += q.MaxWorkers
		queues[name] = q
	}
	c.Queues = queues
	if c.MaxWorkers < 0 || c.CompleteBatch < 0 || c.MaxUnacknowledged < 0 {
		return c, errors.New("worker: MaxWorkers, CompleteBatch and MaxUnacknowledged must not be negative")
	}
	setDefault(&c.MaxWorkers, sum)
	if c.Name == "" {
		c.Name = defaultName()
	}
	if utf8.RuneCountInString(c.Name) > longestWorker {
		return c, fmt.Errorf("worker: Config.Name %.40q…: a name has up to %d characters", c.Name, longestWorker)
	}
	if c.Lease > longest {
		return c, fmt.Errorf("worker: Config.Lease %s: want at most %s", c.Lease, longest)
	}
	poll := time.Second
	if c.PollOnly {
		poll = 100 * time.Millisecond
	}
	setDefault(&c.PollInterval, max(poll, time.Duration(len(c.Queues))*pollOfOne))
	setDefault(&c.CompleteDelay, 5*time.Millisecond)
	setDefault(&c.CompleteBatch, 500)
	setDefault(&c.MaxUnacknowledged, 4*c.CompleteBatch)
	c.CompleteBatch = min(c.CompleteBatch, c.MaxUnacknowledged)
	setDefault(&c.SoftStopTimeout, 10*time.Second)
	setDefault(&c.HeartbeatInterval, 5*time.Second)
	setDefault(&c.Lease, 5*time.Minute)
	setDefault(&c.CallbackPollInterval, defaultCallbackPoll)
	setDefault(&c.MaintainInterval, 100*time.Millisecond)
	for name, d := range map[string]time.Duration{
		"PollInterval": c.PollInterval, "CompleteDelay": c.CompleteDelay, "HeartbeatInterval": c.HeartbeatInterval,
		"Lease": c.Lease, "MaintainInterval": c.MaintainInterval, "CallbackPollInterval": c.CallbackPollInterval,
	} {
		if d < 0 {
			return c, fmt.Errorf("worker: Config.%s is negative", name)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func defaultName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if len(host) > 100 {
		host = host[:100]
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:8]))
}
