#!/bin/sh
# Goal: tools/check_layers.sh accepts a clean tree and names every kind of violation.
# Method: a small tree of its own, broken in one way at a time.
set -eu
check=$(cd "$(dirname "$0")/.." && pwd)/tools/check_layers.sh
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failures=0

clean_tree() {
  rm -rf "${root:?}"/*
  mkdir -p "$root/src/low" "$root/src/high"
  printf '# comment\nlow:\nhigh: low\n' >"$root/src/LAYERS"
  echo 'fovea_layer(low SOURCES a.cc LIBRARIES fmt::fmt)' >"$root/src/low/CMakeLists.txt"
  printf 'fovea_layer(high\n  SOURCES b.cc\n  USES low\n  LIBRARIES fmt::fmt)\n' >"$root/src/high/CMakeLists.txt"
  printf '#include <vector>\n' >"$root/src/low/a.h"
  printf '#include "low/a.h"\n#include "high/b.h"\n#include <fmt/format.h>\n' >"$root/src/high/b.cc"
}

# expect PATTERN WHAT: the check fails and its output matches PATTERN.
expect() {
  if output=$("$check" "$root" 2>&1); then
    echo "not noticed: $2"
    failures=$((failures + 1))
  elif ! echo "$output" | grep -q "$1"; then
    printf 'noticed, but not named (%s): %s\n%s\n' "$1" "$2" "$output"
    failures=$((failures + 1))
  fi
  clean_tree
}

clean_tree
if ! "$check" "$root"; then
  echo 'a clean tree was refused'
  failures=1
fi

echo '#include "high/b.h"' >>"$root/src/low/a.h"
expect 'src/low/a.h:2: low may not include high/b.h' 'an include against the arrows'
echo '#  include <high/b.h>' >>"$root/src/low/a.h"
expect 'low may not include high/b.h' 'the same in angle brackets'
echo '#include "../high/b.h"' >>"$root/src/low/a.h"
expect 'does not start with a layer' 'a relative include'
mkdir "$root/src/stray"
expect 'src/stray is not in src/LAYERS' 'an unknown folder'
echo 'ghost: low' >>"$root/src/LAYERS"
expect 'no src/ghost' 'a layer without a folder'
printf 'low: high\nhigh: low\n' >"$root/src/LAYERS"
expect 'low uses high, which is not listed above it' 'a cycle'
printf 'low:\nhigh: low\nlow:\n' >"$root/src/LAYERS"
expect 'low is listed twice' 'a layer listed twice'
echo 'fovea_layer(low SOURCES a.cc USES high)' >"$root/src/low/CMakeLists.txt"
expect 'low/CMakeLists.txt: uses high, which src/LAYERS does not grant' 'a CMake arrow that LAYERS does not know'
printf 'add_executable(x a.cc)\ntarget_link_libraries(x PRIVATE fovea_high)\n' >"$root/src/low/CMakeLists.txt"
expect 'low/CMakeLists.txt: uses high, which src/LAYERS does not grant' 'the same in a program'
echo 'fovea_layer(high SOURCES b.cc)' >"$root/src/high/CMakeLists.txt"
expect 'USES lacks low' 'a LAYERS arrow that CMake does not know'
yes '// line' | head -n 601 >"$root/src/low/long.cc"
expect 'src/low/long.cc: 601 lines' 'a file over 600 lines'
for line in 'fmt::print("x");' 'std::cout << 1;' '  printf("x");' '  std::printf("x");' 'fwrite(a, 1, 1, stdout);'; do
  echo "$line" >>"$root/src/high/b.cc"
  expect 'src/high/b.cc:4: prints' "printing by $line"
done
mkdir "$root/src/cli"
printf 'low:\nhigh: low\ncli:\n' >"$root/src/LAYERS"
echo 'add_executable(x output.cc)' >"$root/src/cli/CMakeLists.txt"
echo 'fwrite(a, 1, 1, stdout);' >"$root/src/cli/output.cc"
echo 'snprintf(a, 1, "x"); fprintf(stderr, "x"); /* [[gnu::format(printf, 3, 0)]] */' >>"$root/src/high/b.cc"
if ! "$check" "$root"; then
  echo 'what does not print, or may, was refused'
  failures=$((failures + 1))
fi

[ "$failures" -eq 0 ] && echo 'ok'
exit "$failures"
