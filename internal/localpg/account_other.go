//go:build !unix

package localpg

import (
	"errors"
	"syscall"
)

type account struct{}

// serverAccount fails: a throw-away server needs Unix sockets, process groups
// and a shell.
func serverAccount() (account, error) {
	return account{}, errors.New("localpg: not supported on this system: set DATABASE_URL to a server of your own")
}

func (account) makeDir([]string) (string, error) { return "", errors.ErrUnsupported }
func (account) writeFile(string, string) error   { return errors.ErrUnsupported }
func (account) attributes() *syscall.SysProcAttr { return nil }
func ownGroup() *syscall.SysProcAttr             { return nil }
