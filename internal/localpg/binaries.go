package localpg

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// BinEnv names the environment variable that overrides the search for
// PostgreSQL's programs.
const BinEnv = "AWA_PG_BIN"

// ErrNoBinaries is returned when no PostgreSQL server programs can be found.
// The message of the error that wraps it says what to install.
var ErrNoBinaries = errors.New("no PostgreSQL server programs found")

// needed are the programs a throw-away server is made of.
var needed = []string{"initdb", "postgres"}

// prefixes are the places where packagers put versioned server programs.
var prefixes = []string{
	"/usr/lib/postgresql/*/bin",             // Debian, Ubuntu
	"/opt/homebrew/opt/postgresql@*/bin",    // Homebrew, Apple silicon
	"/usr/local/opt/postgresql@*/bin",       // Homebrew, Intel
	"/home/linuxbrew/.linuxbrew/opt/*/bin",  // Homebrew on Linux
	"/usr/pgsql-*/bin",                      // PGDG on Red Hat
	"/Applications/Postgres.app/*/*/*/bin/", // Postgres.app
}

// FindBinaries returns the directory that holds initdb and postgres. AWA_PG_BIN
// wins and must be right; then PATH, then pg_config, then the usual prefixes,
// newest version first.
func FindBinaries() (string, error) {
	if dir := os.Getenv(BinEnv); dir != "" {
		if !complete(dir) {
			return "", fmt.Errorf("localpg: %s=%s: %w there (need %s)",
				BinEnv, dir, ErrNoBinaries, strings.Join(needed, " and "))
		}
		return dir, nil
	}
	for _, dir := range candidates() {
		if complete(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("localpg: %w: %s, or set %s to the directory that holds %s",
		ErrNoBinaries, advice(), BinEnv, strings.Join(needed, " and "))
}

func candidates() []string {
	var dirs []string
	if p, err := exec.LookPath("initdb"); err == nil {
		// A link in PATH points beside the other programs only once resolved.
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		dirs = append(dirs, filepath.Dir(p))
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range prefixes {
		found, _ := filepath.Glob(pattern) // the patterns are constants
		slices.SortFunc(found, newestFirst)
		dirs = append(dirs, found...)
	}
	return dirs
}

var versionInPath = regexp.MustCompile(`\d+(\.\d+)?`)

// newestFirst orders directories by the version number in their path, so that
// 15 comes before 9.6.
func newestFirst(a, b string) int {
	return cmp.Compare(versionOf(b), versionOf(a))
}

func versionOf(dir string) float64 {
	v, _ := strconv.ParseFloat(versionInPath.FindString(dir), 64)
	return v
}

func complete(dir string) bool {
	for _, name := range needed {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// advice says what to install on this system.
func advice() string {
	switch runtime.GOOS {
	case "darwin":
		return "install them with: brew install postgresql@17"
	case "linux":
		if _, err := os.Stat("/etc/debian_version"); err == nil {
			return "install them with: apt-get install postgresql"
		}
		if _, err := os.Stat("/etc/redhat-release"); err == nil {
			return "install them with: dnf install postgresql-server"
		}
	}
	return "install the PostgreSQL server (15 or newer)"
}
