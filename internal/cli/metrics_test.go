package cli_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/awaqueue/awa/internal/cli"
	"github.com/awaqueue/awa/internal/pgtest"
)

var servedAt = regexp.MustCompile(`serving /metrics and /healthz" address=(\S+)`)

// serving runs maintain --loop --listen on a free port until the test ends, and returns
// its address once a round has printed part.
func serving(t *testing.T, url, part string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	printed := make(chan struct{})
	stdout := &watch{part: part, seen: func() {
		select {
		case <-printed:
		default:
			close(printed)
		}
	}}
	var stderr strings.Builder
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, []string{"--database-url", url, "-v", "maintain", "--loop", "--listen", "127.0.0.1:0"},
			strings.NewReader(""), stdout, &stderr)
	}()
	select {
	case <-printed:
	case code := <-ended:
		t.Fatalf("exit code %d\n%s", code, stderr.String())
	case <-time.After(5 * time.Minute):
		t.Fatalf("no %q", part)
	}
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d\n%s", code, stderr.String())
		}
	})
	at := servedAt.FindStringSubmatch(stderr.String())
	if at == nil {
		t.Fatalf("no address in:\n%s", stderr.String())
	}
	return at[1]
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `
		select awa.enqueue('k', queue => 'say "hi"'), awa.enqueue('k', queue => 'say "hi"'),
			awa.enqueue('k', queue => 'later', run_at => now() + interval '1 hour'), awa.pause_queue('later');
		select awa.fail(c.receipt, terminal => true) from awa.claim('say "hi"') as c;
		select awa.enqueue('k', queue => 'soon');
		select awa.fail(c.receipt, retry_after => '0') from awa.claim('soon') as c;
		select awa.upsert_schedule('daily', '0 0 * * *', 'k')`)
	address := serving(t, url, "promote promoted 1")
	status, body := get(t, "http://"+address+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d\n%s", status, body)
	}
	for _, line := range []string{
		`awa_queue_jobs{queue="say \"hi\"",state="available"} 1`,
		`awa_queue_jobs{queue="say \"hi\"",state="failed"} 1`,
		`awa_queue_jobs{queue="later",state="scheduled"} 1`,
		`awa_queue_paused{queue="later"} 1`,
		`awa_queue_paused{queue="soon"} 0`,
		`awa_queue_dead_letters{queue="soon"} 0`,
		`awa_storage_segments{phase="current"} 1`,
		`awa_schedules_late 0`,
		`awa_up 1`,
		`awa_maintain_affected_total{task="promote"} 1`,
		`awa_maintain_rounds_total{outcome="failed"} 0`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no %s in:\n%s", line, body)
		}
	}
	if status, body := get(t, "http://"+address+"/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", status, body)
	}
}

// failingPrune makes a segment due that cannot be pruned.
const failingPrune = `
	select awa.enqueue('k'); select awa.complete(c.receipt) from awa.claim('default') as c; select awa.rotate();
	update awa.segment_rotations set rotated_at = case generation when 0 then now() - interval '1 day' else now() - interval '2 hours' end;
	alter table awa.segment_prunes add constraint no_room check (false) not valid`

// A round of which a task failed is told by its own figure.
func TestMetricsOfATaskThatFails(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, failingPrune)
	address := serving(t, url, "prune failed 0 segment 0")
	if status, body := get(t, "http://"+address+"/metrics"); status != http.StatusOK || strings.Contains(body, `awa_maintain_rounds_total{outcome="failed"} 0`) {
		t.Errorf("%d\n%s", status, body)
	}
}

// A scrape that cannot read the figures says so, and tells what the loop knows itself.
func TestMetricsWithoutFigures(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue('k'); select awa.fail(c.receipt, retry_after => '0') from awa.claim('default') as c`)
	address := serving(t, url, "promote promoted 1")
	exec(t, url, `drop function awa.queue_overview()`)
	status, body := get(t, "http://"+address+"/metrics")
	if status != http.StatusOK || strings.Contains(body, "awa_queue_jobs") ||
		!strings.Contains(body, "\nawa_up 0\n") || !strings.Contains(body, "\nawa_maintain_affected_total{task=\"promote\"} 1\n") {
		t.Errorf("%d\n%s", status, body)
	}
}

// Whoever reaches the address takes only a few connections to the database.
func TestMetricsForFewAtATime(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue('k'); select awa.fail(c.receipt, retry_after => '0') from awa.claim('default') as c`)
	address := serving(t, url, "promote promoted 1")
	conn := pgtest.Conn(t, url)
	if _, err := conn.Exec(t.Context(), "select pg_advisory_lock(awa._lock_class(0), 8)"); err != nil {
		t.Fatal(err)
	}
	const asked = 12
	statuses := make(chan int, asked)
	for range asked {
		go func() {
			status, _ := get(t, "http://"+address+"/metrics")
			statuses <- status
		}()
	}
	refused := 0
	for n := range asked {
		if n == 8 { // the others wait for figures
			if _, err := conn.Exec(t.Context(), "select pg_advisory_unlock(awa._lock_class(0), 8)"); err != nil {
				t.Fatal(err)
			}
		}
		if <-statuses == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused == 0 {
		t.Errorf("%d scrapes ran at once", asked)
	}
}

func TestListenNeedsALoopAndAnAddress(t *testing.T) {
	t.Parallel()
	on(t, "postgres://127.0.0.1:1/none", 1, "maintain", "--listen", ":0").wants(t, "--listen without --loop")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	on(t, pgtest.URL(t), 1, "maintain", "--loop", "--listen", taken.Addr().String()).wants(t, "--listen: ", "in use")
}
