package proof

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// flowSchedule is a schedule that fires at the multiples of a period.
type flowSchedule struct {
	awa.ScheduleParams
	period int64 // microseconds
	next   int64 // moments
	last   int64 // of the last fire; 0 before
	paused bool
}

var flowCrons = map[string]int64{"*/10 * * * * *": 10e6, "*/10 * * * *": 600e6, "@hourly": 3600e6}

// from lets the schedule go on after a moment.
func (s *flowSchedule) from(now int64) { s.next = (now/s.period + 1) * s.period }

// due takes the fires that are due at a moment.
func (s *flowSchedule) due(now int64) (fires []int64) {
	if s.paused || s.next > now {
		return nil
	}
	if s.MissedFire == awa.MissedFireCatchUp {
		for ; s.next <= now; s.next += s.period {
			fires = append(fires, s.next)
		}
		return fires
	}
	last := now / s.period * s.period
	if s.from(now); s.MissedFire == awa.MissedFireSkip && last < now-60e6 {
		return nil
	}
	return []int64{last}
}

// fireOf names the job of a fire.
func fireOf(name, kind string, at int64) string { return fmt.Sprintf("%s %s %d", name, kind, at) }

// fire takes what is due at this moment: each must have its job, and only one.
func (w *flowWorld) fire() (fired int64) {
	for _, s := range w.schedules {
		for _, at := range s.due(w.now) {
			w.fires[fireOf(s.Name, s.Kind, at)] = s
			s.last = at
			fired++
		}
	}
	return fired
}

func anySchedule(r *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "schedule")
}

// schedule declares a schedule: what it says of time lets it go on from now if it is
// news, and only then.
func (w *flowWorld) schedule(r *rapid.T) {
	p := awa.ScheduleParams{
		Name: anySchedule(r), Cron: rapid.SampledFrom(slices.Sorted(maps.Keys(flowCrons))).Draw(r, "cron"),
		Kind: rapid.SampledFrom([]string{"tick", "tock"}).Draw(r, "kind"), Queue: w.anyQueue(r),
		Priority:   rapid.IntRange(1, 4).Draw(r, "priority"),
		MissedFire: rapid.SampledFrom([]awa.MissedFire{awa.MissedFireSkip, awa.MissedFireCoalesce, awa.MissedFireCatchUp}).Draw(r, "missed fire"),
	}
	if flowCrons[p.Cron] < 600e6 && p.MissedFire == awa.MissedFireCatchUp {
		p.MissedFire = "" // or hours of these fill the model
	}
	next, err := queue.UpsertSchedule(w.at(r), w.calls, p)
	s := w.schedules[p.Name]
	if s == nil {
		s = &flowSchedule{}
		w.schedules[p.Name] = s
	}
	old := s.Cron
	s.ScheduleParams, s.period = p, flowCrons[p.Cron]
	if old != p.Cron {
		s.from(w.now)
	}
	w.demand(r, "upsert_schedule", next.IsZero() || next.UnixMicro() == s.next, true, err)
	w.demand(r, "upsert_schedule of a paused one", next.IsZero(), s.paused, nil)
}

func (w *flowWorld) unschedule(r *rapid.T) {
	name := anySchedule(r)
	got, err := queue.RemoveSchedule(w.at(r), w.calls, name)
	w.demand(r, "remove_schedule", got, w.schedules[name] != nil, err)
	delete(w.schedules, name)
}

// holdSchedule pauses a schedule, or lets it go on without what it missed.
func (w *flowWorld) holdSchedule(r *rapid.T) {
	name, pause := anySchedule(r), rapid.IntRange(0, 2).Draw(r, "pause") == 0
	s := w.schedules[name]
	if pause {
		got, err := queue.PauseSchedule(w.at(r), w.calls, name)
		w.demand(r, "pause_schedule", got, s != nil, err)
	} else {
		got, err := queue.ResumeSchedule(w.at(r), w.calls, name)
		w.demand(r, "resume_schedule", got, s != nil, err)
	}
	switch {
	case s == nil:
	case s.paused && !pause:
		s.from(w.now)
	}
	if s != nil {
		s.paused = pause
	}
}

// plan holds the schedules against the model.
func (w *flowWorld) plan(ctx context.Context) (faults []error) {
	schedules, err := queue.ListSchedules(ctx, w.conn)
	if err != nil {
		return []error{err}
	}
	if len(schedules) != len(w.schedules) {
		faults = append(faults, fmt.Errorf("%d schedules, want %d", len(schedules), len(w.schedules)))
	}
	for _, got := range schedules {
		s := w.schedules[got.Name]
		switch {
		case s == nil:
			faults = append(faults, fmt.Errorf("schedule %s is unknown", got.Name))
		case got.PausedAt.IsZero() == s.paused, got.NextFireAt.IsZero() != s.paused,
			!s.paused && got.NextFireAt.UnixMicro() != s.next,
			got.LastFireAt.IsZero() != (s.last == 0), s.last != 0 && got.LastFireAt.UnixMicro() != s.last:
			faults = append(faults, fmt.Errorf("schedule is %+v, want %+v", got, *s))
		}
	}
	return faults
}
