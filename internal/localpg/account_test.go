//go:build unix

package localpg

import (
	"os"
	"path/filepath"
	"testing"
)

// As root this process writes into a directory of the server's user, who is not to
// choose what is written to.
func TestLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(path string) error{
		"written": func(path string) error { return account{}.writeFile(path, "new") },
		"created": func(path string) error {
			f, err := create(path)
			if err != nil {
				return err
			}
			return f.Close()
		},
	} {
		path := filepath.Join(dir, name)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if err := write(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if content, err := os.ReadFile(target); err != nil || string(content) != "kept" {
			t.Errorf("%s: the file that a link leads to has %q, %v", name, content, err)
		}
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: not a file of its own: %v, %v", name, info, err)
		}
	}
}
