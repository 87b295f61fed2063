"""btrfs: which subvolumes a path needs, how one is opened, and how its snapshot is taken."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

from holdstill.errors import FreezeError, HoldstillError, NotPermittedError, shown
from holdstill.forks import descriptor_from_child
from holdstill.linux import btrfs as kernel
from holdstill.linux import btrfs_tree, mounts, swaps
from holdstill.snapshots.model import Layer, Snapshot
from holdstill.snapshots.tree import Tree, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdstill.linux.mountinfo import Mount
    from holdstill.snapshots.model import Subvolume

_OUT_OF_SIGHT = (
    mounts.Attributes.NO_SET_UID
    | mounts.Attributes.NO_DEVICES
    | mounts.Attributes.NO_EXECUTION
    | mounts.Attributes.NO_ACCESS_TIME
)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_NEEDED = {errno.EPERM: "CAP_SYS_ADMIN", errno.EACCES: "CAP_DAC_READ_SEARCH"}
_REMEDIES = {
    errno.ENOSPC: "free some space: 'btrfs filesystem usage' shows whether metadata is full",
    errno.EDQUOT: "raise the quota group's limit, see 'btrfs qgroup show'",
    errno.EROFS: "the file system must be writable to take a snapshot; see dmesg for the reason",
    errno.ENOENT: "the device is gone from /dev",
    errno.EMFILE: "allow more open files (LimitNOFILE= of the unit, ulimit -Hn)",
    errno.EIO: "the device fails: see dmesg and 'btrfs device stats'",
}


def layers(path: str, mount: Mount, subvolumes: Tree) -> tuple[Layer, ...]:
    """Return the subvolumes from the root of `mount` down to `path`, a directory below it.

    Raises SourceError for one that has been deleted, OSError.
    """
    with opened(mount.mount_point) as root:
        inside = _path_in_subvolume(root)
        found = [Layer(mount.mount_point, subvolumes.subvolume(_id_of(root)), inside)]
    for directory in _between(mount.mount_point, path):
        with opened(directory) as descriptor:
            if os.fstat(descriptor).st_ino == kernel.ROOT_INODE:
                found.append(Layer(directory, subvolumes.subvolume(_id_of(descriptor)), ""))
    return tuple(found)


def read_tree(mount: Mount) -> Tree:
    """Read the subvolumes of the file system that a mount shows."""
    with opened(mount.mount_point) as root:
        return tree(kernel.file_system_uuid(root), mount.source, btrfs_tree.subvolumes(root))


def _id_of(descriptor: int) -> int:
    return kernel.subvolume_info(descriptor).id


def _between(top: str, path: str) -> list[str]:
    """Return every directory below `top` on the way to `path`, itself included."""
    names = path.removeprefix(top.rstrip("/")).strip("/").split("/")
    return [
        top.rstrip("/") + "/" + "/".join(names[: count + 1])
        for count in range(len(names))
        if names[count]
    ]


def _path_in_subvolume(descriptor: int) -> str:
    inode = os.fstat(descriptor).st_ino
    if inode == kernel.ROOT_INODE:
        return ""
    return kernel.path_of_inode(descriptor, kernel.subvolume_info(descriptor).id, inode)


@contextmanager
def opened(path: str, directory: int | None = None) -> Iterator[int]:
    """Open a directory, never through a symlink in its last name."""
    descriptor = os.open(path, _DIRECTORY, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def mounted(device: str, subvolume_id: int) -> Iterator[int]:
    """Open the root of a subvolume through a mount that nobody else can see."""
    descriptor = _detached(device, subvolume_id)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _detached(device: str, subvolume_id: int) -> int:
    try:
        mount = mounts.detached_subvolume(device, subvolume_id, _OUT_OF_SIGHT)
    except OSError as error:
        if not mounts.refused(error):
            raise failure(error, f"cannot reach the file system on {shown(device)}") from error
        return descriptor_from_child(lambda: _attached(device, subvolume_id))
    try:
        # A detached mount's own descriptor is O_PATH, which takes no ioctl.
        return os.open(".", _DIRECTORY, dir_fd=mount)
    finally:
        os.close(mount)


def _attached(device: str, subvolume_id: int) -> int:
    """Do the same with mount(2), in a process of its own: the descriptor outlives the mount."""
    mounts.enter_private_namespace()
    target = "/proc"  # any directory will do, in a namespace that is about to end
    mounts.mount_subvolume(device, subvolume_id, target, _OUT_OF_SIGHT)
    return os.open(target, _DIRECTORY)


def read_snapshot(subvolume: Subvolume, directory: int) -> Snapshot:
    """Return the snapshot that was taken; raises FreezeError if it is not what was asked for."""
    with opened(subvolume.uuid, directory) as descriptor:
        info = kernel.subvolume_info(descriptor)
    if not info.read_only or info.parent_uuid != subvolume.uuid:
        message = f"subvolume {info.id} is not a read-only snapshot of {subvolume.id}"
        raise FreezeError(message)
    return Snapshot(subvolume, info.id, info.uuid, info.otransid)


def failure(error: OSError, what: str) -> HoldstillError:
    """Say what failed, why, and what can be done about it."""
    message = f"{what}: {error.strerror}"
    if error.errno in _NEEDED:
        return NotPermittedError(message, remedy=f"run it as root, with {_NEEDED[error.errno]}")
    if error.errno == errno.ETXTBSY:
        return FreezeError(message, remedy=_swap_remedy())
    return FreezeError(message, remedy=_REMEDIES.get(error.errno or 0, ""))


def _swap_remedy() -> str:
    files = ", ".join(map(shown, swaps.active_files())) or "none seen"
    return (
        "a subvolume with an active swap file cannot be frozen; move the swap file to a subvolume "
        f"of its own, left out by nested-exclude if it lies below a path (active here: {files})"
    )
