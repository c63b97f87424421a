#!/bin/sh
# The tests of the Python package under transformers 4.57 and 5.x, both with the same torch, on the CPU.
#   check_python.sh [PYTEST ARGUMENTS]     builds the program, makes build/python/venv-*, installs the package into both
#                                          and runs tests/python
# Needs a configured build folder (BUILD, by default build) and PyPI, or its wheels in a folder named by PIP_FIND_LINKS.
# TRANSFORMERS=5.24.0 selects one.
set -eu
cd "$(dirname "$0")/.."
: "${BUILD:=build}" "${TORCH:=torch==2.13.0}" "${TRANSFORMERS:=4.57.6 5.24.0}"

cmake --build "$BUILD" --target fovea >/dev/null
rm -rf "$BUILD/python/dist"
status=0
for version in $TRANSFORMERS; do
  venv=$BUILD/python/venv-$version
  if ! "$venv/bin/python" -c 'import torch, transformers, pytest, PIL, numpy' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "$TORCH" "transformers==$version" pillow numpy pytest </dev/null
  fi
  # The wheel is built once, in a folder that the next run goes on from.
  [ -d "$BUILD/python/dist" ] ||
    "$venv/bin/pip" wheel --quiet --no-deps --config-settings="build-dir=$BUILD-python" -w "$BUILD/python/dist" . </dev/null
  "$venv/bin/pip" install --quiet --no-deps --force-reinstall "$BUILD"/python/dist/fovea_vl-*.whl </dev/null
  echo "  transformers $version"
  # What waits for a core must sleep: others compute, too.
  OMP_WAIT_POLICY=passive FOVEA_REQUIRE_COMPILED=1 FOVEA_PROGRAM="$(realpath "$BUILD")/fovea" \
    "$venv/bin/python" -m pytest -c python/pytest.ini --rootdir . tests/python "$@" || status=1
done
exit $status
