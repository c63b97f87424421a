#!/bin/sh
# Fails when a C++ file is not formatted as .clang-format says.   check_format.sh [--fix]
# Formatters of different versions disagree, so one version is pinned and kept in .venv/.
set -eu
cd "$(dirname "$0")/.."
version=18.1.8

formatter=clang-format
if ! "$formatter" --version 2>/dev/null | grep -qF "version $version"; then
  formatter=.venv/bin/clang-format
  if ! "$formatter" --version 2>/dev/null | grep -qF "version $version"; then
    rm -rf .venv
    if ! tools/step.sh "clang-format $version" build/log/clang-format.log \
      sh -c "python3 -m venv .venv && .venv/bin/pip install --quiet clang-format==$version" </dev/null; then
      echo '  remedy: tools/install_dependencies.sh --lint, and a network that reaches PyPI' >&2
      exit 1
    fi
  fi
fi

sources=$(find src include examples python tests bench tools -name '*.h' -o -name '*.cc' 2>/dev/null | sort)
if [ "${1:-}" = --fix ]; then
  # shellcheck disable=SC2086 # a list of words
  "$formatter" -i $sources
  exit 0
fi
# shellcheck disable=SC2086
if ! report=$("$formatter" --dry-run --Werror $sources 2>&1); then
  echo "$report" | grep -E '^[^ ]+:[0-9]+:' | cut -d : -f 1 | sort | uniq -c | sed 's/^/  places to format:/'
  echo "Not formatted. Repair with: tools/check_format.sh --fix"
  exit 1
fi
echo '  formatting                         ok'
