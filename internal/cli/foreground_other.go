//go:build !unix

package cli

import "io"

func inForeground(io.Reader) bool { return false }
