#!/usr/bin/env bash
# Everything that is checked without running the product.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { echo "== $1"; shift; "$@"; }
step "formatting" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets -- -D warnings
step "generator" cargo build --workspace --bin crdgen
step "generated files" "${CARGO_TARGET_DIR:-target}/debug/crdgen" --check
step "chart" hack/check-chart.sh
step "dependencies" hack/deny.sh check bans licenses sources
