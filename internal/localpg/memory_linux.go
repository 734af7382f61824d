package localpg

import (
	"os"
	"syscall"
)

// room is what a directory in memory must have to spare for a server.
const room = 4 << 30

// memoryDir is a directory whose files are kept in memory, or empty where there is none with
// enough room, or TMPDIR says where temporary files belong. A database of awa has some thousand
// files, and on disks to make and remove them takes several times as long as most tests.
func memoryDir() string {
	const (
		dir   = "/dev/shm"
		tmpfs = 0x01021994
	)
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(dir, &fs) != nil ||
		int64(fs.Type) != tmpfs || fs.Bavail*uint64(fs.Bsize) < room {
		return ""
	}
	return dir
}
