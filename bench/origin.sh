#!/bin/bash
# The shell script that holdstill replaces, in its own steps: snapshot the subvolume, mount the
# snapshot over the path, work, delete. It needs a private mount namespace (`unshare --mount`).
set -Eeuo pipefail

: "${DEVICE:?block device of the file system}"
: "${TOP:?where its top level is mounted}"
: "${SUBVOLUME:?subvolume that is mounted at SOURCE}"
: "${SOURCE:?path to be frozen}"
: "${WORK:?shell text that is run while SOURCE is frozen}"
SNAPSHOT=${SNAPSHOT:-@origin-snapshot}

if btrfs subvolume delete "$TOP/$SNAPSHOT" 2>/dev/null; then
    echo "warning: the previous run did not finish: its snapshot has been removed" >&2
fi

trap 'btrfs subvolume delete "$TOP/$SNAPSHOT"' EXIT
btrfs subvolume snapshot -r "$TOP/$SUBVOLUME" "$TOP/$SNAPSHOT"

umount "$SOURCE"
mount -t btrfs -o subvol="$SNAPSHOT" "$DEVICE" "$SOURCE"

eval "$WORK"
