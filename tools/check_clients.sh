#!/bin/sh
# Asks a running `fovea serve` with the clients that people use, in versions that are pinned here: openai, litellm,
# instructor (tests/serve_clients.py). Makes build/clients-venv when it is missing, which downloads some 100 MB.
#   check_clients.sh [PROGRAM]    PROGRAM: build/fovea
set -eu
cd "$(dirname "$0")/.."
program=${1:-build/fovea}
venv=${FOVEA_CLIENTS_VENV:-build/clients-venv}

wanted='openai==2.54.0 litellm==1.106.12 instructor==1.17.0'
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
fi
if [ "$(cat "$venv/fovea-clients" 2>/dev/null)" != "$wanted" ]; then
  # shellcheck disable=SC2086 # a list of words
  "$venv/bin/pip" install --quiet --disable-pip-version-check $wanted
  echo "$wanted" >"$venv/fovea-clients"
fi
# litellm would fetch a list of prices.
LITELLM_LOCAL_MODEL_COST_MAP=True "$venv/bin/python" tests/serve_clients.py "$program"
