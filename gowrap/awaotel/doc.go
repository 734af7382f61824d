// Package awaotel traces and measures jobs with OpenTelemetry.
//
// The trace context of whoever enqueues a job travels in the job's metadata, in
// the fields of W3C Trace Context ("traceparent", "tracestate"), so producers and
// workers in other languages take part by the same names. The worker makes a span
// for each attempt, and metrics.
//
//	telemetry, err := awaotel.New(awaotel.Config{})
//	…
//	p := awa.EnqueueParams{Kind: "send_email", Args: mail}
//	err = telemetry.Inject(ctx, &p) // then enqueue p
//
//	mux.Use(telemetry.Middleware)
//
// The metrics carry the attributes awa.queue, awa.kind and, but for the running
// ones, awa.result:
//
//	awa.attempts           counter     attempts that ended
//	awa.attempt.duration   histogram   seconds that handlers took
//	awa.attempts.running   up-down     attempts in the hands of a handler
//
// awa.result is what the handler's error means: completed, snoozed, waiting (for
// an answer from outside), cancelled, failed (the attempt; the job is retried if it
// has attempts left) or terminal (the job failed for good by its handler's word).
// What queues hold is reported by [Telemetry.ObserveQueues].
package awaotel
