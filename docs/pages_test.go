package docs_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// inOrder are the pages whose statements are one session; see TestGuide.
var inOrder = []string{"guide.md", "clients.md", "../README.md"}

// Every block of SQL of the other pages runs by itself, and a table that follows it has
// the columns that psql prints.
func TestBlocks(t *testing.T) {
	psql := psqlPath(t)
	url := pgtest.URL(t)
	for _, page := range pages(t) {
		if slices.Contains(inOrder, page) {
			continue
		}
		for _, m := range block.FindAllStringSubmatch(read(t, page), -1) {
			sql := m[1]
			if !strings.Contains("\n"+sql, "\nbegin") {
				// The pages call the roles of an application app and app_worker.
				sql = "begin;\ncreate role app;\ncreate role app_worker;\n" + sql + "\nrollback;\n"
			}
			cmd := exec.CommandContext(t.Context(), psql, "-qXA", "-F", "|", "-v", "ON_ERROR_STOP=1", url)
			cmd.Stdin = strings.NewReader(sql)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v at\n%s\n%s", page, err, m[1], out)
				continue
			}
			head, _, _ := strings.Cut(m[2], "\n")
			head = strings.ReplaceAll(fields(head), " | ", "|")
			if head != "" && !slices.Contains(strings.Split(string(out), "\n"), head) {
				t.Errorf("%s: no result has the columns %s:\n%s\n%s", page, head, m[1], out)
			}
		}
	}
}

// pages are all that a reader may come to.
func pages(t *testing.T) (all []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "adr/*.md", "../*.md", "../examples/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no pages in %s: %v", pattern, err)
		}
		all = append(all, found...)
	}
	return all
}
