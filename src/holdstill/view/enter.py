"""The steps that make a process a view: run in a child that is about to become the command.

Mounts go only over the roots of mounts, or inside read-only snapshots: the host can rename any
other directory, and would carry our mount away with it (then the live path shows again).
"""

from __future__ import annotations

import contextlib
import os
import signal

from holdstill.errors import ViewError, shown
from holdstill.linux import btrfs, inotify, mountinfo, mounts, namespaces, privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from holdstill.view.layout import FrozenMount, Layout

_READ_ONLY = (
    mounts.Attributes.READ_ONLY | mounts.Attributes.NO_SET_UID | mounts.Attributes.NO_DEVICES
)
_ASSEMBLY = "/etc"
"""Any directory that is not handed in will do: nobody else sees what is mounted there."""
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def enter(
    layout: Layout,
    evidence: socket.socket,
    parent: int,
    on_death: signal.Signals | None = None,
    give_up: privileges.GiveUp = privileges.give_up,
) -> None:
    """Build the view around this process, prove it, and give up the power to change it.

    Sends through `evidence` the ids of its namespace and of the view's mounts, an open mountinfo,
    and a watch over the directories that the mounts hang from. The kernel sends the process
    `on_death` (SIGTERM if None) when the parent dies.
    """
    mounts.enter_private_namespace()
    watch = _watch(layout.carriers)
    live = {path: _opened_live(path) for path in layout.live} | _opened_outside(layout.outside)
    # A mount over "/" would be seen by nobody who has a root already: assemble a new one elsewhere.
    base = _ASSEMBLY if layout.has_own_root else ""
    frozen = {mount.target: mount for mount in layout.frozen}
    # Parents first: a snapshot may cover a place in something live, and the other way round.
    for path in sorted({*frozen, *live}, key=lambda path: (path.count("/"), path)):
        if path in frozen:
            _show(frozen[path], (base + path).rstrip("/") or "/")
        if path in live:
            _hand_in(base + path, live[path])
            os.close(live[path])
    if layout.has_own_root:
        mounts.change_root(base)
    ids = [_prove(mount) for mount in layout.frozen]
    for path in layout.paths:
        _prove_frozen(path, ids)
    _send(ids, watch, evidence)
    _go_to(layout.working_directory)
    give_up(parent, on_death or signal.SIGTERM)


def _watch(directories: tuple[str, ...]) -> int:
    """Watch directories from before the first mount hangs from them.

    Renamed and renamed back during the run, one would have shown what took its place to the
    command, and leave no trace in mountinfo.
    """
    watch = inotify.begin()
    for directory in directories:
        descriptor = _opened_bare(*os.path.split(directory))
        inotify.add(watch, descriptor)
        os.close(descriptor)
    return watch


def _opened_bare(parent: str, name: str) -> int:
    try:
        return mounts.opened_below_mounts(parent, name)
    except OSError as error:
        if not mounts.refused(error):
            raise
        return mounts.opened_below_mounts_2(parent, name, _ASSEMBLY)


def _opened_live(path: str) -> int:
    try:
        return os.open(path, _LOOK)
    except OSError as error:
        message = f"{shown(path)} must stay writable in the view: {error.strerror}"
        raise ViewError(message) from error


def _opened_outside(paths: tuple[str, ...]) -> dict[str, int]:
    """Open what is still there: nobody asked for it, and mounts come and go."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = os.open(path, _LOOK)
    return found


def _show(mount: FrozenMount, target: str) -> None:
    try:
        _attach(mount, target)
    except FileNotFoundError as error:
        message = f"there is no place in the view for the snapshot of {shown(mount.target)}"
        remedy = "it lies below a mount that is left out: see 'holdstill plan'"
        raise ViewError(message, remedy=remedy) from error
    except OSError as error:
        if not mounts.refused(error):
            raise
        mounts.mount_subvolume(mount.device, mount.subvolume_id, target, _READ_ONLY)
    if mount.directory:
        mounts.bind_directory(f"{target}/{mount.directory}", target, _READ_ONLY)


def _attach(mount: FrozenMount, target: str) -> None:
    detached = mounts.detached_subvolume(mount.device, mount.subvolume_id, _READ_ONLY)
    try:
        mounts.attach(detached, target)
    finally:
        os.close(detached)


def _hand_in(path: str, descriptor: int) -> None:
    try:
        mounts.bind(descriptor, path)
    except OSError as error:
        message = f"{shown(path)} must stay writable in the view: {error.strerror}"
        remedy = "it has to exist before the snapshot is taken, or to lie outside of the sources"
        raise ViewError(message, remedy=remedy) from error


def _prove(mount: FrozenMount) -> int:
    """Return the mount's id, having seen that its path leads into the snapshot, read-only."""
    descriptor = os.open(mount.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = btrfs.subvolume_info(descriptor)
        writable = not os.fstatvfs(descriptor).f_flag & os.ST_RDONLY
        mount_id = mountinfo.mount_id(descriptor)
    finally:
        os.close(descriptor)
    if found.id != mount.subvolume_id or not found.read_only or writable:
        message = f"{shown(mount.target)} does not show its snapshot in the view"
        raise ViewError(message)
    return mount_id


def _prove_frozen(path: str, ids: list[int]) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if mountinfo.mount_id(descriptor) not in ids:
            message = f"{shown(path)} would be read live"
            remedy = "a source may not lie in restic's cache, its TMPDIR or a repository of the job"
            raise ViewError(message, remedy=remedy)
    finally:
        os.close(descriptor)


def _send(ids: list[int], watch: int, evidence: socket.socket) -> None:
    import socket

    descriptor = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    numbers = [namespaces.of_process("self"), *ids]
    socket.send_fds(evidence, [",".join(map(str, numbers)).encode()], [descriptor, watch])
    os.close(descriptor)
    os.close(watch)


def _go_to(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        message = f"the working directory {shown(directory)} is not in the view: {error.strerror}"
        raise ViewError(message, remedy="start from a directory that is in the snapshot") from error
