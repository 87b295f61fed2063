"""A temporary btrfs disk that cannot be left behind.

Its image is a file without a name, its loop device frees itself, and its mounts are this process's
own: when the last process that sees them has ended, however it ended, all of it is gone.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass

from holdstill.errors import HoldstillError, NotPermittedError, ProgramError, shown
from holdstill.linux import btrfs, loop, mounts, privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

IMAGE_BYTES = 1_500_000_000
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where mkfs.btrfs is; `su` on Debian leaves it out of root's PATH."""
_PLACES = ("/mnt", "/media", "/srv", "/opt")
_PACKAGES = {"restic": "restic", "btrfs": "btrfs-progs", "mkfs.btrfs": "btrfs-progs"}
_SUBVOLUME = "@data"
_NO_ATTRIBUTES = mounts.Attributes(0)


class DiskError(HoldstillError):
    """The temporary disk cannot be made on this machine."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The mounted disk."""

    data: str
    """Where its subvolume @data is mounted: what is backed up."""
    rest: str
    """A directory beside it, in the top level: for everything else."""


def search_path(environment: Mapping[str, str]) -> str:
    """Return PATH with the directories of the system's own programs."""
    return environment.get("PATH", os.defpath) + os.pathsep + _SBIN


def programs(path: str) -> dict[str, str]:
    """Return where the needed programs are; raises ProgramError naming all that are missing."""
    found = {name: shutil.which(name, path=path) for name in _PACKAGES}
    missing = [name for name, where in found.items() if where is None]
    if missing:
        packages = dict.fromkeys(_PACKAGES[name] for name in missing)
        remedy = f"install {' and '.join(packages)}, for example with 'make setup'"
        raise ProgramError(f"not found in PATH: {', '.join(missing)}", remedy=remedy)
    return {name: where for name, where in found.items() if where is not None}


def place(used: Sequence[str]) -> str:
    """Return a directory to mount the disk over: one that exists and hides nothing in `used`.

    The mount is seen by this process and its children only.
    """
    needed = [os.path.realpath(path) for path in used] + [os.path.abspath(path) for path in used]
    for candidate in _PLACES:
        is_used = any((path + "/").startswith(candidate + "/") for path in needed)
        if os.path.isdir(candidate) and not os.path.islink(candidate) and not is_used:
            return candidate
    message = (
        f"nowhere to mount a disk: {', '.join(_PLACES)} are missing, or in use by this program"
    )
    raise DiskError(message, remedy="make an empty directory /mnt")


def enter_namespace() -> None:
    """Give this process and its children mounts of their own; raises NotPermittedError."""
    if not privileges.effective(privileges.CAP_SYS_ADMIN):
        message = "the demonstration makes and mounts a disk, which needs root (CAP_SYS_ADMIN)"
        raise NotPermittedError(message, remedy="run it with sudo")
    try:
        mounts.enter_private_namespace()
    except OSError as error:
        message = f"this machine does not allow mounts: {error.strerror}"
        remedy = "in a container: start it with --privileged, or run the demo outside of it"
        raise NotPermittedError(message, remedy=remedy) from error


def make_disk(
    where: str, directory: str, start: Callable[..., object], program: Mapping[str, str]
) -> Disk:
    """Make the disk and mount it over `where`, its image in `directory`.

    `start` runs a program to its end and raises if it fails. Raises DiskError.
    """
    with _image(directory) as image:
        device, path = _attached(image)
    try:
        start(program["mkfs.btrfs"], "--quiet", "--force", "--metadata", "single", path)
        _mount(path, btrfs.TOP_LEVEL, where)
    finally:
        os.close(device)  # from here on the mount alone keeps it
    return _populated(path, where, start, program["btrfs"])


def _populated(device: str, where: str, start: Callable[..., object], program: str) -> Disk:
    disk = Disk(data=f"{where}/data", rest=f"{where}/rest")
    subvolume = f"{where}/{_SUBVOLUME}"
    os.mkdir(disk.data)
    os.mkdir(disk.rest, 0o700)
    start(program, "subvolume", "create", subvolume)
    descriptor = os.open(subvolume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        number = btrfs.subvolume_info(descriptor).id
    finally:
        os.close(descriptor)
    _mount(device, number, disk.data)
    return disk


@contextmanager
def _image(directory: str) -> Iterator[int]:
    """Open a sparse file without a name."""
    another = "name another directory: TMPDIR=/some/where"
    try:
        room = os.statvfs(directory)
        image = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - entered below
    except OSError as error:
        message = f"cannot make a temporary file in {shown(directory)}: {error.strerror}"
        raise DiskError(message, remedy=another) from error
    with image:
        free = room.f_bavail * room.f_frsize
        if free < IMAGE_BYTES:
            message = (
                f"not enough room in {shown(directory)}: {free / 1e9:.1f} GB are free, "
                f"{IMAGE_BYTES / 1e9:.1f} GB are needed for a while"
            )
            raise DiskError(message, remedy=f"free some, or {another}")
        os.truncate(image.fileno(), IMAGE_BYTES)
        yield image.fileno()


def _attached(image: int) -> tuple[int, str]:
    try:
        return loop.attach(image)
    except OSError as error:
        message = f"no loop devices on this machine: {error}"
        remedy = (
            "try 'modprobe loop'; in a container: start it with --privileged, "
            "or run the demo outside of it"
        )
        raise DiskError(message, remedy=remedy) from error


def _mount(device: str, subvolume: int, where: str) -> None:
    try:
        mounts.mount_subvolume(device, subvolume, where, _NO_ATTRIBUTES)
    except OSError as error:
        if error.errno == errno.ENODEV:
            message = "this kernel has no btrfs"
            remedy = "try 'modprobe btrfs', or install the kernel's extra modules"
            raise DiskError(message, remedy=remedy) from error
        message = f"cannot mount the temporary disk: {error}"
        remedy = "the kernel's log (dmesg) says why"
        raise DiskError(message, remedy=remedy) from error
