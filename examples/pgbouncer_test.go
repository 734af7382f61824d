package examples_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestPgBouncer(t *testing.T) {
	program := findPgBouncer(t)
	db := open(t)
	port := startPgBouncer(t, program, db)
	env := append(db.env, "PGHOST=127.0.0.1", fmt.Sprintf("PGPORT=%d", port), "PGDATABASE=app")
	workUntilStopped(t, db, env, "-pooled", "-enqueue", "13")
}

func findPgBouncer(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	t.Skip("pgbouncer is not installed")
	return ""
}

// startPgBouncer starts PgBouncer with the example's configuration, on a port of
// its own and without passwords, and returns the port.
func startPgBouncer(t *testing.T, program string, db database) int {
	t.Helper()
	port := freePort(t)
	c := db.Config().ConnConfig
	ini, err := os.ReadFile("pgbouncer/pgbouncer.ini")
	if err != nil {
		t.Fatal(err)
	}
	app := fmt.Sprintf("app = host='%s' port=%d dbname=%s user=%s", c.Host, c.Port, c.Database, c.User)
	if c.Password != "" { // PgBouncer takes no empty one
		app += " password=" + c.Password
	}
	for pattern, line := range map[string]string{
		`(?m)^app = .*$`:         app,
		`(?m)^listen_port = .*$`: fmt.Sprintf("listen_port = %d", port),
		`(?m)^auth_type = .*$`:   "auth_type = any",
		`(?m)^auth_file = .*$`:   "",
	} {
		re := regexp.MustCompile(pattern)
		if !re.Match(ini) {
			t.Fatalf("no %s in the example", pattern)
		}
		ini = re.ReplaceAllLiteral(ini, []byte(line))
	}
	// A directory that another user may read: PgBouncer does not run as root.
	dir, err := os.MkdirTemp("", "awa-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, ini, 0o644); err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, append(asUser(t), file)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("pgbouncer wrote\n%s", &out)
		}
	})

	url := fmt.Sprintf("postgres://%s@127.0.0.1:%d/app", c.User, port)
	deadline := time.Now().Add(patience)
	for {
		conn, err := pgx.Connect(t.Context(), url)
		if err == nil {
			_ = conn.Close(t.Context())
			return port
		}
		select {
		case <-exited:
			t.Fatalf("pgbouncer ended\n%s", &out)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// asUser is the option by which root gives PgBouncer an ordinary user: the one
// that may reach the socket of a throw-away server.
func asUser(t *testing.T) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if _, err := user.Lookup(name); err == nil {
			return []string{"-u", name}
		}
	}
	t.Skip("running as root, and there is no user for pgbouncer")
	return nil
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
