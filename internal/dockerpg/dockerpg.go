// Package dockerpg starts throw-away PostgreSQL servers in containers, for tests on
// a machine that has a container engine.
//
// It is the third way to a server, beside one that is given (DATABASE_URL) and one
// of installed programs (localpg). Nothing in it is fit for data one wants to keep.
package dockerpg

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
)

const (
	port = "5432/tcp"

	// lifetime is after how many seconds the engine ends a container whose
	// process was killed before it could.
	lifetime = 2 * 60 * 60

	startTimeout = time.Minute
)

// Options configures a server.
type Options struct {
	// Image names the image to run, as repository:tag. Defaults to Official, and to
	// Local where that is neither here nor to be had.
	Image string
	// Build makes Local. Defaults to nil: Local is not built.
	Build func(context.Context) error
}

// Server is a running server in a container.
type Server struct {
	// Image is the one it was started from.
	Image string

	engine    engine
	container *dockertest.Resource
	password  string
	stop      sync.Once
	stopErr   error
}

// Start starts a container and returns when its server accepts connections. ctx
// bounds the start alone: the container runs until Stop. The server listens on a
// free port of 127.0.0.1, with a random password. It does not make commits durable.
//
// Errors: ErrNoEngine, ErrNoImage.
func Start(ctx context.Context, opts Options) (*Server, error) {
	e, err := connect()
	if err != nil {
		return nil, fmt.Errorf("dockerpg: %w", err)
	}
	image, err := choose(ctx, e, opts.Image, opts.Build)
	if err != nil {
		return nil, fmt.Errorf("dockerpg: %w", err)
	}
	s := &Server{Image: image, engine: e, password: rand.Text()}
	if s.container, err = s.run(); err != nil {
		return nil, fmt.Errorf("dockerpg: run %s: %w", image, err)
	}
	if err := s.waitReady(ctx); err != nil {
		err = fmt.Errorf("dockerpg: %s: %w\n%s", image, err, s.logTail())
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// run starts the container. Sorting as in the C locale makes every machine sort
// alike.
func (s *Server) run() (*dockertest.Resource, error) {
	repository, tag := docker.ParseRepositoryTag(s.Image)
	container, err := s.engine.pool.RunWithOptions(&dockertest.RunOptions{
		Repository: repository,
		Tag:        tag,
		Env: []string{
			"POSTGRES_PASSWORD=" + s.password,
			"POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C",
		},
		Cmd: []string{"postgres", "-c", "fsync=off", "-c", "full_page_writes=off",
			"-c", "max_connections=200", "-c", "timezone=UTC"},
		ExposedPorts: []string{port},
		PortBindings: map[docker.Port][]docker.PortBinding{port: {{HostIP: "127.0.0.1"}}},
		Labels:       map[string]string{"awa": "throw-away"},
	}, func(host *docker.HostConfig) {
		host.ShmSize = 256 << 20
	})
	if err != nil {
		return nil, err
	}
	return container, container.Expire(lifetime)
}

// waitReady tries to connect until that succeeds, the container ends, ctx is done
// or startTimeout has passed.
func (s *Server) waitReady(ctx context.Context) error {
	s.engine.pool.MaxWait = startTimeout
	return s.engine.pool.Retry(func() error {
		if ctx.Err() != nil {
			return backoff.Permanent(ctx.Err())
		}
		conn, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return conn.Close(ctx)
		}
		if c, gone := s.engine.pool.Client.InspectContainer(s.container.Container.ID); gone != nil || !c.State.Running {
			return backoff.Permanent(errors.New("the container ended"))
		}
		return err
	})
}

// Stop ends the server at once and removes its container with its data. It may be
// called more than once, from several goroutines.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		err := s.engine.pool.Purge(s.container)
		var gone *docker.NoSuchContainer
		if err != nil && !errors.As(err, &gone) {
			s.stopErr = fmt.Errorf("dockerpg: stop: %w", err)
		}
	})
	return s.stopErr
}

// URL is the connection string of database postgres, as superuser.
func (s *Server) URL() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", s.password),
		Host:     s.container.GetHostPort(port),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (s *Server) logTail() string {
	var log bytes.Buffer
	// No log, nothing to add.
	_ = s.engine.pool.Client.Logs(docker.LogsOptions{
		Container: s.container.Container.ID, OutputStream: &log, ErrorStream: &log,
		Stdout: true, Stderr: true, Tail: "30",
	})
	return log.String()
}
