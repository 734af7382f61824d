package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine is what the figures were taken on: nothing that tells whose it is.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	System string `json:"system"`
}

// ThisMachine describes the machine that this process runs on.
func ThisMachine() Machine {
	return Machine{CPU: cpuModel(), CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH}
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %d CPUs shared by client and server", m.CPU, m.CPUs)
}

// cpuModel is the model's name where Linux tells it.
func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // elsewhere there is none
	for line := range strings.Lines(string(info)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}
