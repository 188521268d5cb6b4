#!/usr/bin/env bash
# The faults on real processes that take longest, one after the other: what is ignored of the end-to-end tests and needs nothing that
# others do not. WITHIN=SECONDS begins none after that; which comes first changes with each commit, so that each has its turn.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t programs < <(
  cargo test --workspace --no-run --message-format=json-render-diagnostics --test '*' | python3 -c '
import json, sys
for line in sys.stdin:
    found = json.loads(line)
    ours = found.get("executable") and found["manifest_path"].endswith("/e2e/Cargo.toml")
    if ours and "test" in found["target"]["kind"]:
        print(found["target"]["name"], found["executable"])'
)
cd e2e
faults=()
for program in "${programs[@]}"; do
  read -r name path <<<"$program"
  # Those of MySQL are run by make test-mysql.
  [ "$name" = mysql ] && continue
  while read -r fault; do
    faults+=("$name $path $fault")
  done < <("$path" --list --ignored | sed -n 's/: test$//p' | grep -v mysql || true)
done
count=${#faults[@]}
[ "$count" -gt 0 ] || { echo "no fault was found" >&2; exit 1; }
first=$(($(git rev-list --count HEAD) % count))
failed=() left=()
for turn in $(seq 0 $((count - 1))); do
  read -r name path fault <<<"${faults[$(((first + turn) % count))]}"
  if [ -n "${WITHIN:-}" ] && [ "$SECONDS" -ge "$WITHIN" ]; then
    left+=("$name::$fault")
    continue
  fi
  began=$SECONDS
  echo "== $name::$fault"
  "$path" --ignored --exact "$fault" --nocapture || failed+=("$name::$fault")
  echo "== done in $((SECONDS - began)) s: $name::$fault"
done
[ ${#left[@]} -eq 0 ] || printf 'no time for: %s\n' "${left[@]}"
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
echo "$((count - ${#left[@]})) of $count were run, and passed"
