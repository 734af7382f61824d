package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	awa "github.com/awaqueue/awa/gowrap"
)

// identity is the name under which the client claims. The heartbeat of a name
// keeps all its attempts alive, also those of a claim that was committed but
// whose answer was lost. So after such a claim the client goes on under another
// name, and the old one falls silent when the attempts known of it are finished:
// then the lost ones are rescued. While some are not, the client has the others
// rescued itself.
type identity struct {
	base string
	info json.RawMessage

	registering sync.Mutex // held while a name is made known; taken before mu

	mu         sync.Mutex // guards what follows; never held while the server is asked
	epoch      int
	registered bool
	claims     map[string]int         // that are under way, by name
	retired    map[string]*retirement // names given up, while attempts of them are known
}

// retirement is when a name that was given up is next asked about: a claim may also be
// committed long after its answer was given up.
type retirement struct {
	next  time.Time
	pause time.Duration
}

const (
	firstPause   = 5 * time.Second
	longestPause = 5 * time.Minute
)

func newIdentity(cfg Config) *identity {
	return &identity{base: cfg.Name, info: describe(cfg), claims: map[string]int{}, retired: map[string]*retirement{}}
}

// mostNames is how many bytes of queues' names info has room for: every heartbeat writes it again.
const mostNames = 4000

// describe is what operators see of the client.
func describe(cfg Config) json.RawMessage {
	names := slices.Sorted(maps.Keys(cfg.Queues))
	told, bytes := 0, 0
	for told < len(names) && bytes+len(names[told]) <= mostNames {
		bytes += len(names[told])
		told++
	}
	host, _ := os.Hostname()
	info := map[string]any{"host": host, "pid": os.Getpid(), "queues": names[:told]}
	if told < len(names) {
		info["more_queues"] = len(names) - told
	}
	doc, err := json.Marshal(info)
	if err != nil {
		return nil // a queue's name that is no text
	}
	return doc
}

// name is the current name. It is registered.
func (id *identity) name(ctx context.Context, c awa.Client, db awa.DBTX) (string, error) {
	id.registering.Lock()
	defer id.registering.Unlock()
	if name := id.known(); name != "" {
		return name, nil
	}
	// Nobody claims under this name yet, so nobody doubts it: it stays the current one.
	id.mu.Lock()
	name := id.current()
	id.mu.Unlock()
	// A claim that cannot be read has taken its jobs all the same.
	var t time.Time
	if err := db.QueryRow(ctx, "select 'epoch'::timestamptz").Scan(&t); err != nil {
		var unread pgx.ScanArgError
		if errors.As(err, &unread) {
			return "", fmt.Errorf("read a time, which without binary results needs datestyle ISO: %w", err)
		}
		return "", fmt.Errorf("ask for a time: %w", err)
	}
	if err := c.RegisterWorker(ctx, db, name, id.info); err != nil {
		return "", err
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.registered = true
	return name, nil
}

// current is the current name, registered or not. The caller holds mu.
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

// rolledBack tells an error of the statement from one of the connection: the latter
// comes also from a pooler that has lost its server, and then the statement may be
// committed.
func rolledBack(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return false
	}
	severity := answer.SeverityUnlocalized
	if severity == "" {
		severity = answer.Severity
	}
	return severity == "ERROR" && !strings.HasPrefix(answer.Code, "08")
}

// doubt gives up name if the claim that failed with err may have been committed.
func (id *identity) doubt(name string, err error) {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || pgconn.SafeToRetry(err) || rolledBack(err) {
		return
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if name == id.current() {
		id.epoch++
		id.registered = false
		id.retired[name] = &retirement{pause: firstPause}
	}
}

// enter begins a claim under name, unless that was given up meanwhile.
func (id *identity) enter(name string) bool {
	id.mu.Lock()
	defer id.mu.Unlock()
	if name != id.current() {
		return false
	}
	id.claims[name]++
	return true
}

// leave ends a claim, when what it returned is among the live attempts.
func (id *identity) leave(name string) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.claims[name]--; id.claims[name] == 0 {
		delete(id.claims, name)
	}
}

// strangers are the names given up under which no claim is under way any more, and of which
// it is time to ask for attempts that the client does not know. alive returns the names of
// those that it knows: asked once no claim can add to them.
func (id *identity) strangers(alive func() map[string]struct{}, now time.Time) (due []string) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if len(id.retired) == 0 {
		return nil
	}
	names := alive()
	for name, r := range id.retired {
		if id.claims[name] > 0 {
			continue
		}
		if _, ok := names[name]; !ok {
			delete(id.retired, name) // it falls silent
			continue
		}
		if now.Before(r.next) {
			continue
		}
		r.next, r.pause = now.Add(r.pause), min(2*r.pause, longestPause)
		due = append(due, name)
	}
	return due
}

// more has a name asked about at the next heartbeat again: the server rescues a few at a time.
func (id *identity) more(name string) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if r := id.retired[name]; r != nil {
		*r = retirement{pause: firstPause}
	}
}
