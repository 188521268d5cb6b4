#!/usr/bin/env bash
# Names what is missing or too old on this machine, with the command that installs it, before anything is compiled.
# With --packages: only prints the Debian packages that are needed.
#
# The numbers stand where the builds read them: rust-toolchain.toml and the go.mod files of hack/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
packages="make gcc libc6-dev git curl ca-certificates python3 python3-pip util-linux"
if [ "${1:-}" = --packages ]; then
  echo "$packages"
  exit
fi

rust="$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)"
go="$(sed -n 's/^go //p' hack/tools/*/go.mod | sort -V | tail -1)"
install_rustup="curl -fsS https://sh.rustup.rs | sh -s -- -y --default-toolchain none && . ~/.cargo/env"
install_rust="rustup toolchain install $rust --profile minimal --component clippy --component rustfmt"
install_go="$(sed "s/@VERSION@/$go/; s/@ARCH@/$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')/" hack/tools/go-install.txt)"

missing=()
there() { command -v "$1" >/dev/null 2>&1; }
need() { there "$1" || missing+=("$1: sudo apt-get install $2"); }
# old FOUND WANTED: whether FOUND is no version or one before WANTED.
old() { [[ ! $1 =~ ^[0-9] ]] || [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1)" != "$2" ]; }

need cc "gcc libc6-dev"
need git "git"
need setpriv "util-linux"
need python3 "python3 python3-pip"
if there python3 && ! python3 -m pip --version >/dev/null 2>&1; then
  missing+=("pip: sudo apt-get install python3 python3-pip")
fi

# rustup takes the toolchain from rust-toolchain.toml, and fetches it here where it may.
for program in rustc cargo; do
  found="$(there $program && $program --version </dev/null | awk '{print $2}' || true)"
  if old "$found" "$rust"; then
    there rustup && install="$install_rust" || install="$install_rustup"
    missing+=("$program $rust or newer (found: ${found:-none}): $install")
    break
  fi
done

# From 1.21 on, go fetches the toolchain that a go.mod asks for, where GOTOOLCHAIN and the network let it: so the
# question is which version answers in the folder of the go.mod that asks for the newest.
folder="$(dirname "$(grep -lx "go $go" hack/tools/*/go.mod | head -1)")"
found="$(there go && cd "$folder" && GOWORK=off go env GOVERSION </dev/null | sed 's/^.*go\([0-9]\)/\1/; s/ .*//' || true)"
if old "$found" "$go"; then
  found="${found:-$(there go && cd / && GOTOOLCHAIN=local go version </dev/null | sed 's/^.*go\([0-9]\)/\1/; s/ .*//' || true)}"
  missing+=("go $go or newer (found: ${found:-none}; Debian 12 has 1.19): $install_go")
fi

if [ ${#missing[@]} -gt 0 ]; then
  echo "missing on this machine:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  echo "all of Debian's packages at once: sudo apt-get install $packages" >&2
  exit 1
fi
