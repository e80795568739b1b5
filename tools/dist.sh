#!/usr/bin/env bash
# Packs the command, the shared libraries it needs except glibc's, and the demo model into
# dist/dither-VERSION-linux-ARCH.tar.gz. The command finds both relative to itself.
# usage: tools/dist.sh [--cuda [--without-nvidia-libraries] [--without-model]]
#   --cuda  with the CUDA backend, NVIDIA's libraries and the GPU tests (bin/gpu-selftest), into
#           dither-VERSION-linux-ARCH-cuda.tar.gz: needs nothing but NVIDIA's driver
#   --without-nvidia-libraries  uses the CUDA 13 and cuDNN 9 of the machine: ...-cuda-slim.tar.gz
#   --without-model  and neither demo model nor test data: DITHER_SOURCE_DIR names a checkout
# Fails when a library would be taken from outside the bundle.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "dist: $*" >&2
  exit 1
}
cuda=0 nvidia=1 model=1
for option in "$@"; do
  case $option in
    --cuda) cuda=1 ;;
    --without-nvidia-libraries) nvidia=0 ;;
    --without-model) model=0 ;;
    *) fail "unknown option '$option'; see the head of tools/dist.sh" ;;
  esac
done
if ((!cuda && !(nvidia && model))); then fail "--without-... go with --cuda"; fi

version=$(sed -n 's/^project(dither VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
preset=release suffix='' programs=(bin/dither)
if ((cuda)); then
  preset=cuda suffix=-cuda
  programs+=(libexec/dither/dither_cuda_test libexec/dither/dither_golden_test)
  if ((!nvidia)); then suffix+=-slim; fi
  if ((!model)); then suffix+=-without-model; fi
fi
build=build/$preset
name=dither-$version-linux-$(uname -m)$suffix
stage=$PWD/build/dist/$name
rm -rf "$stage"
mkdir -p "$stage/lib"

install_component() {
  cmake --install "$build" --prefix "$stage" --strip --component "$1" >/dev/null
}
cmake --preset "$preset" >/dev/null
if ((cuda)); then
  cmake --build "$build" --parallel "${JOBS:-$(nproc)}" \
    --target dither_cli dither_cuda_test dither_golden_test
  install_component command
  install_component gpu_tests
  install -m 755 tools/gpu/selftest.sh "$stage/bin/gpu-selftest"
  if ((model)); then
    # Below share/dither files lie as in a checkout: the tests' DITHER_SOURCE_DIR.
    install_component model
    goldens=$stage/share/dither/tests/golden
    mkdir -p "$goldens/modelopt"
    cp tests/golden/*.safetensors tests/golden/*.png "$goldens"
    cp -r tests/golden/modelopt/flux1-mini "$goldens/modelopt"
  fi
else
  cmake --build "$build" --parallel "${JOBS:-$(nproc)}" --target dither_cli dither
  cmake --install "$build" --prefix "$stage" --strip >/dev/null
fi

# glibc belongs to the system that runs the command: it must match its kernel and its loader.
glibc='^(ld-linux.*|linux-vdso|lib(c|m|dl|rt|pthread|resolv|util))\.so'
nvidia_libraries='^lib(cublasLt|cudnn.*|nvrtc.*|cupti)\.so'

# "SONAME PATH" of everything that the loader takes for a program and further libraries (LD_PRELOAD).
# Without our environment; "not found" in place of a path.
resolve() {
  env -i LD_TRACE_LOADED_OBJECTS=1 LD_PRELOAD="${2:-}" "$stage/$1" |
    sed -n 's/^\t\([^ ]*\) => \(not found\|[^ ]*\).*/\1 \2/p; s/^\t\(\/[^ ]*\) (.*/\1 \1/p'
}

# What nobody is linked with but opens while it runs, as paths; see copy_opened_libraries.
opened_libraries() {
  local cudnn nvrtc toolkit cupti
  cudnn=$(resolve bin/dither | awk '$1 ~ /^libcudnn\./ { print $2 }')
  nvrtc=$(resolve bin/dither | awk '$1 ~ /^libnvrtc\./ { print $2 }')
  [[ -e $cudnn && -e $nvrtc ]] || fail "bin/dither: where is libcudnn ('$cudnn'), libnvrtc ('$nvrtc')?"
  toolkit=$(dirname "$nvrtc")
  # cuDNN is a small library that opens these by name, all from its own folder (its own run path is
  # $ORIGIN): graph, engines, heuristics for what we call, and ops, cnn, adv for its older interface.
  ls "$(dirname "$(realpath "$cudnn")")"/libcudnn_*.so.9
  # cuDNN's run-time compiled engines compile with NVRTC, and NVRTC opens its built-ins by name; it
  # has no run path, so ours leads it. cuBLASLt opens NVRTC by name, which is loaded by then.
  ls "$toolkit"/libnvrtc-builtins.so.13.*[0-9]
  # `dither bench --profile` opens CUPTI by name (backends/cuda/kernel_trace.cc) along our run path.
  for cupti in "$toolkit" "$toolkit/../extras/CUPTI/lib64"; do
    if [ -e "$cupti/libcupti.so.13" ]; then
      echo "$cupti/libcupti.so.13"
      return
    fi
  done
  fail "libcupti.so.13 is neither in $toolkit nor in ../extras/CUPTI/lib64 of it"
}

licences=$stage/share/doc/dither/third-party
mkdir -p "$licences"

# The package that a file is from. Since /lib is a link to /usr/lib, dpkg may know it by either.
package_of() {
  local path
  path=$(realpath "$1")
  { dpkg-query --search "$path" || dpkg-query --search "${path#/usr}"; } 2>/dev/null |
    sed 's/:.*//' | head -n 1
}

# The licence of what a file is from: its Debian package's, or that of NVIDIA's packages for Python,
# whose records may lie beside a toolkit made of them, or a toolkit's own.
copy_licence() {
  local path package root record
  path=$(realpath "$1")
  package=$(package_of "$path" || true)
  if [ -n "$package" ] && [ -f "/usr/share/doc/$package/copyright" ]; then
    cp "/usr/share/doc/$package/copyright" "$licences/$package"
    return
  fi
  root=$path
  while [ "$root" != / ]; do
    root=$(dirname "$root")
    for record in "$root"/dist-info/*/RECORD "$root"/*.dist-info/RECORD; do
      if [ -f "$record" ] && grep -q "/$(basename "$path")," "$record"; then
        package=$(basename "$(dirname "$record")")
        cp "$(dirname "$record")"/licenses/License.txt "$licences/${package%%-*}"
        return
      fi
    done
    if [ -f "$root/EULA.txt" ]; then
      cp "$root/EULA.txt" "$licences/cuda-toolkit"
      return
    fi
  done
  fail "$path: no licence of it was found on this machine"
}

copy_library() {
  cp --dereference "$2" "$stage/lib/$1"
  chmod 644 "$stage/lib/$1"
  copy_licence "$2"
}

opened=()
if ((cuda)); then
  found=$(opened_libraries)
  mapfile -t opened <<<"$found"
fi
for program in "${programs[@]}"; do resolve "$program"; done | sort --unique |
  while read -r soname path; do
    if [[ $(basename "$soname") =~ $glibc || $path == "$stage"/* ]]; then continue; fi
    if [[ $path != /* ]]; then fail "$soname: $path on this machine"; fi
    if ((!nvidia)) && [[ $soname =~ $nvidia_libraries ]]; then continue; fi
    copy_library "$soname" "$path"
  done
preload=''
if ((cuda && nvidia)); then
  for path in "${opened[@]}"; do
    copy_library "$(basename "$path")" "$path"
    preload+="$(basename "$path") "
  done
  # What they are linked with beyond what the programs are: libz.
  resolve bin/dither "$preload" | while read -r soname path; do
    if [[ ! $(basename "$soname") =~ $glibc && $path != "$stage"/* ]]; then
      copy_library "$soname" "$path"
    fi
  done
fi
# What is compiled in.
for package in nlohmann-json3-dev libcli11-dev libhwy-dev; do
  if [ -f "/usr/share/doc/$package/copyright" ]; then
    cp "/usr/share/doc/$package/copyright" "$licences/$package"
  fi
done
if ((cuda)); then
  from_cache() { sed -n "s/^$1:[^=]*=//p" "$build/CMakeCache.txt"; }
  copy_licence "$(from_cache CUDA_cudart_static_LIBRARY)"
  copy_licence "$(realpath "$(dirname "$(from_cache CMAKE_CUDA_COMPILER)")/..")/include/nvtx3/nvToolsExt.h"
  cp "$(from_cache DITHER_CUDNN_FRONTEND_INCLUDE_DIR)/../LICENSE.txt" "$licences/cudnn-frontend"
  copy_licence /usr/include/gtest/gtest.h
fi

# Nothing may come from outside but glibc. What is opened later is named to the loader as if it were
# linked: the loader then looks for it and for what it is linked with as it would later.
for program in "${programs[@]}"; do
  if [[ $(readelf --dynamic "$stage/$program") != *"(RPATH)"*"[\$ORIGIN/"* ]]; then
    fail "$program: no DT_RPATH that begins with \$ORIGIN: what libraries open would not follow it"
  fi
  resolve "$program" "$preload" | while read -r soname path; do
    if [[ $(basename "$soname") =~ $glibc || $path == "$stage"/* ]]; then continue; fi
    if ((!nvidia)) && [[ $soname =~ $nvidia_libraries ]]; then continue; fi
    fail "$program: $soname would be taken from outside the bundle: $path"
  done
done
# It must run away from here and without our environment.
env -i "$stage/bin/dither" --version

mkdir -p dist
tar --create --gzip --owner=0 --group=0 --sort=name --file="dist/$name.tar.gz" \
  --directory=build/dist "$name"
echo "dist/$name.tar.gz: $(du -h "dist/$name.tar.gz" | cut -f 1)," \
  "unpacked $(du -sh "$stage" | cut -f 1)"
