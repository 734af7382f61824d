package awaotel

import (
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// scope names the instrumentation.
const scope = "github.com/awaqueue/awa/gowrap/awaotel"

// Config configures Telemetry. The zero value uses the global providers and W3C
// Trace Context.
type Config struct {
	// TracerProvider defaults to the global one.
	TracerProvider trace.TracerProvider
	// MeterProvider defaults to the global one.
	MeterProvider metric.MeterProvider
	// Propagator writes the trace context into metadata and reads it. Defaults to
	// propagation.TraceContext. Baggage is left out unless you ask for it here:
	// what is in metadata is stored, and read by whoever reads jobs.
	Propagator propagation.TextMapPropagator
	// NewTraces makes each attempt the root of a trace of its own, with a link to
	// the producer's span, instead of that span's child. It suits jobs that run
	// long after they were enqueued, or very often.
	NewTraces bool
}

// Telemetry carries trace context through jobs and observes their attempts. It is
// safe for concurrent use.
type Telemetry struct {
	tracer     trace.Tracer
	meter      metric.Meter
	propagator propagation.TextMapPropagator
	newTraces  bool

	attempts metric.Int64Counter
	duration metric.Float64Histogram
	running  metric.Int64UpDownCounter
}

// New returns the telemetry of a config. Errors are those of the meter provider.
func New(cfg Config) (*Telemetry, error) {
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.Propagator == nil {
		cfg.Propagator = propagation.TraceContext{}
	}
	t := &Telemetry{
		tracer:     cfg.TracerProvider.Tracer(scope),
		meter:      cfg.MeterProvider.Meter(scope),
		propagator: cfg.Propagator,
		newTraces:  cfg.NewTraces,
	}
	var errs [3]error
	t.attempts, errs[0] = t.meter.Int64Counter("awa.attempts",
		metric.WithUnit("{attempt}"), metric.WithDescription("Attempts that ended."))
	t.duration, errs[1] = t.meter.Float64Histogram("awa.attempt.duration",
		metric.WithUnit("s"), metric.WithDescription("Time that handlers took for an attempt."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800))
	t.running, errs[2] = t.meter.Int64UpDownCounter("awa.attempts.running",
		metric.WithUnit("{attempt}"), metric.WithDescription("Attempts in the hands of a handler."))
	return t, errors.Join(errs[:]...)
}
