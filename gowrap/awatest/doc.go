// Package awatest helps to test code that enqueues jobs and code that works on
// them, against a real server.
//
// What a transaction enqueued it may claim as well, so a test needs no commit and
// leaves nothing behind:
//
//	func TestSignUp(t *testing.T) {
//		tx := awatest.Tx(t, pool) // rolled back when the test ends
//		if err := SignUp(t.Context(), tx, "ada@example.com"); err != nil {
//			t.Fatal(err)
//		}
//		job := awatest.RequireEnqueued[SendEmail](t, tx)
//		if job.Args.To != "ada@example.com" {
//			t.Errorf("mail to %s", job.Args.To)
//		}
//		awatest.Drain(t, tx, mux, awatest.DrainParams{})
//	}
//
// Every function fails the test, and ends it, when it cannot do what it says.
package awatest
