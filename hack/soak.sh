#!/usr/bin/env bash
# The demo, again and again: RUNS times (50), each on a fleet of its own that is gone afterwards. Ends at the first run that
# fails, with its log; what was lost and within which bound is in each line.
set -euo pipefail
cd "$(dirname "$0")/.."
runs="${RUNS:-50}"
target="${CARGO_TARGET_DIR:-target}"
dir="$target/soak"
mkdir -p "$dir"
cell() { # a row of the demo's table, by its first words: what was found
  grep -F "│ $1" "$dir/log" | tail -1 | awk -F'┆' '{gsub(/^ +| +$/, "", $2); print $2}'
}
printf '%-8s %-6s %-16s %-18s %-18s %s\n' run took "served elsewhere" "lost unplanned" "bound" "failed, planned"
for run in $(seq "$runs"); do
  began=$SECONDS
  if ! "$target/debug/demo" --dir "$dir/fleet" up --then-down --own-network >"$dir/log" 2>&1; then
    tail -60 "$dir/log"
    echo "run $run of $runs failed; all of it is in $dir/log, the programs' logs in $dir/fleet" >&2
    exit 1
  fi
  printf '%-8s %-6s %-16s %-18s %-18s %s\n' "$run/$runs" "$((SECONDS - began))s" "$(cell "served elsewhere")" \
    "$(cell "acknowledged and lost")" "$(cell "the bound of the loss")" "$(cell "requests that failed on its way home")"
done
