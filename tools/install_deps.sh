#!/usr/bin/env bash
# Installs the Debian 12 packages of tools/packages.txt that are missing, and says what and why.
# usage: tools/install_deps.sh [--dev] [--check]
#   --dev     also the tools of lint, fuzzing and CI
#   --check   only list what is missing; exit status 1 if anything is
set -euo pipefail

cd "$(dirname "$0")/.."

sets="build"
check=0
for argument in "$@"; do
  case "$argument" in
    --dev) sets="build dev" ;;
    --check) check=1 ;;
    -h | --help)
      sed -n '2,5s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *)
      echo "install_deps: unknown option '$argument' (--dev, --check)" >&2
      exit 2
      ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install_deps: this is not a Debian system; provide what tools/packages.txt lists" >&2
  exit 1
fi

installed() {
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
while read -r set package why; do
  case "$set" in '' | '#'*) continue ;; esac
  case " $sets " in *" $set "*) ;; *) continue ;; esac
  if ! installed "$package"; then
    missing+=("$package")
    printf '  %-22s %s\n' "$package" "$why"
  fi
done <tools/packages.txt

if [ ${#missing[@]} -eq 0 ]; then
  echo "install_deps: every package is there"
  exit 0
fi
if [ "$check" = 1 ]; then
  echo "install_deps: ${#missing[@]} packages missing"
  exit 1
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_deps: to install these ${#missing[@]} packages run as root, or install sudo" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "install_deps: installing ${#missing[@]} packages"
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet "$@" </dev/null
}
# The package lists may be absent (a fresh image) or too old: fetch them only when apt cannot
# resolve the request or download what it names.
apt_install() {
  apt install --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}"
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! apt_install >"$log" 2>&1; then
  if ! { apt update && apt_install; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "install_deps: apt-get failed, see above" >&2
    exit 1
  fi
fi
echo "install_deps: done"
