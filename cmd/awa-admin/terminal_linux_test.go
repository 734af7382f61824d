package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens one: what is written to keyboard is typed there.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keyboard, screen
}

// An interrupt from the terminal is for the command to act on: psql gives up a statement.
func TestInterruptFromTheTerminal(t *testing.T) {
	t.Parallel()
	// It is ready once awa-admin leaves interrupts alone, which it does when it has started it.
	cmd, gone := program(t, "server", "run", "--", "sh", "-c", `
		trap "echo interrupted" INT
		for i in $(seq 3000); do
			grep -q "^SigIgn:.*[2367abef]$" /proc/$PPID/status && break
			sleep 0.01
		done
		echo ready
		for i in 1 2 3; do read line && break; done
		echo "it read $line"`)
	keyboard, screen := terminal(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, screen, screen
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	screen.Close()
	lines := bufio.NewScanner(keyboard)
	for _, step := range []struct{ shown, typed string }{{"ready", "\x03"}, {"interrupted", "on\n"}, {"it read on", ""}} {
		for !strings.Contains(lines.Text(), step.shown) {
			if !lines.Scan() {
				t.Fatalf("the command ended before it said %q: %v", step.shown, cmd.Wait())
			}
		}
		if _, err := keyboard.WriteString(step.typed); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	gone()
}
