#!/usr/bin/env bash
# Reads pages into JSON of a given form: page.png becomes page.json beside it.
#   FOVEA_MODEL=Qwen/Qwen2.5-VL-3B-Instruct ocr_to_json.sh page.png scan.jpg ...
#   SCHEMA=my.schema.json PROMPT="..." TOKENS=4096 change what is asked.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
schema=${SCHEMA:-$here/page.schema.json}
prompt=${PROMPT:-Read this page. Answer with JSON: title, date (YYYY-MM-DD or null), total (a number or null), lines (the text, line by line).}
[ $# -gt 0 ] || { echo "usage: $(basename "$0") PICTURE..." >&2; exit 2; }

for page in "$@"; do
  out=${page%.*}.json
  # Greedy: the same page gives the same JSON.
  fovea run --quiet --greedy -n "${TOKENS:-2048}" --json-schema "$schema" --image "$page" -p "$prompt" > "$out.part"
  # An answer that ended at the limit of tokens is not whole; everything else parses and has the form of the schema.
  if ! python3 -m json.tool "$out.part" > "$out"; then
    echo "$page: the answer was longer than ${TOKENS:-2048} tokens and is cut; it stays in $out.part; set TOKENS" >&2
    rm -f "$out"
    exit 1
  fi
  rm "$out.part"
  echo "$out"
done
