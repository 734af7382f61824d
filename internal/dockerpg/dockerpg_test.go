package dockerpg_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"

	"github.com/awaqueue/awa/internal/dockerpg"
)

// A server in a container answers, and is gone after Stop. The image is one that is
// there already: a test that pulls or builds one would take minutes.
func TestServer(t *testing.T) {
	s, err := dockerpg.Start(t.Context(), dockerpg.Options{Image: present(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var encoding, collation string
	err = conn.QueryRow(t.Context(), `select pg_encoding_to_char(d.encoding), d.datcollate
from pg_database as d where d.datname = current_database()`).Scan(&encoding, &collation)
	if err != nil || encoding != "UTF8" || collation != "C" {
		t.Errorf("got %s, %s, %v", encoding, collation, err)
	}
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	if _, err := pgx.Connect(t.Context(), s.URL()); err == nil {
		t.Error("the server outlives Stop")
	}
}

func TestNoEngine(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nonexistent")
	_, err := dockerpg.Start(t.Context(), dockerpg.Options{})
	if !errors.Is(err, dockerpg.ErrNoEngine) {
		t.Errorf("got %v, want %v", err, dockerpg.ErrNoEngine)
	}
}

// present is an image that the engine has; without one the test is skipped.
func present(t *testing.T) string {
	t.Helper()
	pool, err := dockertest.NewPool("")
	if err == nil {
		err = pool.Client.Ping()
	}
	if err != nil {
		t.Skip("no container engine answers: ", err)
	}
	for _, image := range []string{dockerpg.Official, dockerpg.Local} {
		if _, err := pool.Client.InspectImage(image); err == nil {
			return image
		}
	}
	t.Skipf("the engine has neither %s nor %s", dockerpg.Official, dockerpg.Local)
	return ""
}
