#!/usr/bin/env bash
# Trains on a Slurm cluster: launch/slurm.sh [OPTION...] -- ARGUMENTS submits `cdjax ARGUMENTS`.
#
#   --name NAME             of the job (cdjax)
#   --nodes N               (1)
#   --gpus N                of each node, or TYPE:N (1)
#   --cpus N                of each node (8)
#   --time TIME             (24:00:00)
#   --partition PARTITION   if not the cluster's own
#   --account ACCOUNT       if not the user's own
#   --logs DIR              existing folder of the job's output (.)
#   --dry-run               print the command instead of running it
#
# One process a node sees all of its GPUs. Five minutes before the time is up the job saves its
# state and is put into the queue again, and so it is after a node was lost; training then goes on
# where it was. An error of cdjax ends it. The environment is that of launch/setup_venv.sh, with
# `.venv/bin/pip install -e '.[cuda]'`, in a folder that all nodes see; CDJAX_VENV names another.
#
#   launch/slurm.sh --gpus 4 -- train --config configs/nih.py --workdir run --config.data.path=data
set -euo pipefail

if [[ -n "${CDJAX_SLURM_DIR:-}" ]]; then  # inside the job
  # shellcheck disable=SC2317,SC2329  # the trap calls it
  requeue() {
    echo "time is nearly up: in the queue again" >&2
    kill -TERM "$step" 2> /dev/null || true
    wait "$step" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
  }
  step=''
  trap requeue USR1
  export CDJAX_COORDINATOR=auto PYTHONUNBUFFERED=1
  # In a Slurm job jax takes one device a process unless it is told which.
  if ((CDJAX_SLURM_GPUS)); then
    JAX_LOCAL_DEVICE_IDS="$(seq -s, 0 $((CDJAX_SLURM_GPUS - 1)))"
    export JAX_LOCAL_DEVICE_IDS
  fi
  cd "$CDJAX_SLURM_DIR"
  srun --kill-on-bad-exit=1 "$CDJAX_SLURM_VENV/bin/cdjax" "$@" &
  step=$!
  wait "$step"
  exit
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=dry_run.sh
source "$root/launch/dry_run.sh"

usage() {
  sed -n '2,/^set -euo/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

name=cdjax nodes=1 gpus=1 cpus=8 time=24:00:00 logs=. extra=()
while (($#)); do
  case "$1" in
    --name) name="$(option_value "$1" "$@")"; shift 2 ;;
    --nodes) nodes="$(option_value "$1" "$@")"; shift 2 ;;
    --gpus) gpus="$(option_value "$1" "$@")"; shift 2 ;;
    --cpus) cpus="$(option_value "$1" "$@")"; shift 2 ;;
    --time) time="$(option_value "$1" "$@")"; shift 2 ;;
    --logs) logs="$(option_value "$1" "$@")"; shift 2 ;;
    --partition | --account) extra+=("$1=$(option_value "$1" "$@")"); shift 2 ;;
    --dry-run) dry_run=1; shift ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
done
(($#)) || fail "-- and what cdjax is to do are missing; --help explains"
[[ "${gpus##*:}" =~ ^[0-9]+$ ]] || fail "--gpus is '$gpus'; expected a number, or TYPE:NUMBER"
[[ -d "$logs" ]] || fail "--logs $logs is not a folder"
export CDJAX_SLURM_DIR="$PWD" CDJAX_SLURM_VENV="${CDJAX_VENV:-$root/.venv}"
export CDJAX_SLURM_GPUS="${gpus##*:}"
run sbatch "--job-name=$name" "--nodes=$nodes" --ntasks-per-node=1 "--gpus-per-node=$gpus" \
  "--cpus-per-task=$cpus" "--time=$time" "--output=$logs/%x-%j.log" --open-mode=append \
  --requeue --signal=B:USR1@300 --export=ALL "${extra[@]}" "$root/launch/slurm.sh" "$@"
