package awaotel

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/awaqueue/awa/gowrap/worker"
)

// Middleware makes a span for each attempt and measures it; hand it to
// [worker.Mux.Use]. Added first, it sees what the other middlewares do.
//
// The span says what the handler returned. Whether the finish was then accepted is
// known later: a stale attempt has a span like any other.
func (t *Telemetry) Middleware(next worker.Handler) worker.Handler {
	return func(ctx context.Context, attempt *worker.Attempt) error {
		queue, kind := attribute.String("awa.queue", attempt.Queue), attribute.String("awa.kind", attempt.Kind)
		running := metric.WithAttributeSet(attribute.NewSet(queue, kind))
		t.running.Add(ctx, 1, running)
		begin := time.Now()
		ctx, span := t.start(ctx, attempt)

		// A middleware between here and the handler may panic as well.
		err := errPanicked
		defer func() {
			result, told := judge(err)
			end(span, result, told)
			ended := metric.WithAttributeSet(attribute.NewSet(queue, kind, attribute.String("awa.result", result)))
			t.running.Add(ctx, -1, running)
			t.attempts.Add(ctx, 1, ended)
			t.duration.Record(ctx, time.Since(begin).Seconds(), ended)
		}()
		err = next(ctx, attempt)
		return err
	}
}

var errPanicked = errors.New("panicked outside of the handler")

// start begins the span of an attempt.
func (t *Telemetry) start(ctx context.Context, attempt *worker.Attempt) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			// The names of OpenTelemetry's conventions for messaging.
			attribute.String("messaging.system", "awa"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", attempt.Queue),
			attribute.String("messaging.message.id", strconv.FormatInt(attempt.ID, 10)),
			attribute.String("awa.kind", attempt.Kind),
			attribute.Int("awa.attempt", int(attempt.Attempt)),
			attribute.Int("awa.max_attempts", int(attempt.MaxAttempts)),
			attribute.Int("awa.priority", int(attempt.Priority)),
		),
	}
	from := t.Extract(ctx, attempt.Job)
	if t.newTraces {
		if producer := trace.SpanContextFromContext(from); producer.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: producer}))
		}
		options = append(options, trace.WithNewRoot())
	}
	return t.tracer.Start(from, "process "+attempt.Kind, options...)
}

// end closes the span. Only failures are errors: a snooze, a cancel or a wait is
// the handler's wish.
func end(span trace.Span, result string, err error) {
	span.SetAttributes(attribute.String("awa.result", result))
	switch result {
	case failed, terminal:
		record(span, err)
	case cancelled, snoozed, waiting:
		span.AddEvent(fmt.Sprint(err)) // which survives a text that panics
	}
	span.End()
}

func record(span trace.Span, err error) {
	description := err.Error()
	var panicked *worker.PanicError
	if errors.As(err, &panicked) {
		description = "panic"
		span.RecordError(err, trace.WithAttributes(attribute.String("exception.stacktrace", string(panicked.Stack))))
	} else {
		span.RecordError(err)
	}
	span.SetStatus(codes.Error, description)
}

// The values of awa.result.
const (
	completed = "completed"
	snoozed   = "snoozed"
	waiting   = "waiting" // for an answer from outside
	cancelled = "cancelled"
	failed    = "failed"
	terminal  = "terminal"
)

// judge returns the result and the error that tells why. A method of the error may
// panic, that of a nil pointer for one: then the worker takes the attempt as failed by
// that, and reads no text but that of a failure.
func judge(err error) (result string, told error) {
	defer func() {
		if p := recover(); p != nil {
			result, told = failed, &worker.PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	result = resultOf(err)
	if result == failed || result == terminal {
		_ = err.Error()
	}
	return result, err
}

// resultOf reads a handler's error as the worker does: of several wishes the
// gravest counts.
func resultOf(err error) string {
	var (
		forGood *worker.TerminalError
		cancel  *worker.CancelError
		snooze  *worker.SnoozeError
		retry   *worker.RetryAfterError
	)
	switch {
	case err == nil:
		return completed
	case errors.As(err, &forGood):
		return terminal
	case errors.As(err, &cancel):
		return cancelled
	case errors.As(err, &snooze):
		return snoozed
	case !errors.As(err, &retry) && errors.Is(err, worker.Waiting):
		return waiting
	}
	return failed
}
