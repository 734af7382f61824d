package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of /proc/PID/stat: USER_HZ, which Linux fixes at 100.
const tick = 10 * time.Millisecond

// ProcessCPU is the CPU time, user and system, that a process has used, in steps
// of 10 ms. It reports false where that cannot be read, and for a process that is
// not a PostgreSQL server: the one meant runs on another machine then.
func ProcessCPU(pid uint32) (time.Duration, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	if !bytes.Contains(stat, []byte("(postgres)")) {
		return 0, false
	}
	// The second field, the name, may hold spaces: count from its end.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, false
	}
	user, errU := strconv.ParseInt(string(fields[11]), 10, 64)
	system, errS := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * tick, errU == nil && errS == nil
}
