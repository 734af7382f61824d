package awa_test

import (
	"context"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// A program declares its schedules whenever it starts. Whoever maintains the queue
// enqueues their jobs; the name of the schedule and the time of the fire are in a
// job's metadata, and the time is its RunAt.
func ExampleClient_UpsertSchedule() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if _, err := queue.UpsertSchedule(ctx, pool, awa.ScheduleParams{
		Name: "pulse",
		Cron: "* * * * * *", // every second
		Kind: "measure",
		Args: map[string]string{"what": "pulse"},
	}); err != nil {
		log.Fatal(err)
	}
	for { // a worker.Client does this
		if _, err := queue.Maintain(ctx, pool); err != nil {
			log.Fatal(err)
		}
		jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
		if err != nil {
			log.Fatal(err)
		}
		if len(jobs) == 1 {
			fmt.Println(jobs[0].Kind, string(jobs[0].Args), jobs[0].RunAt.Nanosecond())
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	// Output: measure {"what": "pulse"} 0
}

// A schedule that is paused does not fire, and does not make up for it later.
func ExampleClient_PauseSchedule() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	weekly := awa.ScheduleParams{Name: "digest", Cron: "30 7 * * MON", Timezone: "Europe/Berlin", Kind: "digest"}
	if _, err := queue.UpsertSchedule(ctx, pool, weekly); err != nil {
		log.Fatal(err)
	}
	for _, change := range []func(context.Context, awa.DBTX, string) (bool, error){
		queue.PauseSchedule, queue.ResumeSchedule, queue.RemoveSchedule,
	} {
		if _, err := change(ctx, pool, "digest"); err != nil {
			log.Fatal(err)
		}
		schedules, err := queue.ListSchedules(ctx, pool)
		if err != nil {
			log.Fatal(err)
		}
		for _, s := range schedules {
			fmt.Println(s.Name, s.Cron, "paused:", !s.PausedAt.IsZero())
		}
	}
	// Output:
	// digest 30 7 * * MON paused: true
	// digest 30 7 * * MON paused: false
}

// The night in which clocks in Berlin leave out the hour from two to three.
func ExampleClient_CronNext() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	t := time.Date(2024, 3, 30, 22, 0, 0, 0, time.UTC)
	for range 3 {
		var err error
		if t, err = queue.CronNext(ctx, pool, "30 */2 * * *", "Europe/Berlin", t); err != nil {
			log.Fatal(err)
		}
		fmt.Println(t.UTC().Format(time.DateTime))
	}
	// Output:
	// 2024-03-30 23:30:00
	// 2024-03-31 02:30:00
	// 2024-03-31 04:30:00
}
