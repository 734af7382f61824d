package docs_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// statement is one statement of the guide and the rows that it shows, fields
// apart by " | ". A nil result shows nothing.
type statement struct {
	sql  string
	want []string
}

var (
	block = regexp.MustCompile("(?s)```sql\n(.*?)```\n(?:```\n(.*?)```\n)?")
	// end is where a statement ends: at a semicolon at the end of a line, with
	// what it returns in a comment. A colon or comma begins a remark.
	end = regexp.MustCompile(`;[ ]*(?:-- ([^\n:,]*)[^\n]*)?\n`)
	// varying is what differs from run to run: batch ids and instants.
	varying = regexp.MustCompile(`^\(\d+,\d+,|\d{4}-\d\d-\d\d[T ][0-9:.]+\+[0-9:]+|…`)
)

// statements reads the guide.
func statements(guide string) (all []statement) {
	for _, m := range block.FindAllStringSubmatch(guide, -1) {
		text := m[1]
		for {
			at := end.FindStringSubmatchIndex(text)
			if at == nil {
				break
			}
			s := statement{sql: text[:at[0]+1]}
			if at[2] >= 0 {
				s.want = []string{fields(text[at[2]:at[3]])}
			}
			all = append(all, s)
			text = text[at[1]:]
		}
		if m[2] != "" {
			all[len(all)-1].want = table(m[2])
		}
	}
	return all
}

// table reads the rows of psql's table, below its head.
func table(text string) (rows []string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for _, line := range lines[2:] {
		rows = append(rows, fields(line))
	}
	return rows
}

// fields makes rows comparable.
func fields(row string) string {
	columns := strings.Split(row, "|")
	for i, c := range columns {
		columns[i] = varying.ReplaceAllString(strings.TrimSpace(c), "…")
	}
	return strings.Join(columns, " | ")
}

// Every statement of the guide runs, in order and in one session, and returns
// what the guide says. So do those of the page for clients and of the README.
func TestGuide(t *testing.T) {
	for _, page := range inOrder {
		t.Run(page, func(t *testing.T) { testPage(t, page) })
	}
}

func testPage(t *testing.T, page string) {
	psql := psqlPath(t)
	all := statements(read(t, page))
	const separator = "--- next ---"
	script := "set client_min_messages = warning;\ncreate table users (name text);\n"
	for _, s := range all {
		script += "\\echo " + separator + "\n" + s.sql + "\n"
	}
	cmd := exec.CommandContext(t.Context(), psql, "-qXAt", "-F", "|", "-v", "ON_ERROR_STOP=1", pgtest.URL(t))
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	results := strings.Split(string(out), separator+"\n")[1:]
	if err != nil {
		t.Fatalf("%v at\n%s\n%s", err, all[len(results)-1].sql, results[len(results)-1])
	}
	for i, s := range all {
		if s.want == nil {
			continue
		}
		var got []string
		for line := range strings.Lines(results[i]) {
			got = append(got, fields(line))
		}
		if strings.Join(got, "\n") != strings.Join(s.want, "\n") {
			t.Errorf("%s\nreturned\n%s\nthe page says\n%s", s.sql, strings.Join(got, "\n"), strings.Join(s.want, "\n"))
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func psqlPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	return path
}
