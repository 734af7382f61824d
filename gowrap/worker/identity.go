package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	awa "github.com/awaqueue/awa/gowrap"
)

// identity is the name under which the client claims. The heartbeat of a name
// keeps all its attempts alive, also those of a claim that was committed but
// whose answer was lost. So after such a claim the client goes on under another
// name, and the old one falls silent when the attempts known of it are finished:
// then the lost ones are rescued.
type identity struct {
	base string
	info json.RawMessage

	mu         sync.Mutex // guards what follows
	epoch      int
	registered bool
}

func newIdentity(cfg Config) *identity {
	queues := make([]string, 0, len(cfg.Queues))
	for name := range cfg.Queues {
		queues = append(queues, name)
	}
	host, _ := os.Hostname() // for operators only
	info, err := json.Marshal(map[string]any{"host": host, "pid": os.Getpid(), "queues": queues})
	if err != nil {
		info = nil // a queue's name that is no text
	}
	return &identity{base: cfg.Name, info: info}
}

// name is the current name. It is registered.
func (id *identity) name(ctx context.Context, c awa.Client, db awa.DBTX) (string, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if !id.registered {
		if err := c.RegisterWorker(ctx, db, id.current(), id.info); err != nil {
			return "", err
		}
		id.registered = true
	}
	return id.current(), nil
}

// current is the current name, registered or not.
func (id *identity) current() string {
	if id.epoch == 0 {
		return id.base
	}
	return fmt.Sprintf("%s/%d", id.base, id.epoch)
}

// known is the current name if it is registered, else empty.
func (id *identity) known() string {
	id.mu.Lock()
	defer id.mu.Unlock()
	if !id.registered {
		return ""
	}
	return id.current()
}

// doubt gives up name if the claim that failed with err may have been committed.
func (id *identity) doubt(name string, err error) {
	var refused *pgconn.PgError
	if errors.As(err, &refused) || pgconn.SafeToRetry(err) {
		return
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if name == id.current() {
		id.epoch++
		id.registered = false
	}
}
