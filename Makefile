# multiactive: `make demo` and `make test` do their own set-up; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
# Always the whole workspace's features: a part that is built alone has others, and is built twice.
CARGO_BUILD := cargo build --workspace
# Most tests wait for a server: twice as many as there are processors keep these at work, where they are few.
export RUST_TEST_THREADS ?= $(shell n=$$(nproc); echo $$((n > 4 ? n : 2 * n)))

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: prerequisites
prerequisites: ## Say what is missing or too old on this machine, and how to install it
	@hack/prerequisites.sh

.PHONY: tools
tools: prerequisites ## Build or unpack Kubernetes, etcd, helm, kwok and PostgreSQL, once, into the cache
	@$(CARGO_BUILD) --bin fleet
	@$(BIN)/fleet tools

.PHONY: build
build: prerequisites ## Build all programs of the workspace, unoptimised
	@$(CARGO_BUILD) --bins

.PHONY: demo
demo: build tools ## Run the shop in three regions and move ownership under load; leaves it up to look around
	@$(BIN)/demo up

.PHONY: demo-down
demo-down: ## Remove the demo
	@[ -x $(BIN)/demo ] || $(CARGO_BUILD) --bin demo
	@$(BIN)/demo down

.PHONY: soak
soak: build tools ## The demo 50 times (RUNS=50): planned moves and a lost region, until one run fails
	@hack/soak.sh

.PHONY: fleet-up
fleet-up: build tools ## Start three clusters and three PostgreSQL servers that run the programs built here
	@$(BIN)/fleet up --name local --clusters east,north,south --postgres east,north,south --programs $(BIN)

.PHONY: fleet-down
fleet-down: ## Remove them
	@[ -x $(BIN)/fleet ] || $(CARGO_BUILD) --bin fleet
	@$(BIN)/fleet down --name local

.PHONY: test
test: build tools ## Run the test suite, but for what lasts for minutes (test-faults) or needs more (the others)
	@cargo test --workspace --no-fail-fast

.PHONY: test-tls
test-tls: tools ## The tests with encrypted sessions and links of PostgreSQL, which need npm
	@cargo test --workspace --test encrypted -- --ignored

.PHONY: test-versions
test-versions: tools ## The databases' tests on PostgreSQL 16 and 17, which need npm
	@hack/test-versions.sh

.PHONY: test-faults
test-faults: build tools ## The faults on real processes that take longest, on PostgreSQL and MariaDB: an hour (WITHIN=SECONDS: some)
	@hack/faults.sh

.PHONY: test-mysql
test-mysql: build tools ## The tests of MySQL, which need the packages of Debian's unstable release
	@cargo test --workspace --no-fail-fast --test mysql -- --include-ignored
	@cargo test --workspace --no-fail-fast --test lease_lost --test killed_at_each_step -- --ignored with_mysql

.PHONY: generate
generate: prerequisites ## Write crds/ and the chart's copies from src/api
	@$(CARGO_BUILD) --bin crdgen
	@$(BIN)/crdgen

.PHONY: lint
lint: prerequisites tools ## Formatting, clippy, generated files, chart, dependencies
	@hack/lint.sh

.PHONY: audit
audit: prerequisites ## Known vulnerabilities of dependencies (needs the advisory database from the network)
	@hack/deny.sh check advisories

.PHONY: bench
bench: prerequisites tools ## All benchmarks, each against a peer or a limit in the same run: docs/performance.md
	@cargo build --release --workspace --bins
	@cargo bench --workspace --no-fail-fast --bench '*'
