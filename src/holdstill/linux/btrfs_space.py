"""How much room a btrfs file system has, for data and for metadata (<linux/btrfs.h>).

statfs(2) speaks of data alone; a snapshot needs metadata, and a full file system runs out of these
first.
"""

from __future__ import annotations

import ctypes
import errno

from holdstill.linux import libc
from holdstill.linux.btrfs import READ, WRITE, file_system_devices, request
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SLOTS = 64
"""More kinds of space than there are profiles."""
# <linux/btrfs_tree.h>
_METADATA = 1 << 2
_TWO_COPIES = 1 << 4 | 1 << 5 | 1 << 6  # RAID1, DUP, RAID10
_THREE_COPIES = 1 << 9
_FOUR_COPIES = 1 << 10
_GLOBAL_RESERVE = 1 << 49


class _Space(ctypes.Structure):
    """struct btrfs_ioctl_space_info."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("total", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
    )


class _Head(ctypes.Structure):
    """struct btrfs_ioctl_space_args without its array."""

    _fields_ = (("slots", ctypes.c_uint64), ("found", ctypes.c_uint64))


class _Spaces(ctypes.Structure):
    _fields_ = (("head", _Head), ("spaces", _Space * _SLOTS))


class _Device(ctypes.Structure):
    """struct btrfs_ioctl_dev_info_args."""

    _fields_ = (
        ("id", ctypes.c_uint64),
        ("uuid", ctypes.c_ubyte * 16),
        ("allocated", ctypes.c_uint64),
        ("total", ctypes.c_uint64),
        ("rest", ctypes.c_char * 4056),
    )


_SPACE_INFO = request(20, _Head, 16, READ | WRITE)
_DEV_INFO = request(30, _Device, 4096, READ | WRITE)


class Room(NamedTuple):
    """What is left for metadata, in bytes; each copy of it counts once."""

    in_chunks: int
    """In chunks that exist, without the reserve that the kernel keeps for itself."""
    unallocated: int
    """That new chunks could be made of."""

    @property
    def total(self) -> int:
        """Both together."""
        return self.in_chunks + self.unallocated


def metadata_room(descriptor: int) -> Room:
    """Return how much metadata the file system of an open file has room for; raises OSError."""
    spaces = list(_spaces(descriptor))
    metadata = [one for one in spaces if one.flags & _METADATA and not _is_reserve(one)]
    reserved = sum(one.total for one in spaces if _is_reserve(one))
    left = sum(one.total - one.used for one in metadata) - reserved
    copies = max((_copies(one.flags) for one in metadata), default=1)
    return Room(max(0, left), _unallocated(descriptor) // copies)


def _spaces(descriptor: int) -> Iterator[_Space]:
    found = _Spaces(head=_Head(slots=_SLOTS))
    libc.ioctl(descriptor, _SPACE_INFO, found, doing="asking how space is used")
    yield from found.spaces[: found.head.found]


def _is_reserve(space: _Space) -> bool:
    return bool(space.flags & _GLOBAL_RESERVE)


def _copies(flags: int) -> int:
    if flags & _FOUR_COPIES:
        return 4
    if flags & _THREE_COPIES:
        return 3
    return 2 if flags & _TWO_COPIES else 1


def _unallocated(descriptor: int) -> int:
    return sum(one.total - one.allocated for one in _devices(descriptor))


def _devices(descriptor: int) -> Iterator[_Device]:
    """Yield the devices; their numbers have gaps where one was removed."""
    for number in range(1, file_system_devices(descriptor) + 1):
        device = _Device(id=number)
        try:
            libc.ioctl(descriptor, _DEV_INFO, device, doing=f"looking at device {number}")
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
        else:
            yield device
