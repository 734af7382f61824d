package localpg

import (
	"context"
	"errors"
	"fmt"
)

// Crash ends the server at once, as SIGQUIT does: without a checkpoint, and
// without what was committed asynchronously and not yet written.
func (s *Server) Crash() { s.kill() }

// Restart starts a server that Crash ended, on its data and at its address.
func (s *Server) Restart(ctx context.Context, opts Options) error {
	bin, err := FindBinaries()
	if err != nil {
		return err
	}
	account, err := serverAccount()
	if err != nil {
		return err
	}
	select {
	case <-s.exited:
	default:
		return errors.New("localpg: restart: the server runs")
	}
	if err := s.startOnce(ctx, bin, account, opts); err != nil {
		return fmt.Errorf("localpg: restart: %w\n%s", err, s.logTail())
	}
	return nil
}
