#!/usr/bin/env bash
# Fuzzes each target for some seconds, two at a time, starting from tests/fuzz/corpus/<target>.
# usage: tools/fuzz.sh SECONDS [TARGET...]
# Prints executions and coverage per target. A crash fails the run; its input is kept as
# build/fuzz/run/<target>/crash-*. The corpus in the repository is not written to.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: tools/fuzz.sh SECONDS [TARGET...]}
shift
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target dither_fuzzers --parallel "${JOBS:-$(nproc)}"

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for program in build/fuzz/bin/*_fuzz; do targets+=("$(basename "$program")"); done
fi
root=$PWD
export seconds root

# shellcheck disable=SC2317,SC2329  # called by the xargs below
fuzz() {
  local target=$1 scratch=$root/build/fuzz/run/$1 seeds=$root/tests/fuzz/corpus/$1
  rm -rf "$scratch"
  mkdir -p "$scratch/corpus"
  if [ ! -d "$seeds" ]; then
    echo "fuzz: $target: no seeds in tests/fuzz/corpus/$target" >&2
    return 1
  fi
  if (cd "$scratch" && "$root/build/fuzz/bin/$target" -max_total_time="$seconds" -timeout=10 \
      -rss_limit_mb=2048 -print_final_stats=1 corpus "$seeds" >log 2>&1 </dev/null); then
    printf 'fuzz: %-28s ok: %s executions, %s edges\n' "$target" \
      "$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/log")" \
      "$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$scratch/log" | tail -n 1)"
  else
    tail -n 40 "$scratch/log" >&2
    echo "fuzz: $target: FAILED, log and input in build/fuzz/run/$target" >&2
    return 1
  fi
}
export -f fuzz

# shellcheck disable=SC2016  # $1 is the inner shell's
printf '%s\0' "${targets[@]}" | xargs -0 -P 2 -n 1 bash -c 'fuzz "$1"' _
