package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// The test binary is the program when this is set.
const programEnv = "AWA_ADMIN_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		main()
	}
	pgtest.Main(m)
}

// program is a command line of awa-admin on a server of its own. gone demands that it has left
// no database there.
func program(t *testing.T, args ...string) (cmd *exec.Cmd, gone func()) {
	t.Helper()
	server := pgtest.Server(t, localpg.Options{})
	cmd = exec.CommandContext(t.Context(), os.Args[0], append([]string{"--database-url", server.URL()}, args...)...)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	return cmd, func() {
		t.Helper()
		var left int
		if err := pgtest.Conn(t, server.URL()).QueryRow(context.Background(),
			`select count(*) from pg_database where datname like 'awa\_test\_%'`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left > 0 {
			t.Errorf("%d databases are left", left)
		}
	}
}

// The reader of a pipe goes away, as head does: the program takes its database with it.
func TestClosedPipe(t *testing.T) {
	t.Parallel()
	cmd, gone := program(t, "demo")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if _, err := bufio.NewReaderSize(out, 16).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	out.Close()
	_ = cmd.Wait()
	gone()
}

// So it does when its terminal is closed, or it is told to stop in another way.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, told := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT} {
		t.Run(told.String(), func(t *testing.T) {
			t.Parallel()
			if told == syscall.SIGHUP && signal.Ignored(told) {
				t.Skip("under nohup the program is to outlive its terminal")
			}
			cmd, gone := program(t, "server", "run", "--", "sh", "-c", "echo ready; exec cat")
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(told); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			gone()
		})
	}
}
