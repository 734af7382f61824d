// Command with runs a command against a PostgreSQL server in a container, which it
// finds in DATABASE_URL, and removes the container afterwards:
//
//	with COMMAND [ARG]...
//
// AWA_DOCKER_IMAGE names another image than the usual ones. Its exit code is that
// of the command.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/awaqueue/awa/internal/dockerpg"
	"github.com/awaqueue/awa/internal/localpg"
)

func main() {
	ctx, stop := localpg.NotifyContext(context.Background())
	defer stop()
	err := run(ctx, os.Args[1:])
	if err == nil {
		return
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "with:", err)
	os.Exit(1)
}

func run(ctx context.Context, command []string) (err error) {
	if len(command) == 0 {
		return errors.New("usage: with COMMAND [ARG]")
	}
	server, err := dockerpg.Start(ctx, dockerpg.Options{
		Image: os.Getenv("AWA_DOCKER_IMAGE"),
		Build: build,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	fmt.Fprintln(os.Stderr, "with: a container of", server.Image)

	child := exec.CommandContext(ctx, command[0], command[1:]...)
	child.Env = append(os.Environ(), "DATABASE_URL="+server.URL())
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	// The command has databases to drop before its server goes.
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = 20 * time.Second
	return child.Run()
}

// build makes the local image. It looks for its script in the directory that make
// runs in.
func build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "scripts/docker-image", dockerpg.Local)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}
