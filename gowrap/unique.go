package awa

import "context"

// StateMask is a set of states, as the unique_states of a job: while the job is
// in one of them it holds its unique key.
type StateMask uint8

// bitOf numbers the states from the left of bit(8).
var bitOf = map[JobState]int{
	StateScheduled: 0, StateAvailable: 1, StateRunning: 2, StateCompleted: 3,
	StateRetryable: 4, StateFailed: 5, StateCancelled: 6, StateWaitingExternal: 7,
}

// InStates returns the set of the states given. Unknown states add nothing.
func InStates(states ...JobState) StateMask {
	var m StateMask
	for _, s := range states {
		if bit, ok := bitOf[s]; ok {
			m |= 1 << (7 - bit)
		}
	}
	return m
}

// String writes the set as PostgreSQL writes bit(8).
func (m StateMask) String() string {
	var bits [8]byte
	for i := range bits {
		bits[i] = '0' + byte(m>>(7-i)&1)
	}
	return string(bits[:])
}

// UniqueKeyOf makes a unique key from a kind, and from a queue and arguments
// unless they are empty: jobs that agree in these have the same key, whatever the
// order of the keys in args, which take the forms of EnqueueParams.Args.
//
// Errors: ErrInvalidArgument.
func (c Client) UniqueKeyOf(ctx context.Context, db DBTX, kind, queue string, args any) (key []byte, err error) {
	doc, err := document("args", args)
	if err != nil {
		return nil, refuse("unique key of", err)
	}
	err = c.value("unique_key_of").
		arg("kind", "text", kind).
		text("queue", queue).
		document("args", doc).
		row(ctx, db).Scan(&key)
	return key, wrap("unique key of", err)
}
