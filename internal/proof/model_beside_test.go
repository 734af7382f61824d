package proof

import (
	"maps"

	awa "github.com/awaqueue/awa/gowrap"
)

// attemptKey names an attempt.
type attemptKey struct{ job, lease int64 }

func keyOf(r awa.Receipt) attemptKey { return attemptKey{r.JobID, r.RunLease} }

// beside is what stands beside the jobs: several transactions may add to it at
// once and none waits.
type beside struct {
	extended map[attemptKey]int64    // the longest lease
	progress map[attemptKey]reported // the last that was reported
	notices  map[attemptKey]notice
	beats    map[string]beat // the last of each worker
}

type reported struct{ at, percent int64 }

// notice is for a worker whose attempt somebody else closed.
type notice struct {
	worker  string
	segment int64
	lost    bool // its segment was pruned before a heartbeat asked for it
}

// beat is a worker's heartbeat and the notices that it left nothing to tell of.
type beat struct {
	at   int64
	seen map[attemptKey]bool
}

func newBeside() beside {
	return beside{map[attemptKey]int64{}, map[attemptKey]reported{}, map[attemptKey]notice{}, map[string]beat{}}
}

func (b beside) clone() beside {
	return beside{maps.Clone(b.extended), maps.Clone(b.progress), maps.Clone(b.notices), maps.Clone(b.beats)}
}

func (b beside) add(more beside) {
	for k, expires := range more.extended {
		b.extended[k] = max(b.extended[k], expires)
	}
	for k, r := range more.progress {
		if r.at > b.progress[k].at {
			b.progress[k] = r
		}
	}
	for k, n := range more.notices {
		n.lost = n.lost || b.notices[k].lost
		b.notices[k] = n
	}
	for worker, heard := range more.beats {
		if heard.at > b.beats[worker].at {
			b.beats[worker] = heard
		}
	}
}

// progressOf is the percent of a job's attempt: its own, or what it was handed.
func (f facts) progressOf(j modelJob) int {
	if r, own := f.progress[attemptKey{j.id, j.lease}]; own && j.ran {
		return int(r.percent)
	}
	return j.handed
}

func (s *step) extend(r awa.Receipt, expires int64) {
	if j := s.jobs[r.JobID]; j.leased {
		if j.touched++; j.state == awa.StateRunning {
			j.expires = max(j.expires, expires)
		}
		s.put(j)
		return
	}
	s.extended[keyOf(r)] = max(s.extended[keyOf(r)], expires)
	s.did.extended[keyOf(r)] = s.extended[keyOf(r)]
}

func (s *step) report(r awa.Receipt, percent int) {
	if j := s.jobs[r.JobID]; j.leased {
		j.touched++
		s.put(j)
	}
	s.progress[keyOf(r)] = reported{s.now, int64(percent)}
	s.did.progress[keyOf(r)] = s.progress[keyOf(r)]
}

// tell leaves a notice for the worker of a running attempt.
func (s *step) tell(j modelJob) {
	if !j.open() || j.worker == "" {
		return
	}
	n := notice{worker: j.worker, segment: s.current}
	s.notices[attemptKey{j.id, j.lease}] = n
	s.did.notices[attemptKey{j.id, j.lease}] = n
}

// heartbeat returns the notices that a worker must be told of now. What its own
// transaction does stays to be told again.
func (s *step) heartbeat(worker string) map[attemptKey]notice {
	news := map[attemptKey]notice{}
	seen := map[attemptKey]bool{}
	for k, n := range s.notices {
		if n.worker != worker {
			continue
		}
		if !s.beats[worker].seen[k] {
			news[k] = n
		}
		if _, own := s.did.notices[k]; !own {
			seen[k] = true
		}
	}
	s.beat(worker, seen)
	return news
}

// register makes a worker known. What it was not told yet stays untold.
func (s *step) register(worker string) {
	if heard, known := s.beats[worker]; known {
		s.beat(worker, heard.seen)
		return
	}
	s.heartbeat(worker)
}

// beat keeps a worker alive.
func (s *step) beat(worker string, seen map[attemptKey]bool) {
	s.beats[worker] = beat{s.now, seen}
	s.did.beats[worker] = s.beats[worker]
}

func (s *step) pruneBeside() {
	for k, n := range s.notices {
		if n.segment == s.oldest {
			n.lost = true
			s.notices[k] = n
			s.did.notices[k] = n
		}
	}
}
