#!/usr/bin/env bash
# The static checks that need no build: layers, formatting, self-contained headers, shell scripts.
# clang-tidy, which takes minutes, is tools/tidy.sh. Runs all of them and fails if any did.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

failed=()
check() {
  local name=$1
  shift
  if "$@"; then
    echo "lint: $name: ok"
  else
    echo "lint: $name: FAILED" >&2
    failed+=("$name")
  fi
}

formatting() { tools/sources.sh | xargs -0 clang-format-19 --dry-run -Werror; }

scripts() {
  git grep --untracked -lzE '^#!.*\b(ba)?sh$' -- tools .ci | xargs -0 shellcheck
}

# The CUDA room's headers need the toolkit's; without it they are not checked.
cuda_flags=()
if command -v nvcc >/dev/null; then
  cuda_flags=(-isystem "$(dirname "$(command -v nvcc)")/../include")
fi

# The headers that the build does not already prove self-contained: x.cc proves it of an x.h that it
# includes first.
headers_to_check() {
  local header first
  while IFS= read -r -d '' header; do
    if [ -f "${header%.h}.cc" ]; then
      first=$(sed -n '/^#include/{s/^#include "\(.*\)"/\1/p;q}' "${header%.h}.cc")
      if [ "src/$first" = "$header" ]; then continue; fi
    fi
    printf '%s\0' "$header"
  done < <(
    if [ ${#cuda_flags[@]} -gt 0 ]; then
      tools/sources.sh '*.h'
    else
      tools/sources.sh '*.h' ':!src/backends/cuda/*'
    fi
  )
}

# Every header compiles alone.
headers() {
  headers_to_check |
    xargs -0 -P "${JOBS:-$(nproc)}" -n 4 clang++-19 -std=c++20 -fsyntax-only -xc++ -Isrc -Iinclude \
      "${cuda_flags[@]}" \
      -Itests '-DDITHER_SOURCE_DIR="."' -Wall -Wextra -Werror -Wno-pragma-once-outside-header \
      -Wno-unused-function -Wno-unused-const-variable
}

check layers tools/check_layers.py
check formatting formatting
check headers headers
if command -v shellcheck >/dev/null; then
  check "shell scripts" scripts
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "lint: failed: ${failed[*]}" >&2
  exit 1
fi
