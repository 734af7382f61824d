package localpg

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoBouncer is returned when pgbouncer is not installed.
var ErrNoBouncer = errors.New("pgbouncer not found")

// Bouncer is a running PgBouncer in front of a server, in transaction mode.
type Bouncer struct {
	dir    string
	port   int
	cmd    *exec.Cmd
	exited chan struct{}
	reaper *reaper
}

// StartBouncer puts a PgBouncer before every database of s, with at most size
// server connections for each. It ends with Stop, or with this process.
func (s *Server) StartBouncer(ctx context.Context, size int) (*Bouncer, error) {
	program, err := findBouncer()
	if err != nil {
		return nil, err
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	b := &Bouncer{exited: make(chan struct{})}
	if b.dir, err = account.makeDir(parents(Options{})); err != nil {
		return nil, err
	}
	if b.reaper, err = startReaper(b.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	if b.port, err = freePort(); err == nil {
		err = b.start(program, account, s, size)
	}
	if err == nil {
		err = b.waitReady(ctx)
	}
	if err != nil {
		log, _ := os.ReadFile(b.logFile()) // no log, nothing to add
		return nil, errors.Join(fmt.Errorf("localpg: pgbouncer: %w\n%s", err, log), b.Stop())
	}
	return b, nil
}

// findBouncer looks where Debian puts it, too: not every PATH holds sbin.
func findBouncer() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", fmt.Errorf("localpg: %w", ErrNoBouncer)
}

func (b *Bouncer) start(program string, account account, s *Server, size int) error {
	config := filepath.Join(b.dir, "pgbouncer.ini")
	err := account.writeFile(config, fmt.Sprintf(`[databases]
* = host='%s' port=%d user=%s
[pgbouncer]
listen_addr =
listen_port = %d
unix_socket_dir = %s
auth_type = any
pool_mode = transaction
default_pool_size = %d
max_client_conn = 500
`, s.dir, s.port, superuser, b.port, b.dir, size))
	if err != nil {
		return err
	}
	log, err := create(b.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	b.cmd = exec.Command(program, config)
	b.cmd.Dir = b.dir
	b.cmd.Env = withoutPG(os.Environ())
	b.cmd.Stdout, b.cmd.Stderr = log, log
	b.cmd.SysProcAttr = account.attributes()
	if err := b.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(b.exited)
		_ = b.cmd.Wait() // its exit status says nothing that the log does not
	}()
	return b.reaper.watch(b.cmd.Process.Pid)
}

func (b *Bouncer) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, b.DatabaseURL("postgres")+"&default_query_exec_mode=simple_protocol")
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-b.exited:
			return errors.New("it exited")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// DatabaseURL is the connection string of a database of the server, through the
// pooler.
func (b *Bouncer) DatabaseURL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database}
	u.RawQuery = socketQuery(b.dir, b.port)
	return u.String()
}

// Stop ends the pooler at once and removes its directory.
func (b *Bouncer) Stop() error {
	if b.cmd != nil && b.cmd.Process != nil {
		_ = b.cmd.Process.Signal(syscall.SIGTERM) // fails when it is gone already
		select {
		case <-b.exited:
		case <-time.After(10 * time.Second):
			_ = b.cmd.Process.Kill()
			<-b.exited
		}
	}
	err := os.RemoveAll(b.dir)
	b.reaper.dismiss()
	return err
}

func (b *Bouncer) logFile() string { return filepath.Join(b.dir, "pgbouncer.log") }
