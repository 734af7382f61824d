// Command awa-admin installs awa and looks after it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/awaqueue/awa/internal/cli"
	"github.com/awaqueue/awa/internal/localpg"
)

func main() {
	// A write that nobody reads fails, instead of ending the program before it has cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := localpg.NotifyContext(context.Background())
	code := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
