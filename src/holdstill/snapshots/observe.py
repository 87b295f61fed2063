"""From paths to `Source`s: what they are, which mounts show them, whether they can be frozen."""

from __future__ import annotations

import os
import stat

from holdstill.errors import SourceError, shown
from holdstill.linux import mountinfo
from holdstill.snapshots import btrfs
from holdstill.snapshots.model import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdstill.linux.mountinfo import Mount
    from holdstill.snapshots.tree import Tree


class Observer:
    """Looks at paths, and reads the subvolumes of each file system once."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        """Know the mounts, and no subvolume yet."""
        self._mounts = mounts
        self._trees: dict[str, Tree] = {}

    def sources(self, paths: Iterable[str]) -> list[Source]:
        """Describe paths; raises one SourceError for all of those that cannot be frozen."""
        found, refused = [], []
        for path in paths:
            try:
                found.append(self._source(path))
            except SourceError as error:
                refused.append(error)
        if refused:
            raise _together(refused)
        return found

    def _source(self, path: str) -> Source:
        path = _proper(path)
        mount = _mount_of(path, self._mounts)
        _refuse_unfreezable(path, mount)
        try:
            tree = self._tree(mount)
            layers = btrfs.layers(path, mount, tree)
        except FileNotFoundError as error:
            message = f"{shown(path)} has been deleted, or the subvolume that it lies in"
            raise SourceError(message, remedy="unmount it, if it is still mounted") from error
        except OSError as error:
            raise btrfs.failure(error, f"cannot look for subvolumes at {shown(path)}") from error
        return Source(
            path=path,
            mount=mount,
            layers=layers,
            nested=tuple(nested for layer in layers for nested in tree.nested(layer)),
            submounts=mountinfo.visible_below(mount, self._mounts),
        )

    def _tree(self, mount: Mount) -> Tree:
        if mount.device not in self._trees:
            self._trees[mount.device] = btrfs.read_tree(mount)
        return self._trees[mount.device]


def _together(errors: Sequence[SourceError]) -> SourceError:
    if len(errors) == 1:
        return errors[0]
    lines = [f"  {error.message} ({error.remedy})" for error in errors]
    return SourceError("\n".join([f"{len(errors)} paths cannot be frozen", *lines]))


def _proper(path: str) -> str:
    """Return the path as restic will record it: absolute, no symlink on the way."""
    if not path.startswith("/"):
        message = f"{shown(path)} is not an absolute path"
        raise SourceError(message, remedy=f"name it as {shown(os.path.abspath(path))}")
    path = "/" + os.path.normpath(path).lstrip("/")
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        message = f"{shown(path)} cannot be looked at: {error.strerror}"
        raise SourceError(message, remedy="is its disk mounted?") from error
    real = os.path.realpath(path)
    if real != path:
        message = f"{shown(path)} leads through a symlink to {shown(real)}"
        raise SourceError(message, remedy=f"name {shown(real)} instead")
    if not stat.S_ISDIR(mode):
        message = f"{shown(path)} is not a directory"
        raise SourceError(message, remedy=f"name its directory, {shown(os.path.dirname(path))}")
    return path


def _mount_of(path: str, mounts: Sequence[Mount]) -> Mount:
    with btrfs.opened(path) as descriptor:
        wanted = mountinfo.mount_id(descriptor)
    for mount in mounts:
        if mount.id == wanted:
            return mount
    message = f"{shown(path)} lies on a mount that /proc/self/mountinfo does not list"
    raise SourceError(message, remedy="run it outside of the chroot or container")


def _refuse_unfreezable(path: str, mount: Mount) -> None:
    where = f"{shown(path)} is on {mount.fs_type} (mounted at {shown(mount.mount_point)})"
    if mount.fs_type != "btrfs":
        message = f"{where}, which has no snapshots"
        raise SourceError(message, remedy="only paths on btrfs can be frozen")
    if mount.read_only_file_system:
        message = f"{where}, and the file system is read-only: it takes no snapshot"
        raise SourceError(message, remedy="remount it writable; dmesg says if an error did this")
