#!/usr/bin/env bash
# Sourced by the other scripts: runs commands, or with dry_run=1 prints them, quoted for a shell.
set -euo pipefail

dry_run=0

run() {
  if ((dry_run)); then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

fail() {
  echo "error: $*" >&2
  exit 2
}

# The value of an option, which must be there: option_value --zone "$@"
option_value() {
  [[ -n "${3:-}" ]] || fail "$1 needs a value"
  printf '%s' "$3"
}
