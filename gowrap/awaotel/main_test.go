package awaotel_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/awaotel"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var queue = awa.New()

// lab holds everything that was recorded.
type lab struct {
	*awaotel.Telemetry
	spans  *tracetest.SpanRecorder
	traces *sdktrace.TracerProvider
	reader *sdkmetric.ManualReader
}

func newLab(t *testing.T, cfg awaotel.Config) *lab {
	t.Helper()
	l := &lab{spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	l.traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(l.spans))
	cfg.TracerProvider = l.traces
	cfg.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(l.reader))
	var err error
	if l.Telemetry, err = awaotel.New(cfg); err != nil {
		t.Fatal(err)
	}
	return l
}

// ended returns the spans of attempts of the kind "k".
func (l *lab) ended() (spans []sdktrace.ReadOnlySpan) {
	for _, s := range l.spans.Ended() {
		if s.Name() == "process k" {
			spans = append(spans, s)
		}
	}
	return spans
}

// metric returns what a metric of a name holds.
func (l *lab) metric(t *testing.T, name string) metricdata.Aggregation {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := l.reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m.Data
			}
		}
	}
	t.Fatalf("no metric %s", name)
	return nil
}

func attributeOf(attributes []attribute.KeyValue, key string) string {
	for _, a := range attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// enqueueIn enqueues a job within a span of its own, which it returns ended.
func (l *lab) enqueueIn(t *testing.T, db awa.DBTX, p awa.EnqueueParams) sdktrace.ReadOnlySpan {
	t.Helper()
	ctx, span := l.traces.Tracer("test").Start(t.Context(), "request")
	if err := l.Inject(ctx, &p); err != nil {
		t.Fatal(err)
	}
	_, err := queue.Enqueue(ctx, db, p)
	span.End()
	if err != nil {
		t.Fatal(err)
	}
	return span.(sdktrace.ReadOnlySpan)
}

// work claims a job of the kind "k" and runs it through the middleware.
func (l *lab) work(t *testing.T, db awa.DBTX, handler worker.Handler) worker.Result {
	t.Helper()
	mux := worker.NewMux()
	mux.Use(l.Middleware)
	mux.Handle("k", handler)
	jobs, err := queue.Claim(t.Context(), db, awa.ClaimParams{Queue: "default"})
	if err != nil || len(jobs) != 1 {
		t.Fatalf("claimed %d jobs, %v", len(jobs), err)
	}
	res, err := mux.Work(t.Context(), queue, db, &jobs[0])
	if err != nil {
		t.Fatal(err)
	}
	return res
}
