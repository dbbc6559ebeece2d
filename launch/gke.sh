#!/usr/bin/env bash
# Trains on TPUs of a GKE cluster, through a JobSet: launch/gke.sh COMMAND --name NAME ...
#
#   run -- ARGUMENTS        start `cdjax ARGUMENTS` on every host of every slice
#   show -- ARGUMENTS       print the manifest that `run` would apply
#   logs                    show the output of the first host
#   delete                  stop the job and remove it
#
#   --image IMAGE           made by launch/docker.sh
#   --claim CLAIM           persistent volume claim that all hosts mount at /mnt
#   --accelerator NAME      node label gke-tpu-accelerator (tpu-v5-lite-podslice)
#   --topology AxB          node label gke-tpu-topology (2x4)
#   --hosts N               hosts of a slice (1)
#   --chips N               chips of a host (8)
#   --slices N              slices that train together (1)
#   --restarts N            how often the job starts again (10)
#   --namespace NAMESPACE   if not kubectl's own
#   --dry-run               print the commands instead of running them
#
#   launch/gke.sh run --name cf --image REGISTRY/cdjax:tpu --claim data --topology 4x4 --hosts 4 \
#     --chips 4 -- train --config configs/mimic_cxr.py --workdir /mnt/run \
#     --config.data.path=/mnt/data
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=dry_run.sh
source "$root/launch/dry_run.sh"

usage() {
  sed -n '2,/^set -euo/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

declare -A value=([RESTARTS]=10 [SLICES]=1 [HOSTS]=1 [CHIPS]=8 [TOPOLOGY]=2x4
                  [ACCELERATOR]=tpu-v5-lite-podslice [NAME]='' [IMAGE]='' [CLAIM]='')
space=()
command="${1:-}"
case "$command" in
  run | show | logs | delete) shift ;;
  -h | --help) usage; exit 0 ;;
  *) fail "expected run, show, logs or delete; --help explains" ;;
esac
while (($#)); do
  case "$1" in
    --name | --image | --claim | --accelerator | --topology | --hosts | --chips | --slices | --restarts)
      key="${1#--}"
      value[${key^^}]="$(option_value "$1" "$@")"
      shift 2
      ;;
    --namespace) space=("--namespace=$(option_value "$1" "$@")"); shift 2 ;;
    --dry-run) dry_run=1; shift ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
done

# What may stand in the manifest: nothing that YAML could read as something else.
check() {  # check KEY PATTERN WHAT
  [[ "${value[$1]}" =~ ^$2$ ]] || fail "--${1,,} is '${value[$1]}'; expected $3"
}
check NAME '[a-z]([-a-z0-9]{0,38}[a-z0-9])?' "a name of small letters, digits and -"

# "train" "--workdir" ... as a YAML list; quotes and backslashes escaped as JSON does.
yaml_list() {
  local word list=''
  for word in "$@"; do
    [[ "$word" != *[[:cntrl:]]* ]] || fail "a control character in '$word'"
    word="${word//\\/\\\\}"
    list+=", \"${word//\"/\\\"}\""
  done
  printf '[%s]' "${list:2}"
}

manifest() {
  local text key arguments
  arguments="$(yaml_list "$@")" || exit
  check IMAGE '[A-Za-z0-9][A-Za-z0-9._/:@-]*' "an image"
  check CLAIM '[a-z0-9]([-a-z0-9.]*[a-z0-9])?' "a persistent volume claim"
  check ACCELERATOR '[a-z0-9][-a-z0-9]*' "a label such as tpu-v6e-slice"
  check TOPOLOGY '[0-9]+(x[0-9]+){1,2}' "a topology such as 2x4"
  for key in HOSTS CHIPS SLICES; do
    check "$key" '[1-9][0-9]*' "a number"
  done
  check RESTARTS '[0-9]+' "a number"
  text="$(< "$root/launch/gke_jobset.yaml")"
  for key in "${!value[@]}"; do
    text="${text//__${key}__/"${value[$key]}"}"
  done
  printf '%s\n' "${text//__ARGUMENTS__/"$arguments"}"
}

case "$command" in
  run | show)
    (($#)) || fail "$command needs -- and what cdjax is to do"
    text="$(manifest "$@")"
    if [[ "$command" == show ]]; then
      printf '%s\n' "$text"
    elif ((dry_run)); then
      run kubectl "${space[@]}" apply --filename=-
      printf '%s\n' "$text"
    else
      printf '%s\n' "$text" | kubectl "${space[@]}" apply --filename=-
    fi
    ;;
  logs)
    run kubectl "${space[@]}" logs --follow \
      --selector="jobset.sigs.k8s.io/jobset-name=${value[NAME]},jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
    ;;
  delete) run kubectl "${space[@]}" delete jobset "${value[NAME]}" ;;
esac
