//go:build unix

package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user a server runs as.
type account struct {
	credential *syscall.Credential // nil: this process's own user
}

// serverAccount is this process's own user, or an unprivileged one when that
// is root: PostgreSQL refuses to run as root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.ParseUint(u.Uid, 10, 32)
		gid, errG := strconv.ParseUint(u.Gid, 10, 32)
		if errU != nil || errG != nil {
			continue
		}
		return account{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, errors.New("localpg: running as root, and there is neither a user postgres nor nobody to run the server as")
}

// maxSocketDir keeps DIR/.s.PGSQL.65535 inside the 103 bytes that every system
// allows for a socket's path.
const maxSocketDir = 103 - len("/.s.PGSQL.65535")

// makeDir makes the server's private directory in the first of some that the
// account can reach and that is short enough for a socket.
func (a account) makeDir(parents []string) (string, error) {
	var errs []error
	for _, parent := range parents {
		if a.credential != nil && !reachable(parent) {
			errs = append(errs, fmt.Errorf("%s: closed to other users", parent))
			continue
		}
		dir, err := os.MkdirTemp(parent, "awa-pg-")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(dir) > maxSocketDir {
			errs = append(errs, fmt.Errorf("%s: too long for a Unix socket", dir), os.Remove(dir))
			continue
		}
		return dir, a.own(dir)
	}
	return "", fmt.Errorf("localpg: no directory for the server: %w", errors.Join(errs...))
}

// reachable reports whether every user may pass through dir and its parents.
func reachable(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

func (a account) writeFile(path, content string) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil && a.credential != nil {
		err = f.Chown(int(a.credential.Uid), int(a.credential.Gid))
	}
	return errors.Join(err, f.Close())
}

func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Chown(path, int(a.credential.Uid), int(a.credential.Gid))
}

func (a account) attributes() *syscall.SysProcAttr {
	attr := ownGroup()
	attr.Credential = a.credential
	return attr
}

// ownGroup keeps a child out of the way of signals from the terminal.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
