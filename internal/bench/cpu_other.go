//go:build !linux

package bench

import "time"

// ProcessCPU is known on Linux alone.
func ProcessCPU(uint32) (time.Duration, bool) { return 0, false }
