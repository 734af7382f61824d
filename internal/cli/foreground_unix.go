//go:build unix

package cli

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// inForeground reports whether stdin is a terminal that sends what is typed there, an
// interrupt included, to this program and whatever it runs.
func inForeground(stdin io.Reader) bool {
	file, ok := stdin.(*os.File)
	if !ok {
		return false
	}
	group, err := unix.IoctlGetInt(int(file.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
