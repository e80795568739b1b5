#!/usr/bin/env bash
# Runs the GPU tests of an unpacked bundle (tools/dist.sh --cuda), traces a small request, and says
# which libraries were used. Fails without a GPU: then nothing was tested.
# usage: bin/gpu-selftest [ARGUMENT OF THE TESTS...], e.g. --gtest_filter='CudaPipeline*'
# DITHER_SOURCE_DIR names a checkout for bundles without test data.
set -uo pipefail

bundle=$(realpath "$(dirname "$(realpath "$0")")/..")
export DITHER_SOURCE_DIR=${DITHER_SOURCE_DIR:-$bundle/share/dither}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
model=$DITHER_SOURCE_DIR/models/emoji-flux
if [ ! -d "$model" ]; then
  echo "gpu-selftest: $model is missing; DITHER_SOURCE_DIR must name a checkout of dither" >&2
  exit 1
fi

failures=()
summary=()

run_tests() {
  local program=$1 log=$scratch/$1.log
  shift
  "$bundle/libexec/dither/$program" "$@" | tee "$log"
  if [ "${PIPESTATUS[0]}" -ne 0 ]; then failures+=("$program"); fi
  summary+=("$(printf '%-20s %s' "$program" "$(grep -E '^\[  (PASSED|SKIPPED|FAILED) ' "$log" |
    grep -oE '(PASSED|SKIPPED|FAILED) +\] [0-9]+' | sed 's/ *\]//' | sort -u | paste -sd ' ')")")
}
run_tests dither_cuda_test "$@"
run_tests dither_golden_test "$@"

# Loads cuBLASLt, cuDNN and CUPTI; the loader writes down what it initialises.
(cd "$scratch" && LD_DEBUG=libs LD_DEBUG_OUTPUT=$scratch/loader \
  "$bundle/bin/dither" bench "a red apple" --model-path "$model" --device cuda --runs 1 \
  --profile "$scratch/trace.json") || failures+=("dither bench --profile")
if ! grep -q '"layer":"DenoisingStage/step 1/transformer_blocks' "$scratch/trace.json"; then
  failures+=("no kernel of the trace is in a layer")
fi
sed -n 's/.*calling init: //p' "$scratch"/loader.* 2>/dev/null | sort -u >"$scratch/loaded"
# glibc's and the driver's belong to the machine.
system='/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util|nss_[^/]*)|lib(cuda|cudadebugger|nvidia-[^/]*))\.so[^/]*$'
grep -v "^$bundle/" "$scratch/loaded" | grep -vE "$system" >"$scratch/foreign"
if [ -e "$bundle/lib/libcublasLt.so.13" ] && [ -s "$scratch/foreign" ]; then
  failures+=("libraries from outside the bundle")
fi
echo
echo "libraries from elsewhere, but glibc's and the driver's: $(paste -sd ' ' "$scratch/foreign")"
echo "libraries of the bundle that dither bench --profile did not use:" \
  "$(for library in "$bundle"/lib/*.so*; do
    grep -qF "/$(basename "$library")" "$scratch/loaded" || basename "$library"
  done | paste -sd ' ')"
printf '%s\n' "${summary[@]}"
if grep -q 'no CUDA device' "$scratch/dither_cuda_test.log"; then
  failures+=("no usable GPU: NOTHING WAS TESTED ON ONE")
fi
if [ ${#failures[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failures[@]}"
  exit 1
fi
echo "passed"
