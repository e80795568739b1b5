#!/usr/bin/env bash
# The CPU table of docs/benchmarks/cpu.md: dither, then diffusers on PyTorch, with the same threads.
# usage: tools/bench.sh [--no-peer]
# The peer lives in build/bench-venv, made on first use from PyPI (gigabytes; PIP_EXTRA_INDEX_URL
# may name an index of CPU-only wheels). RUNS pictures are timed per row, 5 by default; PEER_PYTHON
# names another Python that already has diffusers.
set -euo pipefail
cd "$(dirname "$0")/.."

dither=build/release/bin/dither
runs=${RUNS:-5}

echo "== dither, warm: prompt to PNG"
"$dither" bench --dtype bf16,f32 --runs "$runs"

echo "== dither, cold: start of the process to PNG, seconds"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for _ in $(seq "$runs"); do
  begin=$EPOCHREALTIME
  "$dither" generate "a red apple" --quiet --output-path "$scratch" --output-file-name cold.png
  end=$EPOCHREALTIME
  awk -v begin="$begin" -v end="$end" 'BEGIN { printf "%.3f\n", end - begin }'
done

if [ "${1:-}" = --no-peer ]; then exit 0; fi
python=${PEER_PYTHON:-build/bench-venv/bin/python}
if [ ! -x "$python" ]; then
  python3 -m venv build/bench-venv
  build/bench-venv/bin/pip install --quiet torch diffusers transformers sentencepiece \
    protobuf
fi
echo "== diffusers on PyTorch"
"$python" tools/bench_diffusers.py --model-path models/emoji-flux --threads "$(nproc)" \
  --runs "$runs"
