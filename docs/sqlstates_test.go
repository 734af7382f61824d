package docs_test

import (
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	raised     = regexp.MustCompile(`errcode = '(\w{5})'`)
	documented = regexp.MustCompile(`(?m)^\| (\w{5}) \| .*$`)
)

// What awa raises is in the reference's table of errors, what the table has is raised or
// PostgreSQL's own, and a test meets each.
func TestErrors(t *testing.T) {
	source := sources(t, "../plpgsql", ".sql")
	tests := sources(t, "../pgtap", ".sql") + sources(t, "../isolation/specs", ".spec") + sources(t, "..", "_test.go")

	states := map[string]bool{}
	for _, m := range raised.FindAllStringSubmatch(source, -1) {
		states[m[1]] = true
	}
	delete(states, "AW000") // never leaves a call: it undoes what a block did
	table := map[string]string{}
	_, errors, _ := strings.Cut(read(t, "sql-reference.md"), "\n## Errors\n")
	errors, _, _ = strings.Cut(errors, "\n## ")
	for _, m := range documented.FindAllStringSubmatch(errors, -1) {
		table[m[1]] = m[0]
	}

	for _, state := range slices.Sorted(maps.Keys(states)) {
		if table[state] == "" {
			t.Errorf("%s is raised, and not in the table of errors", state)
		}
		if !strings.Contains(tests, state) {
			t.Errorf("%s is raised, and in no test", state)
		}
	}
	for _, state := range slices.Sorted(maps.Keys(table)) {
		if strings.HasPrefix(state, "AW") && !states[state] && !strings.Contains(table[state], "nothing raises it") {
			t.Errorf("%s is in the table of errors, and nothing raises it", state)
		}
	}
}

// sources are the texts of all files below a directory whose names end so; they name
// each SQLSTATE that they mean, but for this file.
func sources(t *testing.T, dir, suffix string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, suffix) && d.Name() != "sqlstates_test.go" {
			all.WriteString(read(t, path))
		}
		return err
	})
	if err != nil || all.Len() == 0 {
		t.Fatalf("no *%s in %s: %v", suffix, dir, err)
	}
	return all.String()
}
