package awaotel_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/awaotel"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

func quiet(context.Context, *worker.Attempt) error { return nil }

func TestAttemptIsAChildOfTheProducer(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{})
	request := l.enqueueIn(t, pool, awa.EnqueueParams{Kind: "k"})
	var inside trace.SpanContext
	l.work(t, pool, func(ctx context.Context, _ *worker.Attempt) error {
		inside = trace.SpanContextFromContext(ctx)
		return nil
	})
	span := l.ended()[0]
	if span.Parent().SpanID() != request.SpanContext().SpanID() || !span.Parent().IsRemote() ||
		span.SpanContext().TraceID() != request.SpanContext().TraceID() {
		t.Errorf("parent %+v, want %+v", span.Parent(), request.SpanContext())
	}
	if inside.SpanID() != span.SpanContext().SpanID() {
		t.Error("the handler ran outside the span")
	}
	if span.SpanKind() != trace.SpanKindConsumer || attributeOf(span.Attributes(), "messaging.destination.name") != "default" ||
		attributeOf(span.Attributes(), "awa.attempt") != "1" {
		t.Errorf("%v %v", span.SpanKind(), span.Attributes())
	}
}

func TestAttemptMayBeATraceOfItsOwn(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{NewTraces: true})
	request := l.enqueueIn(t, pool, awa.EnqueueParams{Kind: "k"})
	l.work(t, pool, quiet)
	span := l.ended()[0]
	if span.Parent().IsValid() || span.SpanContext().TraceID() == request.SpanContext().TraceID() {
		t.Errorf("parent %+v", span.Parent())
	}
	if len(span.Links()) != 1 || span.Links()[0].SpanContext.SpanID() != request.SpanContext().SpanID() {
		t.Errorf("links %+v", span.Links())
	}
}

// Metadata that the application wrote, or a producer without traces, is no
// concern of the worker.
func TestJobsWithoutTraceContext(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{})
	for _, metadata := range []string{`{}`, `{"traceparent": 7}`, `{"traceparent": "nonsense"}`, `{"tenant": {"id": 1}}`} {
		if _, err := queue.Enqueue(t.Context(), pool, awa.EnqueueParams{Kind: "k", Metadata: json.RawMessage(metadata)}); err != nil {
			t.Fatal(err)
		}
		l.work(t, pool, quiet)
	}
	for _, span := range l.ended() {
		if span.Parent().IsValid() {
			t.Errorf("parent %+v", span.Parent())
		}
	}
}

func TestInjectKeepsMetadata(t *testing.T) {
	l := newLab(t, awaotel.Config{})
	ctx, span := l.traces.Tracer("test").Start(t.Context(), "request")
	defer span.End()
	for _, metadata := range []any{
		json.RawMessage(`{"tenant": 7, "traceparent": "old"}`), []byte(`{"tenant": 7}`), map[string]int{"tenant": 7},
		struct {
			Tenant int `json:"tenant"`
		}{7},
	} {
		p := awa.EnqueueParams{Kind: "k", Metadata: metadata}
		if err := l.Inject(ctx, &p); err != nil {
			t.Fatal(err)
		}
		doc, err := json.Marshal(p.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(doc), `"tenant":7`) || !strings.Contains(string(doc), span.SpanContext().TraceID().String()) {
			t.Errorf("%s", doc)
		}
	}
	for _, none := range []any{nil, json.RawMessage(nil), json.RawMessage(`null`)} {
		p := awa.EnqueueManyParams{Kind: "k", Metadata: none}
		if err := l.InjectMany(ctx, &p); err != nil {
			t.Fatal(err)
		}
	}
	wrong := awa.EnqueueParams{Kind: "k", Metadata: json.RawMessage(`[1]`)}
	if err := l.Inject(ctx, &wrong); err == nil {
		t.Error("metadata that is no object was taken")
	}
	untraced := awa.EnqueueParams{Kind: "k"}
	if err := l.Inject(t.Context(), &untraced); err != nil || untraced.Metadata != nil {
		t.Errorf("%v, %v", untraced.Metadata, err)
	}
}

func TestSpanTellsHowTheAttemptEnded(t *testing.T) {
	rude := errors.New("rude")
	for want, answer := range map[string]error{
		"completed": nil,
		"failed":    worker.RetryAfter(time.Second, rude),
		"terminal":  worker.Terminal(rude),
		"snoozed":   worker.Snooze(time.Hour),
		"waiting":   worker.Waiting,
		"cancelled": worker.Cancel("no"),
	} {
		t.Run(want, func(t *testing.T) {
			pool := pgtest.Pool(t)
			l := newLab(t, awaotel.Config{})
			l.enqueueIn(t, pool, awa.EnqueueParams{Kind: "k"})
			l.work(t, pool, func(context.Context, *worker.Attempt) error { return answer })
			span := l.ended()[0]
			if got := attributeOf(span.Attributes(), "awa.result"); got != want {
				t.Errorf("result %s", got)
			}
			wantCode := codes.Unset
			if errors.Is(answer, rude) {
				wantCode = codes.Error
			}
			if span.Status().Code != wantCode {
				t.Errorf("status %+v", span.Status())
			}
		})
	}
}

func TestSpanOfAPanicHasTheStack(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{})
	l.enqueueIn(t, pool, awa.EnqueueParams{Kind: "k"})
	res := l.work(t, pool, func(context.Context, *worker.Attempt) error { panic("no") })
	span := l.ended()[0]
	if res.Outcome != worker.Failed || span.Status().Code != codes.Error || len(span.Events()) != 1 ||
		!strings.Contains(attributeOf(span.Events()[0].Attributes, "exception.stacktrace"), "trace_test.go") {
		t.Errorf("%+v %+v %+v", res, span.Status(), span.Events())
	}
}

// The context survives the way through a retry.
func TestEveryAttemptHasASpan(t *testing.T) {
	pool := pgtest.Pool(t)
	l := newLab(t, awaotel.Config{})
	request := l.enqueueIn(t, pool, awa.EnqueueParams{Kind: "k"})
	l.work(t, pool, func(context.Context, *worker.Attempt) error { return worker.RetryAfter(0, errors.New("again")) })
	if _, err := queue.Maintain(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	l.work(t, pool, quiet)
	spans := l.ended()
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	for _, span := range spans {
		if span.Parent().SpanID() != request.SpanContext().SpanID() {
			t.Errorf("parent %+v", span.Parent())
		}
	}
	if attributeOf(spans[1].Attributes(), "awa.attempt") != "2" {
		t.Errorf("%v", spans[1].Attributes())
	}
}
