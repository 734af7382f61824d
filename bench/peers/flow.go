package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/awaqueue/awa/internal/bench"
	"github.com/awaqueue/awa/internal/chart"
)

// load is what flow offers to a system: jobs that arrive at times laid down
// beforehand, whether or not the earlier ones have been worked.
type load struct {
	producers int
	rate      int // jobs a second, of all producers
	chunk     int // jobs of one enqueue; one: the call for a single job
	duration  time.Duration
	every     time.Duration // length of an interval
}

// batched is whether the system may work as it does for throughput.
func (l load) batched() bool { return l.chunk > 1 }

func (l load) intervals() int { return max(1, int(l.duration/l.every)) }

// course is what came of a load, without the time in which workers start up.
// Latency is from the commit of a job to the start of its handler, in milliseconds.
type course struct {
	Median, P99 float64
	Deepest     int
	Intervals   []interval
}

// begun is how many jobs were started.
func (c *course) begun() (n int) {
	for _, i := range c.Intervals {
		n += i.Begun
	}
	return n
}

// curve is a figure of each interval at its end, over time in the unit given.
func (c *course) curve(l load, unit time.Duration, y func(interval) float64) []chart.Point {
	points := make([]chart.Point, len(c.Intervals))
	for i := range points {
		points[i] = chart.Point{X: float64(time.Duration(i+1)*l.every) / float64(unit), Y: y(c.Intervals[i])}
	}
	return points
}

// interval is a part of a course. Depth is how many jobs wait at its end.
type interval struct {
	Begun       int
	Median, P99 float64
	Depth       int
}

// settling is how long a load or traffic runs before it is counted: workers start up.
const settling = 2 * time.Second

// flow takes the times of a load whose producers and workers run in this process.
// Its methods may be called concurrently.
type flow struct {
	load
	start time.Time // of the first interval
	mu    sync.Mutex
	// halves are the times of jobs of which only the commit is known, or, for a
	// producer may learn of its commit late, only the start of the handler.
	halves           map[int64]time.Time
	committed, begun int
	deepest          int
	waits            [][]float64 // by interval
	depths           []int
}

func newFlow(l load) *flow {
	n := l.intervals()
	return &flow{load: l, halves: map[int64]time.Time{}, waits: make([][]float64, n), depths: make([]int, n)}
}

// works is what a handler calls first, with the number of its job.
func (f *flow) works(i int64) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun++
	if at, known := f.halves[i]; known {
		delete(f.halves, i)
		f.add(now, now.Sub(at))
	} else {
		f.halves[i] = now
	}
}

func (f *flow) wasCommitted(from int64, n int) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.committed += n
	for i := from; i < from+int64(n); i++ {
		if at, known := f.halves[i]; known {
			delete(f.halves, i)
			f.add(at, 0)
		} else {
			f.halves[i] = now
		}
	}
	if now.After(f.start) {
		f.deepest = max(f.deepest, f.committed-f.begun)
	}
}

// add is called with the lock held.
func (f *flow) add(begun time.Time, wait time.Duration) {
	if i := int(begun.Sub(f.start) / f.every); begun.After(f.start) && i < len(f.waits) {
		f.waits[i] = append(f.waits[i], bench.Milliseconds(wait))
	}
}

// run offers the load by put, which enqueues n jobs that are numbered from one
// given, on the connection of a producer, and returns when every job was begun.
func (f *flow) run(ctx context.Context, put func(ctx context.Context, producer int, from int64, n int) error) (*course, error) {
	first := time.Now()
	f.start = first.Add(settling)
	end := f.start.Add(time.Duration(len(f.waits)) * f.every)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var numbers atomic.Int64
	var beside sync.WaitGroup
	for p := range f.producers {
		beside.Go(func() {
			period := time.Duration(f.producers*f.chunk) * time.Second / time.Duration(f.rate)
			due := first.Add(time.Duration(p) * period / time.Duration(f.producers))
			for ; due.Before(end) && time.Now().Before(end) && until(ctx, due); due = due.Add(period) {
				from := numbers.Add(int64(f.chunk)) - int64(f.chunk) + 1
				if err := put(ctx, p, from, f.chunk); err != nil {
					cancel(err)
					return
				}
				f.wasCommitted(from, f.chunk)
			}
		})
	}
	beside.Go(func() {
		for i := range f.depths {
			if !until(ctx, f.start.Add(time.Duration(i+1)*f.every)) {
				return
			}
			f.mu.Lock()
			f.depths[i] = max(0, f.committed-f.begun)
			f.mu.Unlock()
		}
	})
	beside.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := f.workedOff(ctx); err != nil {
		return nil, err
	}
	return f.course()
}

// until waits for a moment; false: ctx ended first.
func until(ctx context.Context, at time.Time) bool {
	select {
	case <-time.After(time.Until(at)):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// workedOff waits until no job is left.
func (f *flow) workedOff(ctx context.Context) error {
	for end := time.Now().Add(time.Minute); ; {
		f.mu.Lock()
		left := f.committed - f.begun
		f.mu.Unlock()
		if left <= 0 {
			return nil
		}
		if time.Now().After(end) || !until(ctx, time.Now().Add(10*time.Millisecond)) {
			return errors.Join(fmt.Errorf("%d jobs were not started", left), ctx.Err())
		}
	}
}

func (f *flow) course() (*course, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &course{Deepest: f.deepest}
	var all []float64
	for i, waits := range f.waits {
		part := interval{Begun: len(waits), Depth: f.depths[i]}
		slices.Sort(waits)
		if len(waits) > 0 {
			part.Median, part.P99 = quantiles(waits)
		}
		c.Intervals = append(c.Intervals, part)
		all = append(all, waits...)
	}
	if len(all) == 0 {
		return nil, errors.New("no job was started")
	}
	if len(f.halves) > 0 {
		return nil, fmt.Errorf("%d jobs were only committed or only started, or started twice", len(f.halves))
	}
	slices.Sort(all)
	c.Median, c.P99 = quantiles(all)
	return c, nil
}

// quantiles are the median and the 99th percentile of sorted samples.
func quantiles(sorted []float64) (median, p99 float64) {
	n := len(sorted)
	return sorted[n/2], sorted[min(n-1, n*99/100)]
}
