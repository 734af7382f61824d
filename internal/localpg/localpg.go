// Package localpg starts throw-away PostgreSQL servers: a fresh cluster in a
// temporary directory, gone when its process is.
//
// It serves the demo and the tests. Nothing in it is fit for data one wants to
// keep.
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// superuser is the one role of a fresh cluster.
const superuser = "postgres"

// Options configures a server.
type Options struct {
	// Fsync makes commits durable, keeps the cluster on disk and has plans compiled, as on
	// a real server. Defaults to false, which is several times faster and right for tests;
	// benchmarks want true.
	Fsync bool
	// Settings are further server settings, by name; they win over the
	// defaults of this package.
	Settings map[string]string
}

// Server is a running throw-away server.
type Server struct {
	dir      string
	port     int
	password string
	cmd      *exec.Cmd
	exited   chan struct{} // closed when the postmaster is gone
	reaper   *reaper
	stop     sync.Once
	stopErr  error
}

// NotifyContext is ctx, done when the process is told to stop by SIGINT, SIGTERM or,
// unless it was started to outlive its terminal, SIGHUP. Programs that start a server run
// under it, so that their deferred Stop is reached.
func NotifyContext(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signal.NotifyContext(ctx, signals...)
}

// Start creates a cluster and starts its server. ctx bounds the start alone:
// a started server runs until Stop, or until this process ends, however it
// ends.
//
// The server listens on a Unix socket in a private directory, without a
// password, and on a free port of 127.0.0.1, with a random one. When this
// process runs as root the server runs as an unprivileged user, as PostgreSQL
// demands.
func Start(ctx context.Context, opts Options) (*Server, error) {
	s, bin, account, err := newServer(rand.Text(), opts)
	if err != nil {
		return nil, err
	}
	if err := s.initdb(ctx, bin, account); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	if err := s.startOnFreePort(ctx, bin, account, opts); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// newServer makes a server's directory, which goes with this process, and finds what it is
// started by and as.
func newServer(password string, opts Options) (s *Server, bin string, account account, err error) {
	if bin, err = FindBinaries(); err != nil {
		return nil, "", account, err
	}
	if account, err = serverAccount(); err != nil {
		return nil, "", account, err
	}
	dir, err := account.makeDir(parents(opts))
	if err != nil {
		return nil, "", account, err
	}
	s = &Server{dir: dir, password: password}
	if s.reaper, err = startReaper(dir); err != nil {
		return nil, "", account, errors.Join(err, os.RemoveAll(dir))
	}
	return s, bin, account, nil
}

// parents are the directories to try for a server's own.
func parents(opts Options) []string {
	dirs := []string{os.TempDir(), "/tmp", "/var/tmp"}
	if dir := memoryDir(); dir != "" && !opts.Fsync {
		dirs = slices.Insert(dirs, 0, dir)
	}
	return dirs
}

// initdb makes the cluster: UTF8 and the C locale, so that every machine sorts
// alike.
func (s *Server) initdb(ctx context.Context, bin string, account account) error {
	pwfile := filepath.Join(s.dir, "password")
	if err := account.writeFile(pwfile, s.password); err != nil {
		return err
	}
	defer os.Remove(pwfile)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"),
		"--pgdata="+s.dataDir(), "--username="+superuser, "--pwfile="+pwfile,
		"--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-sync")
	s.prepare(cmd, account)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("localpg: initdb: %w\n%s", err, out)
	}
	return nil
}

// startOnFreePort tries again when another process takes the port between its
// choice and the server's bind.
func (s *Server) startOnFreePort(ctx context.Context, bin string, account account, opts Options) error {
	for attempt := 1; ; attempt++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.port = port
		err = s.startOnce(ctx, bin, account, opts)
		if err == nil {
			return nil
		}
		log := s.logTail()
		if attempt < 3 && strings.Contains(log, "Address already in use") {
			continue
		}
		return fmt.Errorf("localpg: start: %w\n%s", err, log)
	}
}

// create makes a new file in the place of an old one. The directory may belong to
// another user than this process: a link that this one left there leads nowhere.
func create(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (s *Server) startOnce(ctx context.Context, bin string, account account, opts Options) error {
	log, err := create(s.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", s.dataDir()}
	args = append(args, s.settings(opts)...)
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.prepare(s.cmd, account)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // its exit status says nothing that the log does not
	}(s.cmd, s.exited)
	if err := s.reaper.watch(s.cmd.Process.Pid); err != nil {
		return err
	}
	return s.waitReady(ctx)
}

// waitReady waits until a session begins. It is not worth the wait when the server is up and
// refuses one, as it does when PGOPTIONS has a setting that it does not know.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return conn.Close(ctx)
		}
		const startingUp = "57P03"
		if answer, ok := errors.AsType[*pgconn.PgError](err); ok && answer.Code != startingUp {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-s.exited:
			return errors.New("the server exited")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// settings are the command-line settings, in a stable order.
func (s *Server) settings(opts Options) []string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.port),
		"unix_socket_directories": s.dir,
		"max_connections":         "200",
		"timezone":                "UTC",
	}
	if !opts.Fsync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
		settings["max_wal_size"] = "256MB" // it may be in memory
		settings["jit"] = "off"            // without statistics it takes longer than the query
	}
	for name, value := range opts.Settings {
		settings[name] = value
	}
	var args []string
	for name, value := range settings {
		args = append(args, "--"+name+"="+value)
	}
	slices.Sort(args)
	return args
}

// prepare makes cmd run in the server's directory, as the server's user, in a
// process group of its own: a Ctrl-C at the terminal reaches this process, and
// Stop the server.
func (s *Server) prepare(cmd *exec.Cmd, account account) {
	cmd.Dir = s.dir
	cmd.Env = append(withoutPG(os.Environ()), "LC_ALL=C")
	cmd.SysProcAttr = account.attributes()
}

// Stop ends the server at once and removes its directory. It may be called
// more than once.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		if s.exited != nil {
			s.kill()
		}
		s.stopErr = os.RemoveAll(s.dir)
		s.reaper.dismiss()
	})
	return s.stopErr
}

// kill asks for an immediate shutdown: nothing in the cluster is worth a
// checkpoint.
func (s *Server) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // fails when it is gone already
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// URL is the connection string of database postgres, over the Unix socket, as
// superuser.
func (s *Server) URL() string { return s.DatabaseURL("postgres") }

// DatabaseURL is URL for another database.
func (s *Server) DatabaseURL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database}
	u.RawQuery = socketQuery(s.dir, s.port)
	return u.String()
}

// socketQuery leads to a Unix socket. To libpq and pgx a plus is a plus.
func socketQuery(dir string, port int) string {
	return strings.ReplaceAll(url.Values{"host": {dir}, "port": {strconv.Itoa(port)}}.Encode(), "+", "%20")
}

// TCPURL is the connection string of a database over TCP, for clients that
// know no Unix sockets.
func (s *Server) TCPURL(database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(superuser, s.password),
		Host:   net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:   "/" + database,
	}
	return u.String()
}

// Dir is the server's directory; it goes with Stop.
func (s *Server) Dir() string { return s.dir }

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "server.log") }

// Log is what the server has logged; empty where that cannot be read.
func (s *Server) Log() string {
	log, _ := os.ReadFile(s.logFile())
	return string(log)
}

func (s *Server) logTail() string {
	log := s.Log()
	return log[max(0, len(log)-4000):]
}

// connectionVars are what would lead a client to another server.
var connectionVars = []string{
	"DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE",
	"PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSSLMODE",
	"PGOPTIONS", "PGDATA",
}

func withoutPG(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(connectionVars, name)
	})
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("localpg: free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
