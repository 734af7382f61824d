package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/awaqueue/awa/internal/bench"
	"github.com/awaqueue/awa/internal/chart"
)

// limit bounds one run of one system, beyond the time that a scenario is told to
// take: a peer that hangs must not take the others with it.
const limit = 3 * time.Minute

// figures are the samples of one system, by name, in the order of their arrival,
// and its curves.
type figures struct {
	names   []string
	samples map[string][]float64
	units   map[string]string
	curves  []bench.Series
}

// draw keeps a curve. One of the same name, of an earlier run, is replaced.
func (f *figures) draw(name, x, y string, points []chart.Point) {
	f.curves = slices.DeleteFunc(f.curves, func(c bench.Series) bool { return c.Name == name })
	f.curves = append(f.curves, bench.Series{Name: name, X: x, Y: y, Points: points})
}

func (f *figures) add(name, unit string, samples ...float64) {
	if f.samples == nil {
		f.samples, f.units = map[string][]float64{}, map[string]string{}
	}
	if _, known := f.samples[name]; !known {
		f.names = append(f.names, name)
		f.units[name] = unit
	}
	f.samples[name] = append(f.samples[name], samples...)
}

// compare lets the systems take turns, each run on a fresh database, and reports
// figure by figure. A system that fails is left out with a message; awa may not
// fail.
func (r *run) compare(ctx context.Context, runs int, goals map[string]*bench.Goal, one func(context.Context, *bench.Database, session, *figures) error) error {
	all := make([]figures, len(r.peers))
	failed := make([]bool, len(r.peers))
	for n := range runs {
		for k := range r.peers {
			i := (k + n) % len(r.peers) // nobody is always first
			if failed[i] {
				continue
			}
			err := r.once(ctx, r.peers[i], func(ctx context.Context, db *bench.Database, s session) error {
				return one(ctx, db, s, &all[i])
			})
			switch {
			case errors.Is(err, errNone):
				failed[i] = true
			case err != nil && (ours(r.peers[i]) || ctx.Err() != nil):
				return err
			case err != nil:
				failed[i] = true
				all[i] = figures{}
				r.report.Note("without %s: %v", r.peers[i].name(), err)
			}
		}
	}
	var order []string
	seen := map[string]bool{}
	for i := range all {
		for _, name := range all[i].names {
			if !seen[name] {
				seen[name] = true
				order = append(order, name)
			}
		}
	}
	for _, name := range order {
		for i, s := range r.peers {
			samples := all[i].samples[name]
			if len(samples) == 0 {
				continue
			}
			var goal *bench.Goal
			if ours(s) {
				goal = goals[name]
			}
			r.report.AddOf(s.name(), name, all[i].units[name], samples, goal)
		}
	}
	for i, s := range r.peers {
		for _, curve := range all[i].curves {
			r.report.AddCurve(s.name(), curve)
		}
	}
	return nil
}

func ours(s system) bool {
	_, is := s.(awaSystem)
	return is
}

// once runs one system on a fresh database.
func (r *run) once(ctx context.Context, s system, f func(context.Context, *bench.Database, session) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit+r.takes)
	defer cancel()
	db, err := s.fresh(ctx, r.server)
	if err != nil {
		return err
	}
	open, err := s.open(ctx, db)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", s.name(), err), db.Drop(ctx))
	}
	open = &closeOnce{session: open}
	err = f(ctx, db, open)
	if err != nil {
		err = fmt.Errorf("%s: %w", s.name(), err)
	}
	return errors.Join(err, open.close(), db.Drop(ctx))
}

// closeOnce is a session that may be closed early.
type closeOnce struct {
	session
	closed bool
}

func (s *closeOnce) close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return s.session.close()
}
