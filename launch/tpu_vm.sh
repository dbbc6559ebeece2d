#!/usr/bin/env bash
# Trains on a Cloud TPU VM, one host or a pod: launch/tpu_vm.sh COMMAND --name NAME --zone ZONE ...
#
#   create                  make the TPU VM
#   setup                   copy this checkout's sources to every worker and install them there
#   run -- ARGUMENTS        start `cdjax ARGUMENTS` on every worker, then show worker 0's output
#   logs                    show the output of what is running, from its beginning
#   stop                    ask what is running to save its state and end, on every worker
#   loop -- ARGUMENTS       create, set up and run; again after a failure or a preemption
#   delete                  delete the TPU VM
#
#   --type TYPE             accelerator (v5litepod-8)
#   --version VERSION       software of the VM (v2-alpha-tpuv5-lite)
#   --project PROJECT       if not gcloud's own
#   --spot                  cheaper, may be taken away at any time
#   --worker N              whose output to show (0)
#   --restarts N            how often `loop` starts again (10)
#   --wait SECONDS          that `loop` waits before it does (30)
#   --dry-run               print the commands instead of running them
#
# Training goes on where it was, so --workdir and the data set must outlive the VM: name a folder of
# a file system that every worker mounts.
#
#   launch/tpu_vm.sh loop --name cf --zone us-west4-a --type v5litepod-16 --spot -- \
#     train --config configs/mimic_cxr.py --workdir /mnt/run --config.data.path=/mnt/data
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=dry_run.sh
source "$root/launch/dry_run.sh"

usage() {
  sed -n '2,/^set -euo/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

name='' zone='' type='v5litepod-8' version='v2-alpha-tpuv5-lite' worker=0 restarts=10 wait=30
place=() extra=()
command="${1:-}"
case "$command" in
  create | setup | run | logs | stop | loop | delete) shift ;;
  -h | --help) usage; exit 0 ;;
  *) fail "expected create, setup, run, logs, stop, loop or delete; --help explains" ;;
esac
while (($#)); do
  case "$1" in
    --name) name="$(option_value "$1" "$@")"; shift 2 ;;
    --zone) zone="$(option_value "$1" "$@")"; shift 2 ;;
    --type) type="$(option_value "$1" "$@")"; shift 2 ;;
    --version) version="$(option_value "$1" "$@")"; shift 2 ;;
    --project) place+=("--project=$(option_value "$1" "$@")"); shift 2 ;;
    --worker) worker="$(option_value "$1" "$@")"; shift 2 ;;
    --restarts) restarts="$(option_value "$1" "$@")"; shift 2 ;;
    --wait) wait="$(option_value "$1" "$@")"; shift 2 ;;
    --spot) extra+=(--spot); shift ;;
    --dry-run) dry_run=1; shift ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
done
[[ -n "$name" && -n "$zone" ]] || fail "--name and --zone are needed"
[[ "$restarts" =~ ^[0-9]+$ && "$wait" =~ ^[0-9]+$ ]] || fail "--restarts and --wait are numbers"
case "$command" in
  run | loop) (($#)) || fail "$command needs -- and what cdjax is to do" ;;
  *) (($# == 0)) || fail "$command takes no arguments after --" ;;
esac
place=("--zone=$zone" "${place[@]}")
tpu=(gcloud compute tpus tpu-vm)

on_worker() {  # on_worker WORKER COMMAND
  run "${tpu[@]}" ssh "$name" "${place[@]}" "--worker=$1" "--command=$2"
}

create() {
  run "${tpu[@]}" create "$name" "${place[@]}" "--accelerator-type=$type" "--version=$version" \
    "${extra[@]}"
}

delete() {
  run "${tpu[@]}" delete "$name" "${place[@]}" --quiet
}

set_up() {
  local folder=/tmp code=0
  ((dry_run)) || folder="$(mktemp -d)"
  # The sources only: data sets and runs may lie in the checkout, and stay here.
  run tar -czf "$folder/cdjax.tar.gz" --exclude=__pycache__ -C "$root" \
    LICENSE README.md cdjax configs launch pyproject.toml setup.py &&
    run "${tpu[@]}" scp "$folder/cdjax.tar.gz" "$name:cdjax.tar.gz" "${place[@]}" --worker=all &&
    on_worker all 'mkdir -p cdjax && tar -xzf cdjax.tar.gz -C cdjax' &&
    on_worker all 'cdjax/launch/tpu_worker.sh setup' || code=$?
  ((dry_run)) || rm -rf "$folder"
  return "$code"
}

stop() {
  on_worker all 'cdjax/launch/tpu_worker.sh stop'
}

start() {
  local arguments
  printf -v arguments '%q ' "$@"
  on_worker all "cdjax/launch/tpu_worker.sh start ${arguments% }"
}

follow() {
  on_worker "$worker" "cdjax/launch/tpu_worker.sh follow"
}

is_ready() {
  local state
  state="$("${tpu[@]}" describe "$name" "${place[@]}" '--format=value(state)' 2>/dev/null)" || return 1
  [[ "$state" == READY ]]
}

# A spot VM that was taken away stays in the list and has to be deleted before it is made again.
ensure() {
  if ((dry_run)); then
    run "${tpu[@]}" describe "$name" "${place[@]}" '--format=value(state)'
  elif is_ready; then
    return
  else
    delete || true
  fi
  create && set_up
}

loop() {
  local attempt
  for ((attempt = 0; attempt <= restarts; attempt++)); do
    # One worker that has failed leaves the others waiting for it: all are stopped first.
    if ensure && stop && start "$@" && follow; then
      return
    fi
    echo "stopped; start again, $((restarts - attempt)) times left" >&2
    ((attempt == restarts)) || run sleep "$wait"
  done
  return 1
}

case "$command" in
  setup) set_up ;;
  run) start "$@" && follow ;;
  logs) follow ;;
  loop) loop "$@" ;;
  *) "$command" ;;
esac
