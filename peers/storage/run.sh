#!/usr/bin/env bash
# Prints every table of crates/engine/docs/storage.md. Needs Linux and strace. STORAGE_DIR names a directory on
# the disk to measure (default: beside the built program).
set -eu
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" RUST_BACKTRACE=0
cargo build --release
program="$CARGO_TARGET_DIR/release/storage-peers"
dir="${STORAGE_DIR:-$CARGO_TARGET_DIR}"
names=$("$program" names)

echo "== damage"
"$program" damage
echo "== time"
"$program" time "${ROUNDS:-9}" "${COMMITS:-400}"
echo "== reopen"
"$program" reopen 100000

echo "== calls in 500 commits"
trace=$(mktemp)
image=$(mktemp -d "$dir/failing.XXXX")
trap 'rm -rf "$trace" "$image"' EXIT
for name in $names; do
  for group in 1 32; do
    strace -f -qq -o "$trace" -e trace=fsync,fdatasync,msync,write,pwrite64,pwritev,writev,fallocate \
      "$program" commits "$name" "$group" 500 >/dev/null
    echo "$name $group:" $(sed -n '/BEGIN/,/END/p' "$trace" | grep -v 'BEGIN\|END' |
      sed -E 's/^[0-9]+ +//; s/\(.*//' | sort | uniq -c)
  done
done

# Opening takes some syncs too: the failure moves on until it meets a commit.
echo "== one failed sync among six commits"
for name in $names; do
  for call in fdatasync fsync; do
    for when in $(seq 1 12); do
      rm -rf "${image:?}"/*
      said=$(timeout 20 strace -f -qq -o "$trace" -e "trace=$call" \
        -e "inject=$call:error=EIO:when=$when" "$program" failing "$name" "$image" 6 2>/dev/null || true)
      if grep -q '^0 acknowledged' <<<"$said" && grep -qv 'acknowledged\|BEGIN' <<<"$said"; then
        echo "$name:" $(grep -v BEGIN <<<"$said" | cut -c1-60 | tr '\n' ';')
        break 2
      fi
    done
  done
done
