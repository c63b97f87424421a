#!/bin/sh
# Runs one step of a long job on one line of output:  step.sh TITLE LOG COMMAND...
# The command's own output goes to the file LOG; its end is shown only when the step fails.
set -u
title=$1
log=$2
shift 2
mkdir -p "$(dirname "$log")"
: >"$log"

# On a terminal the line moves: the newest "12/80" that ninja, ctest or apt wrote into the log.
show_progress() {
  while sleep 1; do
    progress=$(tail -c 4096 "$log" | tr '\r' '\n' | grep -o '^[ []*[0-9][0-9]*/[0-9][0-9]*' | tail -n 1 | tr -d ' [')
    printf '\r  %-34s %-12s' "$title" "$progress"
  done
}

printf '  %-34s ' "$title"
start=$(date +%s)
if [ -t 1 ]; then
  show_progress &
  ticker=$!
  trap 'kill "$ticker" 2>/dev/null' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
fi
status=0
"$@" >"$log" 2>&1 || status=$?
seconds=$(($(date +%s) - start))
[ -t 1 ] && printf '\r  %-34s ' "$title"
if [ "$status" -eq 0 ]; then
  printf 'ok, %s s        \n' "$seconds" | sed 's/ *$//'
  exit 0
fi
printf 'FAILED after %s s\n' "$seconds"
printf '\nThe end of %s:\n\n' "$log"
grep -vE '^ +Start +[0-9]+: | Passed +[0-9.]+ sec' "$log" | tail -n 60
printf '\nFailed: %s\nFull output: %s\n' "$title" "$log"
exit "$status"
