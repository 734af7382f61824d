package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// WarmMemory touches so many bytes of memory, or half of what is available if that is
// less, and gives them back. The host of a virtual machine may take away what has been
// free for a while, and a page that it must find anew costs about ten times as much
// as one at hand: a run that begins with few of these is fast until they are used up.
func WarmMemory(ctx context.Context, size int64) (err error) {
	available, err := availableMemory()
	if err != nil {
		return err
	}
	const piece = 64 << 20
	var pieces [][]byte
	defer func() { // all at once: one that is given back early would be touched again
		for _, p := range pieces {
			err = errors.Join(err, syscall.Munmap(p))
		}
	}()
	for left := min(size, available/2); left > 0; left -= piece {
		p, err := syscall.Mmap(-1, 0, int(min(left, piece)),
			syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_POPULATE)
		if err != nil {
			return fmt.Errorf("memory to touch: %w", err)
		}
		pieces = append(pieces, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// availableMemory is what can be had without swapping, in bytes.
func availableMemory() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), "MemAvailable:"); found {
			var kB int64
			_, err := fmt.Sscanf(value, "%d kB", &kB)
			return kB << 10, err
		}
	}
	return 0, errors.Join(errors.New("/proc/meminfo does not say what is available"), lines.Err())
}
