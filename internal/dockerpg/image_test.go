package dockerpg

import (
	"context"
	"errors"
	"slices"
	"testing"
)

var errOffline = errors.New("no network")

// shelf is a store with these images, and those that a pull brings.
type shelf struct {
	here   []string
	remote []string
	err    error // of every look
}

func (s *shelf) has(image string) (bool, error) {
	return slices.Contains(s.here, image), s.err
}

func (s *shelf) pull(_ context.Context, image string) error {
	if !slices.Contains(s.remote, image) {
		return errOffline
	}
	s.here = append(s.here, image)
	return nil
}

func TestChoose(t *testing.T) {
	broken := errors.New("broken")
	builds := func(err error) func(context.Context) error {
		return func(context.Context) error { return err }
	}
	for name, c := range map[string]struct {
		shelf  shelf
		wanted string
		build  func(context.Context) error
		image  string
		err    error
	}{
		"official, here":          {shelf: shelf{here: []string{Local, Official}}, image: Official},
		"official, pulled":        {shelf: shelf{here: []string{Local}, remote: []string{Official}}, image: Official},
		"offline, local here":     {shelf: shelf{here: []string{Local}}, build: builds(broken), image: Local},
		"offline, local built":    {build: builds(nil), image: Local},
		"offline, build fails":    {build: builds(broken), err: broken},
		"offline, nothing":        {err: ErrNoImage},
		"wanted, here":            {shelf: shelf{here: []string{"mine:1", Official}}, wanted: "mine:1", image: "mine:1"},
		"wanted, pulled":          {shelf: shelf{remote: []string{"mine:1"}}, wanted: "mine:1", image: "mine:1"},
		"wanted, never another":   {shelf: shelf{here: []string{Official, Local}}, wanted: "mine:1", err: errOffline},
		"the store fails":         {shelf: shelf{here: []string{Official}, err: broken}, err: broken},
		"a failure tells of both": {build: builds(broken), err: errOffline},
	} {
		t.Run(name, func(t *testing.T) {
			image, err := choose(t.Context(), &c.shelf, c.wanted, c.build)
			if image != c.image || !errors.Is(err, c.err) {
				t.Errorf("got %q, %v, want %q, %v", image, err, c.image, c.err)
			}
		})
	}
}
