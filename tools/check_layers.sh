#!/bin/sh
# The architecture, executable: fails when src/ disobeys src/LAYERS.   check_layers.sh [ROOT]
# A layer may use only layers listed above it (so there are no cycles), include only itself and what LAYERS grants
# it, and say the same to CMake. Source files have at most 600 lines. Only src/cli/output.* writes to standard
# output: whoever prints elsewhere does not notice when the output is lost.
set -eu
cd "${1:-$(dirname "$0")/..}"

problems=$({
  for folder in src/*/; do echo "folder $(basename "$folder")"; done
  sed -e 's/#.*//' -e '/^ *$/d' -e 's/^/layer /' src/LAYERS
  # CMake: "cmake layer: uses", the words after USES; a program has no USES, so the libraries it links.
  for file in src/*/CMakeLists.txt; do
    tr '()\n' '   ' <"$file" | awk -v file="$file" '{
      kind = "program"; uses = ""
      for (i = 1; i <= NF; i++) {
        if ($i == "fovea_layer") kind = "cmake"
        if ($i ~ /^[A-Z]+$/) reading = ($i == "USES")
        else if (reading) uses = uses " " $i
        else if ($i ~ /^fovea_/) linked = linked " " substr($i, 7)
      }
      split(file, path, "/")
      print kind " " path[2] ":" (kind == "cmake" ? uses : linked)
    }'
  done
  grep -rnE '^[[:space:]]*#[[:space:]]*include' src --include='*.h' --include='*.cc' | sed 's/^/include /' || true
  grep -rnE '\bfmt::print\b|\bstd::cout\b|\b(printf|puts|putchar|vprintf)\(|\bstdout\b|\bSTDOUT_FILENO\b' src \
    --include='*.h' --include='*.cc' | sed 's/^/print /' || true
  find src tests bench tools -type f \( -name '*.h' -o -name '*.cc' -o -name '*.sh' -o -name '*.py' \) \
    -exec wc -l {} \; 2>/dev/null | sed 's/^ */lines /'
} | awk '
  function fail(text) { print "  " text }
  $1 == "folder" { folders[$2] = 1 }
  $1 == "layer" {
    name = $2; sub(/:$/, "", name)
    if (name in layers) fail("src/LAYERS: " name " is listed twice")
    for (i = 3; i <= NF; i++) {
      if (!($i in layers)) fail("src/LAYERS: " name " uses " $i ", which is not listed above it")
      granted[name, $i] = 1; uses[name] = uses[name] " " $i
    }
    layers[name] = 1; granted[name, name] = 1
  }
  $1 == "program" || $1 == "cmake" {
    name = $2; sub(/:$/, "", name)
    for (i = 3; i <= NF; i++) {
      linked[name, $i] = 1
      if (($i in layers) && !((name, $i) in granted))
        fail("src/" name "/CMakeLists.txt: uses " $i ", which src/LAYERS does not grant")
    }
    if ($1 == "program") next
    count = split(uses[name], wanted, " ")
    for (i = 1; i <= count; i++)
      if (!((name, wanted[i]) in linked)) fail("src/" name "/CMakeLists.txt: USES lacks " wanted[i] " of src/LAYERS")
  }
  $1 == "include" {
    split($2, place, ":"); split(place[1], path, "/")
    if (!match($0, /["<][^">]*[">]/)) next
    file = substr($0, RSTART + 1, RLENGTH - 2); quoted = substr($0, RSTART, 1) == "\""
    first = file; sub(/\/.*/, "", first)
    where = place[1] ":" place[2] ": "
    if (quoted && !(first in layers)) fail(where "\"" file "\" does not start with a layer of src/")
    else if ((first in layers) && file ~ /\// && !((path[2], first) in granted))
      fail(where path[2] " may not include " file " (src/LAYERS)")
  }
  $1 == "print" {
    split($2, place, ":"); file = place[1]
    # Asking how wide the terminal is prints nothing.
    if (file ~ /^src\/cli\/output\.(h|cc)$/ || /TIOCGWINSZ/) next
    if (file !~ /_(test\.cc|testing\.h)$/) fail(file ":" place[2] ": prints; use src/cli/output.h")
  }
  $1 == "lines" && $2 > 600 { fail($3 ": " $2 " lines, more than 600") }
  END {
    for (name in folders) if (!(name in layers)) fail("src/" name " is not in src/LAYERS")
    for (name in layers) if (!(name in folders)) fail("src/LAYERS names " name ", but there is no src/" name)
  }')
if [ -n "$problems" ]; then
  echo 'The layers are broken:'
  echo "$problems"
  exit 1
fi
echo "  layers                             ok"
