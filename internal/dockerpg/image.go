package dockerpg

import (
	"context"
	"errors"
	"fmt"
)

// The images that serve when none is asked for.
const (
	// Official is the image of the PostgreSQL project's packagers.
	Official = "postgres:15"
	// Local is built on this machine, from Debian's packages.
	Local = "awa-postgres:15"
)

// ErrNoImage is returned when there is no image to run and none can be had. The
// error that wraps it says what was tried.
var ErrNoImage = errors.New("no image with a PostgreSQL server")

// store is where images are.
type store interface {
	has(image string) (bool, error)
	pull(ctx context.Context, image string) error
}

// choose returns an image that is in the store: the wanted one and no other, or,
// when none is wanted, the official one and where that cannot be had the local
// one, built if need be. A nil build cannot build.
func choose(ctx context.Context, s store, wanted string, build func(context.Context) error) (string, error) {
	if wanted != "" {
		if err := fetch(ctx, s, wanted); err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoImage, err)
		}
		return wanted, nil
	}
	errFetch := fetch(ctx, s, Official)
	if errFetch == nil {
		return Official, nil
	}
	found, err := s.has(Local)
	switch {
	case err != nil:
		return "", err
	case found:
		return Local, nil
	case build == nil:
		return "", fmt.Errorf("%w: %w, and there is no %s", ErrNoImage, errFetch, Local)
	}
	if err := build(ctx); err != nil {
		return "", fmt.Errorf("%w: %w; build %s: %w", ErrNoImage, errFetch, Local, err)
	}
	return Local, nil
}

// fetch pulls what is not there yet.
func fetch(ctx context.Context, s store, image string) error {
	found, err := s.has(image)
	if err != nil || found {
		return err
	}
	if err := s.pull(ctx, image); err != nil {
		return fmt.Errorf("pull %s: %w", image, err)
	}
	return nil
}
