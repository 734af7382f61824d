// Package worker runs the jobs of awa's queues: it claims them, hands each to the
// handler of its kind, and finishes them.
//
//	mux := worker.NewMux()
//	worker.Register(mux, func(ctx context.Context, job *worker.Job[SendEmail]) error {
//		return mailer.Send(ctx, job.Args.To)
//	})
//	client, err := worker.New(worker.Config{
//		Pool:   pool,
//		Queues: map[string]worker.QueueConfig{"email": {MaxWorkers: 50}},
//	}, mux)
//	…
//	err = client.Run(ctx) // until ctx is done
//
// A job may be run more than once: after a crash of the worker or of the server,
// or when a worker was silent for too long. So make handlers idempotent, or do the
// work in a transaction and end it with [Attempt.CompleteTx].
//
// What a handler returns decides what becomes of the job:
//
//	nil                   completed
//	Snooze(d)             back in the queue after d; the attempt is not counted
//	RetryAfter(d, err)    failed; the next attempt after d
//	Cancel(reason)        cancelled, for good
//	Terminal(err)         failed, for good
//	Waiting               left to whoever answers; see Attempt.RegisterCallback
//	any other error       failed; the next attempt after the server's backoff
//	a panic               the same, with the stack in the error's text
//
// "Failed" is for good when it was the last attempt that the job may have.
package worker
