#!/usr/bin/env bash
# Sets up what is missing and runs the tests: launch/test.sh [PYTEST ARGUMENT...]
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=setup_venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"
cd "$root"
exec "$venv/bin/python" -m pytest "$@"
