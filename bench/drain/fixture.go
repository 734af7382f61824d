package main

import "github.com/awaqueue/awa/internal/bench"

var queue = bench.Queue

// lane is the queue that most phases use.
const lane = "bench"
