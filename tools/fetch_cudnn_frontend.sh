#!/usr/bin/env bash
# Fetches the C++ headers of cudnn-frontend (MIT) from its Python package: DIR/include, DIR/LICENSE.txt.
# usage: tools/fetch_cudnn_frontend.sh DIR
# One pinned build, checked against its SHA-256; does nothing when DIR has it already.
set -euo pipefail

package=nvidia-cudnn-frontend
version=1.23.0
sha256=7bdae232a3071501012611fab14aae34dd16983205e56d3c1641317910fdd385

dir=${1:?usage: tools/fetch_cudnn_frontend.sh DIR}
stamp=$dir/SHA256
if [ -f "$dir/include/cudnn_frontend.h" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sha256" ]; then
  exit 0
fi

fail() {
  echo "fetch_cudnn_frontend: $*" >&2
  exit 1
}
command -v python3 >/dev/null || fail "python3 is missing"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip module"

mkdir -p "$(dirname "$dir")"
# Beside DIR, so that the last step is a rename: an interrupted run leaves no half-filled folder.
scratch=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# The headers are the same in every build of the package; naming one makes the checksum one.
if ! python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps \
  --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 \
  --platform manylinux_2_28_x86_64 --dest "$scratch" "$package==$version" >&2; then
  fail "pip could not download $package $version; without network, copy DIR from another machine"
fi
wheels=("$scratch"/*.whl)
if [ "$(sha256sum <"${wheels[0]}")" != "$sha256  -" ]; then
  fail "$(basename "${wheels[0]}") does not have the expected SHA-256 $sha256"
fi

python3 - "${wheels[0]}" "$scratch/new" <<'PYTHON'
import pathlib, sys, zipfile

wheel, target = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2])
target.mkdir()
for name in wheel.namelist():
    if name.startswith("include/"):
        wheel.extract(name, target)
    elif name.endswith(".dist-info/licenses/LICENSE.txt"):
        (target / "LICENSE.txt").write_bytes(wheel.read(name))
PYTHON
if [ ! -f "$scratch/new/include/cudnn_frontend.h" ] || [ ! -f "$scratch/new/LICENSE.txt" ]; then
  fail "the package has no include/cudnn_frontend.h or no licence"
fi
echo "$sha256" >"$scratch/new/SHA256"
rm -rf "$dir"
mv "$scratch/new" "$dir"
echo "fetch_cudnn_frontend: $package $version in $dir"
