.DEFAULT_GOAL := help
SHELL := bash -eu -o pipefail
export PATH := $(PATH):/usr/local/go/bin

AWA := bin/awa-admin
VERSIONS ?= 15 16 17 18

.PHONY: help setup demo build test test/sql test/iso test/go test-chaos test-versions test-docker lint bench bench-peers bench-steady bench-horizon bench-long bench-counts bench-drain bench-latency clean

help: ## Print this message
	@awk -F ':.*## ' '/^[a-z\/-]+:.*## /{printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what the tests need and this machine lacks
	@scripts/setup test

demo: ## Show what awa does, on a throw-away server
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@$(AWA) demo

build: ## Build bin/awa-admin
	@mkdir -p bin
	go build -buildvcs=false -o $(AWA) ./cmd/awa-admin

# Isolation specs wait for most of their time, so they run beside the Go tests.
test: test/sql ## Every test
	@$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),-Otarget) test/iso test/go

test/sql: setup build ## pgTAP and plpgsql_check: rolled-back files in parallel, committing ones alone
	$(AWA) server run -- scripts/pgtap -j 2 pgtap/*.sql
	$(if $(wildcard pgtap/race/*.sql),$(AWA) server run -- scripts/pgtap pgtap/race/*.sql)

test/iso: setup build ## Isolation specs: every interleaving spelled out
	$(AWA) server run -- scripts/isolation

test/go: setup ## Go tests
	go test -timeout 1h ./...

test-chaos: setup ## 20 killed workers and 5 crashes of the server during 100,000 jobs
	AWA_CHAOS=full go test -count=1 -v -run TestChaos ./gowrap/worker

test-versions: setup ## Every test on each supported PostgreSQL: VERSIONS="16 17 18"
	scripts/test-versions $(VERSIONS)

test-docker: setup build ## Every test on PostgreSQL in a container
	go build -buildvcs=false -o bin/with-docker ./internal/dockerpg/with
	bin/with-docker $(MAKE) --no-print-directory test

lint: ## gofmt, go vet, staticcheck
	@files=$$(gofmt -l .); \
	if [ -n "$$files" ]; then echo "gofmt: $$files" >&2; exit 1; fi
	go vet ./...
	STATICCHECK_CACHE="$${STATICCHECK_CACHE:-$$(go env GOCACHE)/staticcheck}" go tool staticcheck ./...
	cd bench/peers && go vet -mod=mod ./...

# Where JSON and charts go; empty prints the figures and writes nothing.
BENCH_OUT ?= $(CURDIR)/docs/benchmarks
# What one benchmark is told beside that: make bench-long BENCH_FLAGS="--long 2h".
BENCH_FLAGS ?=
PEERS = cd bench/peers && go run -mod=mod . --out "$(BENCH_OUT)"

bench: bench-peers bench-steady bench-horizon bench-counts bench-drain bench-latency ## Every benchmark but bench-long; takes more than an hour

bench-peers: ## Compare with River, graphile-worker, pg-boss and PgQ
	@scripts/setup demo
	$(PEERS) --name peers $(BENCH_FLAGS)

bench-steady: ## Compare latency and queue depth at a steady rate
	@scripts/setup demo
	$(PEERS) --name steady --only steady $(BENCH_FLAGS)

bench-horizon: ## Compare for a minute beside nobody, a held snapshot and a held writer
	@scripts/setup demo
	$(PEERS) --name horizon --only free,horizon,writer $(BENCH_FLAGS)

bench-long: ## Work for half an hour: rates, latency and storage over time
	@scripts/setup demo
	$(PEERS) --name long --only long --systems awa $(BENCH_FLAGS)

bench-counts: ## Count the jobs of a queue as its history grows to ten million
	@scripts/setup demo
	$(PEERS) --name counts --only counts --systems awa,river $(BENCH_FLAGS)

bench-drain: ## Measure awa alone: throughput, latency, footprint, large backlogs
	@scripts/setup demo
	go run ./bench/drain --json "" --out "$(BENCH_OUT)" $(BENCH_FLAGS)

bench-latency: ## Measure the Go worker: pickup, drain, what producers pay for it
	@scripts/setup demo
	go run ./bench/latency --out "$(BENCH_OUT)" $(BENCH_FLAGS)

clean: ## Remove what build made
	rm -rf bin
