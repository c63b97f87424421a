#!/bin/sh
# The library as others have it: installed, found by CMake, linked by a program that knows its headers alone.
#   installed_library_test.sh BUILD CXX MODEL PICTURE
set -eu
build=$1 compiler=$2 model=$3 picture=$4
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cmake --install "$build" --prefix "$folder/installed" >"$folder/log" || { cat "$folder/log"; exit 1; }
# Away from the sources, so that nothing is found there.
cp -r "$here/examples/answer" "$folder/answer"
{ cmake -S "$folder/answer" -B "$folder/answer/build" -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_PREFIX_PATH="$folder/installed" && cmake --build "$folder/answer/build"; } >"$folder/log" 2>&1 ||
  { cat "$folder/log"; exit 1; }
"$folder/answer/build/answer" "$model" "$picture"
# Of everything that the library holds, programs see namespace fovea::v0.
library=$(find "$folder/installed" -name 'libfovea.so')
seen=$(nm -DC --defined-only "$library" | cut -d' ' -f3- | grep -v 'fovea::v0::' || true)
[ -z "$seen" ] || { echo "also seen: $seen"; exit 1; }
