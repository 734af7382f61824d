package lifecycle_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/awaqueue/awa/internal/pgtest"
)

// keyHunter is a session whose jobs all have one of few unique keys, and the ids that its
// attempts wait for.
type keyHunter struct {
	*session
	callbacks []string
}

func (s *keyHunter) key() []byte { return []byte{byte(s.rnd.IntN(8))} }

// huntMasks are of every kind: a key is held, or not, while its job is scheduled, waits, runs,
// is to be retried, has failed or waits for an answer.
var huntMasks = []string{
	"11111000", "11101000", "11111100", "01000000", "11001001", "01011010",
	"10000000", "10001000", "00001000", "00100001", "00000100", "11111101",
}

func (s *keyHunter) mask() string { return huntMasks[s.rnd.IntN(len(huntMasks))] }

func (s *keyHunter) enqueue() {
	jobs := make([]string, 1+s.rnd.IntN(4))
	for i := range jobs {
		more := ""
		switch s.rnd.IntN(6) {
		case 0, 1:
			more = fmt.Sprintf(`, "run_at": %q`, time.Now().Add(time.Duration(s.rnd.IntN(40))*time.Millisecond).Format(time.RFC3339Nano))
		case 2:
			more = fmt.Sprintf(`, "concurrency_key": "%d"`, s.rnd.IntN(2))
		case 3:
			more = fmt.Sprintf(`, "after": [%d]`, s.id())
		}
		jobs[i] = fmt.Sprintf(`{"kind": "kind%d", "queue": %q, "max_attempts": %d, "unique_key": "\\x%x", "unique_states": %q%s}`,
			s.rnd.IntN(3), s.queue(), 1+s.rnd.IntN(3), s.key(), s.mask(), more)
	}
	var id *int64
	err := s.conn.QueryRow(s.t.Context(), `select max(u.id) from unnest(awa.enqueue_many($1::text::jsonb)) as u (id)`,
		"["+strings.Join(jobs, ",")+"]").Scan(&id)
	s.note("enqueue_many", err)
	if err == nil && id != nil && *id > s.lastID.Load() {
		s.lastID.Store(*id)
	}
}

// wait makes attempts of the pocket wait for answers.
func (s *keyHunter) wait() {
	for _, h := range s.pocket {
		var id *string
		err := s.conn.QueryRow(s.t.Context(), `select awa.register_callback($1::text::awa.receipt, '50 ms')::text`, h.receipt).Scan(&id)
		s.note("register_callback", err)
		if err == nil && id != nil {
			s.callbacks = append(s.callbacks, *id)
			if s.rnd.IntN(2) == 0 {
				s.exec("park", `select awa.park($1::text::awa.receipt)`, h.receipt)
			}
		}
	}
}

// answer answers them.
func (s *keyHunter) answer() {
	for _, id := range s.callbacks {
		call := []string{"complete", "fail", "retry", "resume"}[s.rnd.IntN(4)]
		s.exec("callback", `select awa.`+call+`_callback($1::text::uuid)`, id)
	}
	s.callbacks = nil
}

var huntFilters = []string{`{}`, `{"queue": "hunt/0"}`, `{"kind": "kind1"}`}

// batch starts a batch operation, and may leave it to maintain.
func (s *keyHunter) batch() {
	op := [][2]string{
		{"retry", "{}"}, {"retry", `{"priority": 3}`}, {"cancel", "{}"}, {"reprioritize", `{"priority": 1}`}, {"reprioritize", `{"priority": 4}`},
		{"move", `{"queue": "hunt/1"}`}, {"discard", "{}"}, {"delete", "{}"},
	}[s.rnd.IntN(8)]
	var id int64
	err := s.conn.QueryRow(s.t.Context(), `select awa.start_batch_operation($1, $2::text::jsonb || jsonb_build_object('min_id', $4::bigint), $3::text::jsonb)`,
		op[0], huntFilters[s.rnd.IntN(len(huntFilters))], op[1], s.id()).Scan(&id)
	s.note("start_batch_operation", err)
	if s.rnd.IntN(2) == 0 {
		s.exec("run_batch_operation", `select awa.run_batch_operation($1, $2)`, id, 1+s.rnd.IntN(400))
	}
}

func (s *keyHunter) step() {
	queue, id := s.queue(), s.id()
	switch n := s.rnd.IntN(100); {
	case n < 25:
		s.enqueue()
	case n < 40:
		s.claim()
		s.finish()
	case n < 44:
		s.claim()
		s.wait()
	case n < 49:
		s.answer()
	case n < 50:
		s.exec("configure_queue", `select awa.configure_queue($1, jsonb_build_object('concurrency_limit', $2::integer))`, queue, []*int{nil, new(1), new(2)}[s.rnd.IntN(3)])
	case n < 54:
		s.exec("retry", `select awa.retry($1)`, id)
	case n < 57:
		s.exec("move_failed_to_dlq", `select awa.bulk_move_failed_to_dlq($1, max_jobs => 10)`, queue)
	case n < 59:
		s.exec("retry_from_dlq", `select awa.retry_from_dlq($1)`, id)
	case n < 62:
		s.exec("bulk_retry", `select awa.bulk_retry_from_dlq()`)
	case n < 64:
		s.exec("purge", `select awa.purge_dlq($1, max_jobs => 10)`, queue)
	case n < 66:
		s.exec("discard", `select awa.discard_failed_by_kind($1)`, fmt.Sprintf("kind%d", s.rnd.IntN(3)))
	case n < 70:
		s.exec("cancel_by_unique_key", `select awa.cancel_by_unique_key($1)`, s.key())
	case n < 74:
		s.exec("delete", deletions[s.rnd.IntN(len(deletions))]+` and $2::text is not null and $1::bigint is not null`, id, queue)
	case n < 80:
		s.exec("update many", `update awa.jobs set priority = priority % 4 + 1 where id > $1 and state in ('available', 'scheduled', 'retryable')`, id)
	case n < 83:
		s.exec("update many", `update awa.jobs set run_at = now() + interval '5 ms' * (id % 3) where id > $1 and state in ('available', 'scheduled', 'retryable')`, id)
	case n < 89:
		s.batch()
	default:
		s.maintain()
	}
}

// TestKeyHunt has sessions contend for few unique keys, each of which says that it found a
// circle soon, but after those who wait with something in hand, for 50 ms at most, have given
// way. Prune is left to TestHunt.
func TestKeyHunt(t *testing.T) {
	url := pgtest.URL(t)
	boss := pgtest.Conn(t, url)
	exec := execOn(t, boss)
	for i := range 2 {
		exec(`select awa.configure_queue($1, jsonb_build_object('dlq_enabled', $2::boolean, 'failed_retention', '1 second', 'enqueue_shards', 1))`,
			fmt.Sprintf("hunt/%d", i), i == 0)
	}
	exec(`update awa.storage_settings set worker_silence = '300 ms'`)

	length, _ := huntFor(t)
	h := &hunt{t: t, expires: time.Now().Add(length / 2), queues: 2, recent: 150, ended: map[int64]string{}, calls: map[string]int{}, errors: map[string]int{}}
	h.lastID.Store(1)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var sessions sync.WaitGroup
	for i := range huntSessions {
		conn := pgtest.Conn(t, url)
		if _, err := conn.Exec(t.Context(), `set deadlock_timeout = '200 ms'`); err != nil {
			t.Fatal(err)
		}
		s := &keyHunter{session: &session{hunt: h, name: fmt.Sprintf("hunt/%d", i), conn: conn, rnd: rand.New(rand.NewPCG(seed, uint64(i)))}}
		sessions.Go(func() {
			for h.on() {
				s.step()
			}
		})
	}
	sessions.Wait()
	t.Logf("calls %v; errors %v", h.calls, h.errors)
	sound(t, boss)
}
