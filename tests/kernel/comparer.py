"""What two trees differ in: by content and by all metadata that a backup can bring back.

Not compared, since no program can set them or restic keeps none of them: inode numbers, access,
change and birth times, inode flags (chattr), where holes are, and the sizes of directories.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class Entry(NamedTuple):
    """Something in a tree, whatever its name."""

    kind: str
    mode: int
    """Permissions, with set-uid, set-gid and sticky bits."""
    uid: int
    gid: int
    mtime_ns: int
    size: int
    """Of files and symlinks; those of directories are the file system's business."""
    content: str
    """SHA-256 of a file."""
    target: bytes
    """Of a symlink."""
    rdev: int
    """Of a device node."""
    linked: tuple[bytes, ...]
    """All names in the tree that are hard links to the same thing; empty for one without others."""
    xattrs: tuple[tuple[str, bytes], ...]
    """By name. ACLs and file capabilities are among them."""


class Difference(NamedTuple):
    """A property of one path that is not the same; a path that is in one tree only has none."""

    path: bytes
    """From the top of the trees, which is empty."""
    what: str
    """The field of `Entry`; `missing` or `added`."""
    expected: object = None
    found: object = None


def differences(expected: str, found: str, leaving_out: Collection[bytes] = ()) -> list[Difference]:
    """Compare two trees, their top directories included; paths left out hide all below them."""
    before, after = (listing(top, leaving_out) for top in (expected, found))
    return [
        *(Difference(path, "missing") for path in sorted(before.keys() - after.keys())),
        *(Difference(path, "added") for path in sorted(after.keys() - before.keys())),
        *(
            Difference(path, what, one, other)
            for path in sorted(before.keys() & after.keys())
            for what, one, other in zip(Entry._fields, before[path], after[path], strict=True)
            if one != other
        ),
    ]


def listing(top: str, leaving_out: Collection[bytes] = ()) -> dict[bytes, Entry]:
    """Return everything at and below a directory by its path from there."""
    root = os.fsencode(top)
    found = dict(_walk(root, b"", leaving_out))
    names: dict[tuple[int, int], list[bytes]] = {}
    for path, status in found.items():
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            names.setdefault((status.st_dev, status.st_ino), []).append(path)
    groups = {path: tuple(sorted(same)) for same in names.values() if same[1:] for path in same}
    return {
        path: _entry(os.path.join(root, path) if path else root, status, groups.get(path, ()))
        for path, status in found.items()
    }


def _walk(
    root: bytes, path: bytes, leaving_out: Collection[bytes]
) -> Iterator[tuple[bytes, os.stat_result]]:
    if path in leaving_out:
        return
    full = os.path.join(root, path) if path else root
    status = os.lstat(full)
    yield path, status
    if stat.S_ISDIR(status.st_mode):
        for name in os.listdir(full):
            yield from _walk(root, os.path.join(path, name), leaving_out)


def _entry(path: bytes, status: os.stat_result, linked: tuple[bytes, ...]) -> Entry:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if kind in {"file", "symlink"} else 0,
        content=_digest(path) if kind == "file" else "",
        target=os.readlink(path) if kind == "symlink" else b"",
        rdev=status.st_rdev if kind.endswith("device") else 0,
        linked=linked,
        xattrs=tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names),
    )


def _digest(path: bytes) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_NOATIME), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
