#!/usr/bin/env bash
# The tests of PostgreSQL's driver once more on older releases (RELEASES="16 17"), those of its files that TESTS names or all,
# and those of members that are of different ones.
set -euo pipefail
cd "$(dirname "$0")/.."
# encrypted: its servers are of npm's 18 anyway.
all="behind caught_up compare cut diverged fence flushed follow given_up in_place incarnation joined lease mesh reseed \
  single_writer tables transactions"
read -ra names <<<"${TESTS:-$all}"
tests=(--test versions)
for name in "${names[@]}"; do
  tests+=(--test "$name")
done
# Other parts have tests of the same names; those have nothing to do with it.
mapfile -t programs < <(
  cargo test --workspace --no-run --message-format=json-render-diagnostics "${tests[@]}" | python3 -c '
import json, sys
for line in sys.stdin:
    found = json.loads(line)
    if found.get("executable") and found["manifest_path"].endswith("/src/stores/Cargo.toml"):
        print(found["target"]["name"], found["executable"])'
)
[ ${#programs[@]} -gt "${#names[@]}" ] || { echo "not all of these are tests: ${names[*]}" >&2; exit 1; }
failed=()
cd src/stores
for program in "${programs[@]}"; do
  read -r name path <<<"$program"
  if [ "$name" = versions ]; then
    "$path" --ignored || failed+=("$name")
    continue
  fi
  for release in ${RELEASES:-16 17}; do
    echo "== $name on PostgreSQL $release"
    MULTIACTIVE_POSTGRES=$release "$path" || failed+=("$name on $release")
  done
done
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
