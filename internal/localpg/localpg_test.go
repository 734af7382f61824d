package localpg_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// The test binary plays the parent of a server when this is set: it starts
// one, prints its directory and waits to be killed.
const parentEnv = "AWA_LOCALPG_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentEnv) != "" {
		s, err := localpg.Start(context.Background(), localpg.Options{})
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(s.Dir() + "\n")
		select {}
	}
	os.Exit(m.Run())
}

func ask(t *testing.T, url, query string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var answer string
	if err := conn.QueryRow(t.Context(), query).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := pgtest.EmptyServer(t, localpg.Options{Settings: map[string]string{"work_mem": "7MB"}})

	for setting, want := range map[string]string{
		"server_encoding": "UTF8", "lc_collate": "C", "fsync": "off",
		"work_mem": "7MB", "listen_addresses": "127.0.0.1",
	} {
		query := "select current_setting('" + setting + "')"
		if setting == "lc_collate" { // no setting any more from PostgreSQL 16 on
			query = "select datcollate from pg_database where datname = current_database()"
		}
		if got := ask(t, s.URL(), query); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if got := ask(t, s.TCPURL("postgres"), "select host(inet_server_addr())"); got != "127.0.0.1" {
		t.Errorf("the TCP address is %q", got)
	}
	wrong, err := pgx.ParseConfig(s.TCPURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	wrong.Password = "wrong"
	if conn, err := pgx.ConnectConfig(t.Context(), wrong); err == nil {
		conn.Close(t.Context())
		t.Error("TCP lets in a client with a wrong password")
	}

	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stop left %s behind", s.Dir())
	}
}

// tempDir makes TMPDIR a new directory whose path is short enough for a socket, wherever temporary
// files are, and that is open to others, whatever the umask is: as root the server has another user.
func tempDir(t *testing.T, pattern string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", pattern)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	return dir
}

func TestDirectory(t *testing.T) {
	dir := tempDir(t, "awa-")
	if s := pgtest.EmptyServer(t, localpg.Options{}); filepath.Dir(s.Dir()) != dir {
		t.Errorf("TMPDIR is %s, and the server is in %s", dir, s.Dir())
	}
	t.Setenv("TMPDIR", "")
	if s := pgtest.EmptyServer(t, localpg.Options{Fsync: true}); filepath.Dir(s.Dir()) != "/tmp" {
		t.Errorf("a server that is to write to disk is in %s", s.Dir())
	}
}

// A standby finds its primary, whatever the name of the directory that the primary's socket is in.
func TestStandbyOfAPrimaryAnywhere(t *testing.T) {
	tempDir(t, `it's a \ `)
	primary := pgtest.EmptyServer(t, localpg.Options{})
	standby, err := primary.Standby(t.Context(), localpg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Stop() })
	if got := ask(t, standby.URL(), "select pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("the standby is in recovery: %s", got)
	}
}

func TestFsync(t *testing.T) {
	t.Parallel()
	s := pgtest.EmptyServer(t, localpg.Options{Fsync: true})
	if got := ask(t, s.URL(), "select current_setting('fsync')"); got != "on" {
		t.Errorf("fsync is %q, want on", got)
	}
}

func TestBadSettingShowsTheLog(t *testing.T) {
	t.Parallel()
	_, err := localpg.Start(t.Context(), localpg.Options{Settings: map[string]string{"no_such_setting": "1"}})
	if errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip(err)
	}
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("the error hides the server's reason: %v", err)
	}
}

// A session that the server refuses is not one that has to wait until it is up.
func TestRefusedSessionIsNotWaitedFor(t *testing.T) {
	t.Setenv("PGOPTIONS", "-c no_such_setting=1")
	s, err := localpg.Start(t.Context(), localpg.Options{})
	if errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip(err)
	}
	if err == nil {
		t.Fatal(s.Stop(), "the setting was accepted")
	}
	if errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no_such_setting") {
		t.Error(err)
	}
}

// A killed parent takes the server and its directory with it.
func TestGoesWithItsParent(t *testing.T) {
	t.Parallel()
	pgtest.EmptyServer(t, localpg.Options{}) // skips without binaries
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"=1")
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(buf[:n]))
	pidfile, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(pidfile))[0])
	if err != nil {
		t.Fatal(err)
	}

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()

	gone := func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist) && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	for deadline := time.Now().Add(time.Minute); !gone(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("server %d or %s outlives its parent", pid, dir)
		}
	}
}
