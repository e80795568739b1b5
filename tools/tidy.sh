#!/usr/bin/env bash
# clang-tidy over our sources: the files named, or those of libraries and command.
# usage: tools/tidy.sh [FILE...]
# Each file as clang would compile it (preset tidy). Tests, benchmarks and fuzz targets, a third of the
# files, are left out for time: name them to check them. A file is checked again only when it, a header of ours
# or .clang-tidy changed: build/tidy/passed remembers.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}

# The CUDA room's files need the toolkit's headers; its stub is what is left without them.
if command -v nvcc >/dev/null; then
  cuda=ON
  left_out='src/backends/cuda/*_stub.cc'
else
  cuda=OFF
  left_out='src/backends/cuda/*'
fi
cmake --preset tidy -D DITHER_CUDA=$cuda >/dev/null
mkdir -p build/tidy/passed
environment=$({ clang-tidy-19 --version; cat .clang-tidy; tools/sources.sh '*.h' | sort -z | xargs -0 cat; } | sha256sum)
export environment

# shellcheck disable=SC2317,SC2329  # called by the xargs below
tidy() {
  local file=$1 key
  key=$({ echo "$environment" "$file"; cat "$file"; } | sha256sum | cut -c 1-32)
  if [ -e "build/tidy/passed/$key" ]; then return 0; fi
  clang-tidy-19 -p build/tidy --quiet "$file" 2> >(grep -v 'warnings generated' >&2) &&
    touch "build/tidy/passed/$key"
}
export -f tidy

list() {
  if [ $# -gt 0 ]; then printf '%s\0' "$@"; else tools/sources.sh 'src/*.cc' ':!*_test.cc' ':!*_bench.cc' ':!*_fuzz.cc' ":!$left_out"; fi
}
# shellcheck disable=SC2016  # $1 is the inner shell's
if list "$@" | xargs -0 -P "$jobs" -n 1 bash -c 'tidy "$1"' _; then
  echo "tidy: ok"
else
  echo "tidy: FAILED" >&2
  exit 1
fi
