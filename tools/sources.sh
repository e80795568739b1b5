#!/usr/bin/env bash
# Prints the C++ files of the repository, tracked or not, ignored ones left out, NUL-separated.
# usage: tools/sources.sh [PATTERN...]     default: '*.cc' '*.h' '*.cu' '*.cuh'
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- '*.cc' '*.h' '*.cu' '*.cuh'
# A file that is deleted but not yet committed is still listed: leave it out.
git ls-files -z --cached --others --exclude-standard -- "$@" |
  while IFS= read -r -d '' path; do
    if [ -f "$path" ]; then printf '%s\0' "$path"; fi
  done
