#!/usr/bin/env bash
# Builds the command and the GPU tests with the CUDA backend, in build/cuda. Needs the CUDA 13 toolkit
# with cuDNN 9, but no GPU: the tests skip themselves without one.
# usage: tools/build_cuda.sh [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- dither_cli dither_cuda_test
cmake --preset cuda >/dev/null
cmake --build --preset cuda --parallel "${JOBS:-$(nproc)}" --target "$@"
