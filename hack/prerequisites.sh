#!/usr/bin/env bash
# Names what is missing on this machine, with the command that installs it.
set -euo pipefail
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$1: $2"); }
need cargo "see https://rustup.rs"
need go "sudo apt-get install golang, or see https://go.dev/dl (1.24 or newer)"
need python3 "sudo apt-get install python3"
need cc "sudo apt-get install gcc libc6-dev"
need git "sudo apt-get install git"
need setpriv "sudo apt-get install util-linux"
if command -v python3 >/dev/null 2>&1; then
  python3 -m pip --version >/dev/null 2>&1 || missing+=("pip: sudo apt-get install python3-pip")
fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "missing on this machine:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi
