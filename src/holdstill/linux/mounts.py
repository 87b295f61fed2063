"""Mounting (mount(2), and the calls of Linux 5.2: fsopen, fsmount, move_mount).

The newer calls make a mount that is attached nowhere, so nobody else can see it. Where the kernel,
the C library's seccomp rules or a container refuses them, mount(2) does the same in two steps.
"""

from __future__ import annotations

import ctypes
import errno
import os
from enum import IntFlag

from holdstill.linux import libc

# The same numbers on every architecture (Linux 5.2 unified the tables).
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432

_OPEN_TREE_CLONE = 1
_FSOPEN_CLOEXEC = 1
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD = -100

_MNT_DETACH = 2
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_CLONE_NEWNS = 0x20000
_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000


class Attributes(IntFlag):
    """Per-mount restrictions; MOUNT_ATTR_* and MS_* agree on the first four, not on noatime."""

    READ_ONLY = 0x1
    NO_SET_UID = 0x2
    NO_DEVICES = 0x4
    NO_EXECUTION = 0x8
    NO_ACCESS_TIME = 0x10

    @property
    def flags(self) -> int:
        """The same for mount(2)."""
        no_access_time = 0x400 if Attributes.NO_ACCESS_TIME in self else 0
        return (self & ~Attributes.NO_ACCESS_TIME) | no_access_time


def refused(error: OSError) -> bool:
    """Whether a new call does not exist here, or a seccomp filter pretends so."""
    return error.errno in {errno.ENOSYS, errno.EPERM}


def new_calls_work() -> bool:
    """Whether the calls of Linux 5.2 are there; raises OSError (ENODEV without btrfs)."""
    doing = "looking for btrfs in the kernel"
    try:
        os.close(libc.system_call(_SYS_FSOPEN, b"btrfs", _FSOPEN_CLOEXEC, doing=doing))
    except OSError as error:
        if not refused(error):
            raise
        return False
    return True


def enter_private_namespace() -> None:
    """Give this process mounts of its own, none of which is ever seen outside.

    Raises OSError (EPERM without CAP_SYS_ADMIN).
    """
    libc.call("unshare", _CLONE_NEWNS, doing="creating a private mount namespace")
    # Before the first mount: what is shared would show it to the host.
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None, "making all mounts private")


def detached_subvolume(device: str, subvolume_id: int, attributes: Attributes) -> int:
    """Mount a btrfs subvolume nowhere; return a descriptor that the mount lives as long as.

    Raises OSError; `refused` tells whether `mount_subvolume` is to be tried instead.
    """
    doing = f"mounting subvolume {subvolume_id}"
    context = libc.system_call(_SYS_FSOPEN, b"btrfs", _FSOPEN_CLOEXEC, doing=doing, path=device)
    try:
        for key, value in (("source", device), ("subvolid", str(subvolume_id))):
            _configure(context, _FSCONFIG_SET_STRING, key, value, doing, device)
        _configure(context, _FSCONFIG_CMD_CREATE, None, None, doing, device)
        return libc.system_call(
            _SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, int(attributes), doing=doing, path=device
        )
    finally:
        os.close(context)


def _configure(  # noqa: PLR0913, PLR0917 - the system call's own arguments
    context: int, command: int, key: str | None, value: str | None, doing: str, path: str
) -> None:
    arguments = (None if text is None else os.fsencode(text) for text in (key, value))
    libc.system_call(_SYS_FSCONFIG, context, command, *arguments, 0, doing=doing, path=path)


def attach(mount: int, target: str) -> None:
    """Attach a detached mount at a path of this process's namespace."""
    libc.system_call(
        _SYS_MOVE_MOUNT,
        mount,
        b"",
        _AT_FDCWD,
        os.fsencode(target),
        _MOVE_MOUNT_F_EMPTY_PATH,
        doing="attaching a mount",
        path=target,
    )


def mount_subvolume(device: str, subvolume_id: int, target: str, attributes: Attributes) -> None:
    """Mount a btrfs subvolume at a path with mount(2).

    An empty file system goes below it, since the kernel refuses to mount one on its own root
    (EBUSY, do_add_mount in fs/namespace.c). A read-only attribute is set in a last step, on this
    mount alone: given earlier, it would speak of the whole file system, which is mounted writable
    elsewhere.
    """
    _mount("none", target, "ramfs", Attributes.READ_ONLY.flags, None, "covering a mount")
    rest = attributes & ~Attributes.READ_ONLY
    doing = f"mounting subvolume {subvolume_id}"
    _mount(device, target, "btrfs", rest.flags, f"subvolid={subvolume_id}", doing)
    if Attributes.READ_ONLY in attributes:
        restrict(target, attributes)


def opened_below_mounts(directory: str, name: str) -> int:
    """Open (O_PATH) what `name` is in a directory when nothing is mounted on it.

    Raises OSError; `refused` tells whether `opened_below_mounts_2` is to be tried instead.
    """
    doing = "looking below a mount"
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    path = os.fsencode(directory)
    # Without AT_RECURSIVE a clone has none of the mounts that lie in it.
    bare = libc.system_call(_SYS_OPEN_TREE, _AT_FDCWD, path, flags, doing=doing, path=directory)
    try:
        return os.open(name, _LOOK, dir_fd=bare)
    finally:
        os.close(bare)


def opened_below_mounts_2(directory: str, name: str, free: str) -> int:
    """Do the same with mount(2), over the directory `free` for a moment."""
    _mount(directory, free, None, _MS_BIND, None, f"binding {directory}")
    try:
        return os.open(f"{free}/{name}", _LOOK)
    finally:
        libc.call("umount2", os.fsencode(free), _MNT_DETACH, doing="letting go of a directory")


def bind(descriptor: int, target: str) -> None:
    """Show at `target` the file or directory that is open in this namespace, with what is below.

    The descriptor must have been opened after the namespace was entered.
    """
    source = f"/proc/self/fd/{descriptor}"
    _mount(source, target, None, _MS_BIND | _MS_REC, None, "binding a live path into the view")


def bind_directory(source: str, target: str, attributes: Attributes) -> None:
    """Show a directory at `target`, restricted."""
    _mount(source, target, None, _MS_BIND, None, f"binding {source}")
    restrict(target, attributes)


def change_root(directory: str) -> None:
    """Make a mount point this process's root, and let go of the old root (pivot_root(2)).

    Raises OSError.
    """
    os.chdir(directory)
    libc.call("pivot_root", b".", b".", doing="changing the root", path=directory)
    # The old root now lies on top of the new one (pivot_root(2), "pivot_root(".", ".")").
    libc.call("umount2", b".", _MNT_DETACH, doing="letting go of the old root")
    os.chdir("/")


def restrict(target: str, attributes: Attributes) -> None:
    """Set the attributes of the mount at `target`."""
    flags = _MS_REMOUNT | _MS_BIND | attributes.flags
    _mount(None, target, None, flags, None, "restricting a mount")


def _mount(  # noqa: PLR0913, PLR0917 - the system call's own arguments
    source: str | None,
    target: str,
    fs_type: str | None,
    flags: int,
    data: str | None,
    doing: str,
) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, fs_type)]
    libc.call(
        "mount",
        *texts,
        ctypes.c_ulong(flags),
        None if data is None else os.fsencode(data),
        doing=doing,
        path=target,
    )
