package dockerpg

import (
	"context"
	"errors"
	"fmt"

	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
)

// ErrNoEngine is returned when no container engine answers.
var ErrNoEngine = errors.New("no container engine answers: install Docker and start it, or set DOCKER_HOST")

// engine is the container engine of this machine.
type engine struct{ pool *dockertest.Pool }

func connect() (engine, error) {
	pool, err := dockertest.NewPool("")
	if err != nil {
		return engine{}, fmt.Errorf("%w: %w", ErrNoEngine, err)
	}
	if err := pool.Client.Ping(); err != nil {
		return engine{}, fmt.Errorf("%w: %w", ErrNoEngine, err)
	}
	return engine{pool}, nil
}

func (e engine) has(image string) (bool, error) {
	_, err := e.pool.Client.InspectImage(image)
	if errors.Is(err, docker.ErrNoSuchImage) {
		return false, nil
	}
	return err == nil, err
}

func (e engine) pull(ctx context.Context, image string) error {
	repository, tag := docker.ParseRepositoryTag(image)
	return e.pool.Client.PullImage(docker.PullImageOptions{
		Context: ctx, Repository: repository, Tag: tag,
	}, docker.AuthConfiguration{})
}
