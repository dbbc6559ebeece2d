#!/usr/bin/env bash
# Sets up what is missing and runs the quickstart: launch/quickstart.sh [WORKDIR] [OPTION...]
set -euo pipefail

workdir="${1:-./workdir}"
if [[ "$workdir" == -* ]]; then
  echo "usage: $0 [WORKDIR] [OPTION...]   (WORKDIR: ./workdir)" >&2
  exit 2
fi

# shellcheck source-path=SCRIPTDIR source=setup_venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"
exec "$venv/bin/cdjax" quickstart --workdir "$workdir" "${@:2}"
