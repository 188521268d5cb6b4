# multiactive: `make demo` and `make test` do their own set-up; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
FLEET := cargo run --quiet -p multiactive-fleet --bin fleet --

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: prerequisites
prerequisites:
	@hack/prerequisites.sh

.PHONY: tools
tools: prerequisites ## Build or unpack Kubernetes, etcd, helm, kwok and PostgreSQL, once, into the cache
	@$(FLEET) tools

.PHONY: build
build: prerequisites
	@cargo build --workspace --bins

.PHONY: demo
demo: build tools ## Run the shop in three regions and move ownership under load; leaves it up to look around
	@target/debug/demo up

.PHONY: demo-down
demo-down: ## Remove the demo
	@cargo build --quiet -p multiactive-e2e --bin demo
	@target/debug/demo down

.PHONY: fleet-up
fleet-up: build tools ## Start three clusters and three PostgreSQL servers that run the programs built here
	@target/debug/fleet up --name local --clusters east,north,south --postgres east,north,south --programs target/debug

.PHONY: fleet-down
fleet-down: ## Remove them
	@$(FLEET) down --name local

.PHONY: test
test: build tools ## Run the whole test suite
	@cargo test --workspace --no-fail-fast

.PHONY: generate
generate: prerequisites ## Write crds/ and the chart's copies from src/api
	@cargo run --quiet -p multiactive-api --bin crdgen

.PHONY: lint
lint: prerequisites tools ## Formatting, clippy, generated files, chart, dependencies
	@hack/lint.sh

.PHONY: audit
audit: prerequisites ## Known vulnerabilities of dependencies (needs the advisory database from the network)
	@hack/deny.sh check advisories

.PHONY: bench
bench: prerequisites tools ## All benchmarks, each against a peer or a limit in the same run: docs/performance.md
	@cargo build --release --bins -p multiactive-operator -p multiactive-agent -p multiactive-router -p shop
	@cargo bench --workspace --no-fail-fast --bench '*'
