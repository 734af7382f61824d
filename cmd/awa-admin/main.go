// Command awa-admin installs awa and looks after it.
package main

import (
	"context"
	"os"

	"github.com/awaqueue/awa/internal/cli"
	"github.com/awaqueue/awa/internal/localpg"
)

func main() {
	ctx, stop := localpg.NotifyContext(context.Background())
	code := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
