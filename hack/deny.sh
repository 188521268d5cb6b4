#!/usr/bin/env bash
# Runs cargo-deny of the pinned version, installed once into the cache.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
cache="$(hack/cache-root.sh)/cargo-deny-$version"
if [ ! -x "$cache/bin/cargo-deny" ]; then
  echo "installing cargo-deny $version into $cache (once)" >&2
  # Not optimised: it runs for seconds, and would be compiled for twice as many minutes.
  cargo install --locked --debug --root "$cache" "cargo-deny@$version"
fi
exec "$cache/bin/cargo-deny" "$@"
