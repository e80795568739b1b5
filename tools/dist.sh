#!/usr/bin/env bash
# Packs the command, the shared libraries it needs except glibc's, and the demo model into
# dist/dither-VERSION-linux-ARCH.tar.gz. The command finds both relative to itself.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^project(dither VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
name=dither-$version-linux-$(uname -m)
stage=build/dist/$name
rm -rf "$stage"
# The run path leads from bin/ to the libraries beside it, wherever the folder is unpacked.
cmake --preset release -D CMAKE_INSTALL_RPATH="\$ORIGIN/../lib" >/dev/null
cmake --build build/release --parallel "${JOBS:-$(nproc)}" --target dither_cli dither
cmake --install build/release --prefix "$stage" --strip >/dev/null
cmake --preset release -U CMAKE_INSTALL_RPATH >/dev/null

# glibc belongs to the system that runs the command: it must match its kernel and its loader.
glibc='^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util))\.so'
licences=$stage/share/doc/dither/third-party
mkdir -p "$stage/lib" "$licences"

# The package that a library is from. Since /lib is a link to /usr/lib, dpkg may know it by either.
package_of() {
  local path
  path=$(realpath "$1")
  { dpkg-query --search "$path" || dpkg-query --search "${path#/usr}"; } 2>/dev/null |
    sed 's/:.*//' | head -n 1
}

ldd "$stage/bin/dither" | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' |
  while read -r soname path; do
    if [[ $soname =~ $glibc ]]; then continue; fi
    cp --dereference "$path" "$stage/lib/$soname"
    package=$(package_of "$path" || true)
    if [ -f "/usr/share/doc/$package/copyright" ]; then
      cp "/usr/share/doc/$package/copyright" "$licences/$package"
    fi
  done

mkdir -p dist
tar --create --gzip --owner=0 --group=0 --sort=name --file="dist/$name.tar.gz" \
  --directory=build/dist "$name"
echo "dist/$name.tar.gz: $(du -h "dist/$name.tar.gz" | cut -f 1)"
# It must run away from here and without our environment.
env -i "$stage/bin/dither" --version
