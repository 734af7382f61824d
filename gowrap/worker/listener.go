package worker

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
)

// listener has one connection of its own that waits for jobs on behalf of the
// queues. The same session holds the lock of the client that maintains.
type listener struct {
	c *Client

	mu        sync.Mutex // guards what follows
	sessions  int64      // so far
	up        bool       // the last of them is open
	leads     bool
	requests  []request
	doubted   bool   // the connection is to be tested at once
	interrupt func() // ends the wait for a notification; nil: none
}

// request asks the listener's session to wait for a queue, or no more.
type request struct {
	queue *queue
	start bool
	done  chan int64 // the session that waits, or 0; buffered
}

// silence is how long the connection may be silent before it is tested.
const silence = 20 * time.Second

func newListener(c *Client) *listener { return &listener{c: c} }

// session is the number of the open session, or 0.
func (l *listener) session() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up {
		return 0
	}
	return l.sessions
}

// leader reports whether this client is the one that maintains.
func (l *listener) leader() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leads
}

// startWaiting returns when a session waits for q, and its number: as long as that
// is the open one, a job that becomes claimable sets q.wake. It returns 0 while
// there is no connection, or none that answers within the time of a poll.
func (l *listener) startWaiting(ctx context.Context, q *queue) int64 {
	r := request{q, true, make(chan int64, 1)}
	asked := l.ask(r, 0)
	if asked == 0 {
		return 0
	}
	timer := time.NewTimer(l.c.cfg.PollInterval)
	defer timer.Stop()
	select {
	case session := <-r.done:
		return session
	case <-timer.C:
	case <-ctx.Done():
	}
	l.stopWaiting(q, asked) // in case it does start
	return 0
}

// stopWaiting takes back what startWaiting did in a session.
func (l *listener) stopWaiting(q *queue, session int64) {
	l.ask(request{q, false, make(chan int64, 1)}, session)
}

// ask asks the open session, which must be the one named unless that is 0. It returns the number
// of the session asked, or 0.
func (l *listener) ask(r request, session int64) (asked int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || session != 0 && session != l.sessions {
		return 0
	}
	l.requests = append(l.requests, r)
	l.endWaitLocked()
	return l.sessions
}

// endWait ends the wait for a notification, if there is one.
func (l *listener) endWait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endWaitLocked()
}

func (l *listener) endWaitLocked() {
	if l.interrupt != nil {
		l.interrupt()
	}
}

// doubt has the connection tested at once.
func (l *listener) doubt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubted = true
	l.endWaitLocked()
}

func (l *listener) takeDoubt() (doubted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	doubted, l.doubted = l.doubted, false
	return doubted
}

// steady is how long a connection must have lasted for the next one to be made
// without much of a pause.
const steady = 10 * time.Second

// loop keeps a connection until ctx is done.
func (l *listener) loop(ctx context.Context) {
	var pause backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := l.listen(ctx)
		l.down()
		if time.Since(began) >= steady {
			pause.reset()
		}
		if ctx.Err() != nil {
			return
		}
		l.c.warn("Lost the listening connection; polling meanwhile", err)
		sleep(ctx, pause.next())
	}
}

// down ends all waiting and tells the queues.
func (l *listener) down() {
	l.mu.Lock()
	l.up, l.leads, l.interrupt = false, false, nil
	left := l.requests
	l.requests = nil
	l.mu.Unlock()
	for _, r := range left {
		r.done <- 0
	}
	l.wakeAll()
}

func (l *listener) wakeAll() {
	for _, q := range l.c.queues {
		q.wake.set()
	}
}

// listen listens on one connection until it fails.
func (l *listener) listen(ctx context.Context) error {
	conn, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // nothing of the session is kept
	}()
	if err := l.open(ctx, conn); err != nil {
		return err
	}
	l.mu.Lock()
	l.up, l.doubted = true, false
	l.sessions++
	l.mu.Unlock()
	l.c.door.open()
	l.wakeAll() // they may wait by the connection from now on
	var tested time.Time
	for {
		if l.takeDoubt() || time.Since(tested) > l.testEvery() {
			if err := l.test(ctx, conn); err != nil {
				return err
			}
			tested = time.Now()
		}
		if err := l.serve(ctx, conn); err != nil {
			return err
		}
	}
}

// connect takes a connection out of the pool: what the pool is configured to do
// with new connections holds for this one, too.
func (l *listener) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.c.patience)
	defer cancel()
	conn, err := l.c.cfg.Pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return conn.Hijack(), nil
}

// open begins to listen. The session must not outlive this client for long: it holds
// the lock of the client that maintains, and a server notices by itself only after
// hours that nobody is at the other end. To wait in silence is what it is for.
func (l *listener) open(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, l.c.patience)
	defer cancel()
	_, err := conn.Exec(ctx, `select set_config('tcp_keepalives_idle', '30', false),
		set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '3', false),
		set_config('tcp_user_timeout', '60s', false), set_config('idle_session_timeout', '0', false)`)
	if err != nil {
		return err
	}
	return l.c.cfg.Client.Listen(ctx, conn)
}

func (l *listener) testEvery() time.Duration {
	if l.c.cfg.DisableMaintain || l.leader() {
		return silence
	}
	return 5 * time.Second
}

// errReadOnly is the end of a session that can neither maintain nor be notified: its
// server is not, or no more, the one that takes writes.
var errReadOnly = errors.New("worker: the listening connection is to a server that takes no writes")

// test proves that the connection is alive and its server the right one, and tries to
// become the client that maintains: at most one session holds the lock.
func (l *listener) test(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, l.c.patience)
	defer cancel()
	lead := !l.c.cfg.DisableMaintain && !l.leader()
	var reads, leads bool
	err := conn.QueryRow(ctx, `select current_setting('transaction_read_only')::boolean,
		case when $1::boolean and not current_setting('transaction_read_only')::boolean
			then pg_try_advisory_lock($2::bigint) else false end`,
		lead, leaderKey(l.c.cfg.Client)).Scan(&reads, &leads)
	switch {
	case err != nil:
		return err
	case reads:
		return errReadOnly
	case !lead:
		return nil
	}
	l.mu.Lock()
	l.leads = leads
	l.mu.Unlock()
	return nil
}

// leaderKey is the advisory lock of the client that maintains a schema. The
// engine's own locks have two keys, this one has one: they never meet.
func leaderKey(client awa.Client) int64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "awa worker maintains %s", client.Schema())
	return int64(h.Sum64())
}

// serve does what was asked for, else waits for one notification.
func (l *listener) serve(ctx context.Context, conn *pgx.Conn) error {
	every := l.testEvery()
	socket := conn.PgConn().Conn()
	l.mu.Lock()
	requests := l.requests
	l.requests = nil
	wait := len(requests) == 0 && !l.doubted
	if wait {
		_ = socket.SetReadDeadline(time.Now().Add(every)) // if it is closed the wait fails
		l.interrupt = func() { _ = socket.SetReadDeadline(time.Unix(1, 0)) }
	}
	l.mu.Unlock()
	if !wait {
		return l.do(ctx, conn, requests)
	}

	// A context would end the wait as the pool is configured to end a statement, which may be
	// by asking the server and giving it some time.
	stop := context.AfterFunc(ctx, l.endWait)
	note, err := conn.WaitForNotification(context.Background())
	stop()
	l.mu.Lock()
	l.interrupt = nil
	l.mu.Unlock()
	_ = socket.SetReadDeadline(time.Time{})
	var ended net.Error
	switch {
	case err == nil && note == nil:
		// The pool's own handler of notifications has it.
		l.wakeAll()
		return nil
	case err == nil:
		if q := l.c.byName[note.Payload]; q != nil {
			q.wake.set()
		}
		return nil
	case errors.As(err, &ended) && ended.Timeout() && !conn.IsClosed():
		return ctx.Err()
	default:
		return err
	}
}

// do makes the session wait for queues, then for others no more: all of them by one statement
// each, for there may be thousands. A queue that is asked for twice is held twice, so it does
// not matter which came first.
func (l *listener) do(ctx context.Context, conn *pgx.Conn, requests []request) error {
	ctx, cancel := context.WithTimeout(ctx, l.c.patience)
	defer cancel()
	var start, stop []string
	for _, r := range requests {
		if r.start {
			start = append(start, r.queue.name)
		} else {
			stop = append(stop, r.queue.name)
		}
	}
	var err error
	if len(start) > 0 {
		err = l.c.cfg.Client.StartWaiting(ctx, conn, start)
	}
	if len(stop) > 0 && err == nil {
		err = l.c.cfg.Client.StopWaiting(ctx, conn, stop)
	}
	session := l.session()
	if err != nil {
		session = 0
	}
	for _, r := range requests {
		r.done <- session
	}
	return err
}
