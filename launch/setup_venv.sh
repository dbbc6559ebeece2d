#!/usr/bin/env bash
# Makes or reuses a virtual environment with cdjax, its tests' needs and pinned versions.
#
# Sourced by the other scripts (which then use "$venv"), or run by itself. CDJAX_VENV names another
# folder than .venv; PYTHON names the interpreter to make it with.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${CDJAX_VENV:-$root/.venv}"

fail() {
  echo "setup: error: $*" >&2
  exit 1
}

is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    if is_new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed; found $(python3 --version 2>&1 || echo none)." \
    "Install it (Debian: apt install python3 python3-venv), or set PYTHON."
}

# What the environment was made from: a change of any of it installs again.
fingerprint() {
  echo "$root"
  cat "$root/setup.py" "$root/pyproject.toml" "$root/launch/constraints.txt" | sha256sum
}

stamp="$venv/.cdjax-installed"
if ! [[ -x "$venv/bin/python" && -f "$stamp" && "$(cat "$stamp")" == "$(fingerprint)" ]]; then
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python="$(find_python)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null \
      || fail "$python cannot make virtual environments (Debian: apt install python3-venv)."
    if [[ -n "$(ls -A "$venv" 2>/dev/null)" && ! -f "$venv/pyvenv.cfg" ]]; then
      fail "$venv is not empty and not a virtual environment; name another by CDJAX_VENV."
    fi
    echo "setup: making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
  fi
  echo "setup: installing cdjax and its requirements (about 1.2 GB, a few minutes)"
  rm -f "$stamp"
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet \
    --constraint "$root/launch/constraints.txt" --editable "${root}[test]"
  fingerprint > "$stamp"
fi
