package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
)

// Handler does one attempt of a job. What it returns decides what becomes of the
// job; see the package's documentation. ctx is done when the attempt is closed by
// others (cause ErrLost), when the client stops for good (cause ErrStopping) and
// at the job's deadline.
type Handler func(ctx context.Context, attempt *Attempt) error

// Middleware wraps the handling of every job, of unknown kinds as well. The error that
// it returns decides; the one that it sees may be a *PanicError.
type Middleware func(next Handler) Handler

// Mux finds the handler of a job by its kind; NewMux makes one. Register handlers
// and middlewares before it is used; from then on it is safe for concurrent use,
// and several clients may share it.
type Mux struct {
	handlers    map[string]Handler
	middlewares []Middleware
	serve       Handler
}

// NewMux returns a mux without handlers.
func NewMux() *Mux {
	m := &Mux{handlers: map[string]Handler{}}
	m.build()
	return m
}

// Register makes f the handler of jobs of kind T.Kind(), whose arguments are
// decoded into a T. It panics if the kind has a handler, or is empty, or f is nil.
func Register[T Args](mux *Mux, f func(ctx context.Context, job *Job[T]) error) {
	var zero T
	kind := zero.Kind()
	if f == nil {
		panic(fmt.Sprintf("worker: kind %q needs a handler", kind))
	}
	mux.Handle(kind, func(ctx context.Context, attempt *Attempt) error {
		job := &Job[T]{Job: attempt.Job, attempt: attempt}
		if err := json.Unmarshal(attempt.Job.Args, &job.Args); err != nil {
			return &DecodeError{kind, err}
		}
		return f(ctx, job)
	})
}

// Handle makes h the handler of a kind, with the arguments as JSON. It panics if
// the kind has a handler, or is empty, or h is nil.
func (m *Mux) Handle(kind string, h Handler) {
	switch {
	case m.handlers == nil:
		panic("worker: this mux was not made by NewMux")
	case kind == "" || h == nil:
		panic("worker: Handle needs a kind and a handler")
	case m.handlers[kind] != nil:
		panic(fmt.Sprintf("worker: kind %q has a handler already", kind))
	}
	m.handlers[kind] = guard(h)
}

// Use adds middlewares: the first one added is the outermost.
func (m *Mux) Use(middlewares ...Middleware) {
	m.middlewares = append(m.middlewares, middlewares...)
	m.build()
}

// Kinds returns the kinds that have a handler, sorted.
func (m *Mux) Kinds() []string {
	kinds := make([]string, 0, len(m.handlers))
	for kind := range m.handlers {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

func (m *Mux) build() {
	m.serve = m.dispatch
	for _, mw := range slices.Backward(m.middlewares) {
		m.serve = mw(m.serve)
	}
	if len(m.middlewares) > 0 {
		m.serve = guard(m.serve)
	}
}

func (m *Mux) dispatch(ctx context.Context, attempt *Attempt) error {
	h := m.handlers[attempt.Kind]
	if h == nil {
		return &UnknownKindError{attempt.Kind}
	}
	return h(ctx, attempt)
}

// guard turns a panic into an error.
func guard(h Handler) Handler {
	return func(ctx context.Context, attempt *Attempt) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{v, debug.Stack()}
			}
		}()
		return h(ctx, attempt)
	}
}
