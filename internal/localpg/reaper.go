package localpg

import (
	"fmt"
	"io"
	"os/exec"
)

// reaper is a shell that outlives this process just long enough to clean up
// after it. It waits on a pipe whose other end only this process holds: the
// end of file comes when the process ends, also by SIGKILL, where no deferred
// call and no signal handler runs.
type reaper struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// The script reads the postmaster's pid, again after a failed start, and
// "done" when there is nothing left to do.
const reaperScript = `
pid=
while read -r line; do
  case $line in
    done) exit 0 ;;
    *) pid=$line ;;
  esac
done
if [ -n "$pid" ]; then
  kill -QUIT "$pid" 2>/dev/null
  n=0
  while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do
    sleep 0.1; n=$((n + 1))
  done
fi
rm -rf -- "$1"
`

func startReaper(dir string) (*reaper, error) {
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "sh", dir)
	cmd.SysProcAttr = ownGroup()
	cmd.Dir = "/"
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("localpg: reaper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("localpg: reaper: %w", err)
	}
	return &reaper{cmd: cmd, pipe: pipe}, nil
}

// watch tells the reaper which process to end.
func (r *reaper) watch(pid int) error {
	_, err := fmt.Fprintln(r.pipe, pid)
	return err
}

// dismiss ends the reaper when the server and its directory are gone.
func (r *reaper) dismiss() {
	_, _ = fmt.Fprintln(r.pipe, "done")
	_ = r.pipe.Close()
	_ = r.cmd.Wait()
}
