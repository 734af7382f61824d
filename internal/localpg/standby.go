package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Standby starts a hot standby of s that follows it by streaming, and returns when it
// does. s crashes and is restarted with opts meanwhile: its files are copied.
func (s *Server) Standby(ctx context.Context, opts Options) (*Server, error) {
	standby, bin, account, err := newServer(s.password, opts)
	if err != nil {
		return nil, err
	}
	s.Crash()
	if err = standby.copyData(s, account); err == nil {
		err = s.Restart(ctx, opts)
	}
	if err == nil {
		err = standby.startOnFreePort(ctx, bin, account, opts)
	}
	if err == nil {
		err = s.waitFollowed(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("localpg: standby: %w", err), standby.Stop())
	}
	return standby, nil
}

func (s *Server) copyData(from *Server, account account) error {
	cmd := exec.Command("cp", "-R", "-p", from.dataDir(), s.dataDir())
	s.prepare(cmd, account)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	_ = os.Remove(filepath.Join(s.dataDir(), "postmaster.pid"))
	// The last line counts.
	conf, err := os.ReadFile(filepath.Join(s.dataDir(), "postgresql.auto.conf"))
	if err != nil {
		return err
	}
	dir := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(from.dir)
	conninfo := fmt.Sprintf("host='%s' port=%d user=%s", dir, from.port, superuser)
	line := "primary_conninfo = '" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(conninfo) + "'\n"
	if err := account.writeFile(filepath.Join(s.dataDir(), "postgresql.auto.conf"), string(conf)+line); err != nil {
		return err
	}
	return account.writeFile(filepath.Join(s.dataDir(), "standby.signal"), "")
}

// waitFollowed returns once a standby streams from s.
func (s *Server) waitFollowed(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `do $$
begin
  for n in 1 .. 3000 loop
    perform pg_stat_clear_snapshot();
    if exists (select from pg_stat_replication as r where r.state = 'streaming') then
      return;
    end if;
    perform pg_sleep(0.01);
  end loop;
  raise 'nobody follows';
end $$`)
	return err
}
