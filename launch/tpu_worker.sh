#!/usr/bin/env bash
# On each worker of a TPU VM; launch/tpu_vm.sh calls it. launch/tpu_worker.sh COMMAND
#
#   setup              make cdjax/.venv with cdjax for TPUs
#   start ARGUMENTS    start `cdjax ARGUMENTS`, which goes on when the connection ends
#   follow             show its output from the beginning until it ends, and end with its exit code
#   stop               ask it to save its state and end; kill it after two minutes
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${CDJAX_VENV:-$root/.venv}"
state="${CDJAX_STATE:-$HOME/cdjax-run}"

fail() {
  echo "tpu_worker: error: $*" >&2
  exit 2
}

setup() {
  if ! command -v python3.11 >/dev/null; then
    sudo apt-get update -qq
    sudo apt-get install -y -qq python3.11 python3.11-venv
  fi
  [[ -x "$venv/bin/python" ]] || python3.11 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --upgrade pip
  "$venv/bin/python" -m pip install --quiet --constraint "$root/launch/constraints.txt" \
    --editable "${root}[tpu]"
}

is_running() {
  [[ -f "$state/pid" ]] && kill -0 "$(cat "$state/pid")" 2>/dev/null
}

start() {
  (($#)) || fail "start needs what cdjax is to do"
  ! is_running || fail "already running; launch/tpu_vm.sh logs shows it"
  mkdir -p "$state"
  rm -f "$state/exit_code"
  cd "$root"
  # jax finds the other workers by itself on Cloud TPU.
  CDJAX_COORDINATOR="${CDJAX_COORDINATOR:-auto}" PYTHONUNBUFFERED=1 \
    setsid nohup "$root/launch/tpu_worker.sh" supervise "$@" > "$state/log" 2>&1 < /dev/null &
  echo "$!" > "$state/pid"
}

supervise() {  # of `start`: keeps the exit code
  local code=0
  "$venv/bin/cdjax" "$@" || code=$?
  echo "$code" > "$state/exit_code"
}

stop() {
  is_running || return 0
  local pid
  pid="$(cat "$state/pid")"
  pkill -TERM -P "$pid" || true   # cdjax, which saves its state; not its supervisor
  timeout 120 tail --pid="$pid" --follow /dev/null || kill -KILL -- "-$pid"
}

follow() {
  [[ -f "$state/pid" && -f "$state/log" ]] || fail "nothing was started here"
  tail --pid="$(cat "$state/pid")" --sleep-interval=0.5 --lines=+1 --follow=name "$state/log"
  [[ -f "$state/exit_code" ]] || fail "it ended without an exit code: it was killed"
  exit "$(cat "$state/exit_code")"
}

case "${1:-}" in
  setup | start | follow | stop | supervise) "$@" ;;
  *) fail "expected setup, start, follow or stop" ;;
esac
