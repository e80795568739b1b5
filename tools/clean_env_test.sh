#!/usr/bin/env bash
# Runs the README's commands on a clean clone in a fresh Debian 12 that holds nothing else.
# usage: tools/clean_env_test.sh DIR [MIRROR]
# Needs root and debootstrap. DIR/base is made once (minbase, git and make: what a stranger needs to
# clone and to type `make`); every run copies it to DIR/root, clones HEAD there, and times `make
# demo` and `make test`. MIRROR is a Debian mirror's URL, by default debootstrap's own choice.
set -euo pipefail

dir=$(realpath "${1:?usage: tools/clean_env_test.sh DIR [MIRROR]}")
mirror=${2:-}
cd "$(dirname "$0")/.."
repository=$PWD
root=$dir/root

if [ ! -e "$dir/base/.complete" ]; then
  rm -rf "$dir/base"
  debootstrap --variant=minbase --include=git,make bookworm "$dir/base" ${mirror:+"$mirror"}
  touch "$dir/base/.complete"
fi

unmount() {
  for mount in proc dev; do
    if mountpoint --quiet "$root/$mount"; then umount --recursive --lazy "$root/$mount"; fi
  done
}
trap unmount EXIT
unmount
rm -rf --one-file-system "$root"
cp --archive "$dir/base" "$root"
mount --types proc proc "$root/proc"
mount --rbind --make-rslave /dev "$root/dev"
cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
cp --dereference /etc/hosts "$root/etc/hosts"

git clone --quiet --no-hardlinks "file://$repository" "$root/dither"
git -C "$root/dither" log -1 --format='clean environment: %h %s'

timed() {
  local begin=$SECONDS
  env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    chroot "$root" make --directory=/dither "$@" </dev/null
  times+=("$(printf 'make %s: %d s' "$*" $((SECONDS - begin)))")
}
times=()
timed demo
timed test
ls -l "$root/dither/out"
printf '%s\n' "${times[@]}"
