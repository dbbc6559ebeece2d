#!/usr/bin/env bash
# Builds, pushes and runs the container: launch/docker.sh COMMAND --image IMAGE [OPTION...]
#
#   build                   build IMAGE from this checkout
#   push                    push it
#   run -- ARGUMENTS        run `cdjax ARGUMENTS` in it
#
#   --extra EXTRA           what it is for: tpu, cuda or text, of setup.py (tpu)
#   --data DIR              folder that `run` mounts at /data (the current one)
#   --dry-run               print the commands instead of running them
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=dry_run.sh
source "$root/launch/dry_run.sh"

usage() {
  sed -n '2,/^set -euo/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

image='' extra=tpu data="$PWD"
command="${1:-}"
case "$command" in
  build | push | run) shift ;;
  -h | --help) usage; exit 0 ;;
  *) fail "expected build, push or run; --help explains" ;;
esac
while (($#)); do
  case "$1" in
    --image) image="$(option_value "$1" "$@")"; shift 2 ;;
    --extra) extra="$(option_value "$1" "$@")"; shift 2 ;;
    --data) data="$(option_value "$1" "$@")"; shift 2 ;;
    --dry-run) dry_run=1; shift ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
done
[[ -n "$image" ]] || fail "--image is needed"
[[ "$extra" =~ ^(tpu|cuda|text)$ ]] || fail "--extra is '$extra'; expected tpu, cuda or text"

case "$command" in
  build)
    run docker build "--file=$root/launch/Dockerfile" "--build-arg=EXTRA=$extra" "--tag=$image" \
      "$root"
    ;;
  push) run docker push "$image" ;;
  run)
    (($#)) || fail "run needs -- and what cdjax is to do"
    devices=()
    case "$extra" in
      cuda) devices=(--gpus=all) ;;
      tpu) devices=(--privileged --net=host) ;;
    esac
    run docker run --rm "${devices[@]}" "--user=$(id -u):$(id -g)" "--volume=$data:/data" \
      --env=HOME=/tmp "$image" "$@"
    ;;
esac
