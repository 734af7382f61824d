package awaotel_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Who does not ask for OpenTelemetry does not get it.
func TestTheCoreDoesNotImportOpenTelemetry(t *testing.T) {
	for _, pkg := range []string{"gowrap", "gowrap/worker", "gowrap/awatest", "cmd/awa-admin"} {
		// A checkout may belong to another user, for whom alone git tells its revision.
		out, err := exec.CommandContext(t.Context(), "go", "list", "-buildvcs=false", "-deps", "github.com/awaqueue/awa/"+pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", pkg, err, out)
		}
		for dep := range strings.Lines(string(out)) {
			if strings.HasPrefix(dep, "go.opentelemetry.io/") {
				t.Errorf("%s imports %s", pkg, dep)
			}
		}
	}
}
