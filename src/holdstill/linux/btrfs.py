"""The btrfs ioctls that holdstill uses (<linux/btrfs.h>), typed, their sizes asserted.

Descriptors stand for files and subvolumes: a name may mean something else a moment later.
"""

from __future__ import annotations

import ctypes
import os

from holdstill.linux import libc
from holdstill.tuples import NamedTuple

TOP_LEVEL = 5
"""Id of the subvolume that every btrfs file system starts with."""
ROOT_INODE = 256
"""Inode number of every subvolume's root directory."""

_SUBVOLUME_READ_ONLY = 1 << 1
_ROOT_READ_ONLY = 1 << 0  # the same fact, as the root item spells it (btrfs_tree.h)
_BY_ID = 1 << 4
_UUID_SIZE = 16
_NOCOW = 0x800000  # FS_NOCOW_FL
_UNDELETABLE = 0x10 | 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL
_LONG_SIZE = ctypes.sizeof(ctypes.c_long)


class _SnapshotArguments(ctypes.Structure):
    """struct btrfs_ioctl_vol_args_v2."""

    _fields_ = (
        ("fd", ctypes.c_int64),
        ("transid", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 4),
        ("name", ctypes.c_char * 4040),
    )


class _DestroyArguments(ctypes.Structure):
    """The same, where the name's union holds a subvolume id."""

    _fields_ = (
        ("fd", ctypes.c_int64),
        ("transid", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 4),
        ("subvolume_id", ctypes.c_uint64),
        ("rest", ctypes.c_char * 4032),
    )


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_uint64), ("nanoseconds", ctypes.c_uint32))


class _SubvolumeArguments(ctypes.Structure):
    """struct btrfs_ioctl_get_subvol_info_args."""

    _fields_ = (
        ("id", ctypes.c_uint64),
        ("name", ctypes.c_char * 256),
        ("parent_id", ctypes.c_uint64),
        ("directory_id", ctypes.c_uint64),
        ("generation", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("uuid", ctypes.c_ubyte * _UUID_SIZE),
        ("parent_uuid", ctypes.c_ubyte * _UUID_SIZE),
        ("received_uuid", ctypes.c_ubyte * _UUID_SIZE),
        ("ctransid", ctypes.c_uint64),
        ("otransid", ctypes.c_uint64),
        ("stransid", ctypes.c_uint64),
        ("rtransid", ctypes.c_uint64),
        ("ctime", _Time),
        ("otime", _Time),
        ("stime", _Time),
        ("rtime", _Time),
        ("reserved", ctypes.c_uint64 * 8),
    )


class _FileSystemArguments(ctypes.Structure):
    """struct btrfs_ioctl_fs_info_args."""

    _fields_ = (
        ("max_id", ctypes.c_uint64),
        ("num_devices", ctypes.c_uint64),
        ("fsid", ctypes.c_ubyte * _UUID_SIZE),
        ("rest", ctypes.c_char * 992),
    )


class _Transaction(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint64),)


class _SubvolumeFlags(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64),)


class _Flags(ctypes.Structure):
    """What FS_IOC_GETFLAGS (<linux/fs.h>) writes an int to, though its number says long."""

    _fields_ = (("low", ctypes.c_uint32), ("rest", ctypes.c_byte * (_LONG_SIZE - 4)))


class _LookupArguments(ctypes.Structure):
    """struct btrfs_ioctl_ino_lookup_args."""

    _fields_ = (
        ("tree_id", ctypes.c_uint64),
        ("object_id", ctypes.c_uint64),
        ("name", ctypes.c_char * 4080),
    )


def request(number: int, argument: type[ctypes.Structure], size: int, direction: int) -> int:
    """Compose an ioctl number (<asm-generic/ioctl.h>) out of an argument of an asserted size."""
    if ctypes.sizeof(argument) != size:
        message = f"{argument.__name__} has {ctypes.sizeof(argument)} bytes, the kernel's {size}"
        raise AssertionError(message)
    return direction << 30 | size << 16 | 0x94 << 8 | number


WRITE, READ = 1, 2
_SNAP_CREATE_V2 = request(23, _SnapshotArguments, 4096, WRITE)
_SNAP_DESTROY_V2 = request(63, _DestroyArguments, 4096, WRITE)
_GET_SUBVOL_INFO = request(60, _SubvolumeArguments, 504, READ)
_FS_INFO = request(31, _FileSystemArguments, 1024, READ)
_INO_LOOKUP = request(18, _LookupArguments, 4096, READ | WRITE)
_START_SYNC = request(24, _Transaction, 8, READ)
_SUBVOL_SETFLAGS = request(26, _SubvolumeFlags, 8, WRITE)
_SET_FLAGS = WRITE << 30 | _LONG_SIZE << 16 | ord("f") << 8 | 2
_GET_FLAGS = READ << 30 | _LONG_SIZE << 16 | ord("f") << 8 | 1


class SubvolumeInfo(NamedTuple):
    """What the kernel knows of a subvolume."""

    id: int
    uuid: str
    parent_uuid: str
    """Uuid of the subvolume that this is a snapshot of; empty where it is none."""
    read_only: bool
    generation: int
    """Last transaction that wrote to it, or took a snapshot of it."""
    otransid: int
    """Transaction that created it."""


def subvolume_info(descriptor: int) -> SubvolumeInfo:
    """Describe the subvolume that an open file belongs to (Linux 4.18)."""
    arguments = _SubvolumeArguments()
    libc.ioctl(descriptor, _GET_SUBVOL_INFO, arguments, doing="reading subvolume information")
    return SubvolumeInfo(
        id=arguments.id,
        uuid=uuid_text(arguments.uuid),
        parent_uuid=uuid_text(arguments.parent_uuid) if any(arguments.parent_uuid) else "",
        read_only=bool(arguments.flags & _ROOT_READ_ONLY),
        generation=arguments.generation,
        otransid=arguments.otransid,
    )


def file_system_uuid(descriptor: int) -> str:
    """Return the uuid of the file system that an open file belongs to."""
    arguments = _FileSystemArguments()
    libc.ioctl(descriptor, _FS_INFO, arguments, doing="reading file system information")
    return uuid_text(arguments.fsid)


def file_system_devices(descriptor: int) -> int:
    """Return the highest number of a device of the file system that an open file belongs to."""
    arguments = _FileSystemArguments()
    libc.ioctl(descriptor, _FS_INFO, arguments, doing="reading file system information")
    return int(arguments.max_id)


def is_nocow(descriptor: int) -> bool:
    """Whether a file is written in place, or, of a directory, whether new files in it will be.

    The kernel's memory is asked: the item on the disk may be half a minute behind.
    """
    flags = _Flags()
    libc.ioctl(descriptor, _GET_FLAGS, flags, doing="reading a file's attributes")
    return bool(flags.low & _NOCOW)


def allow_deletion(snapshot: int) -> None:
    """Take `chattr +i` and `+a` from a snapshot's root, which has them from its source.

    For a moment the snapshot is writable: only one that is about to be deleted can stand that.
    """
    flags = _Flags()
    libc.ioctl(snapshot, _GET_FLAGS, flags, doing="reading a snapshot's attributes")
    if not flags.low & _UNDELETABLE:
        return
    flags.low &= ~_UNDELETABLE
    libc.ioctl(snapshot, _SUBVOL_SETFLAGS, _SubvolumeFlags(0), doing="making it writable")
    try:
        doing = "taking chattr +i or +a from a snapshot (CAP_LINUX_IMMUTABLE)"
        libc.ioctl(snapshot, _SET_FLAGS, flags, doing=doing)
    finally:  # else nobody could tell any more that it is a snapshot of ours
        read_only = _SubvolumeFlags(_SUBVOLUME_READ_ONLY)
        libc.ioctl(snapshot, _SUBVOL_SETFLAGS, read_only, doing="making it read-only")


def quota_mode(file_system: str) -> str:
    """Return how a file system counts what subvolumes use: `qgroup`, `squota`; empty if not at all.

    Its directory in /sys is there while quotas are enabled (Linux 5.9), the file since 6.7.
    """
    directory = f"/sys/fs/btrfs/{file_system}/qgroups"
    if not os.path.isdir(directory):
        return ""
    try:
        with open(f"{directory}/mode", encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return "qgroup"


def uuid_text(uuid: ctypes.Array[ctypes.c_ubyte]) -> str:
    """Spell a uuid; the module of that name costs more to import than all of this one."""
    digits = bytes(uuid).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def create_snapshot(source: int, directory: int, name: str) -> None:
    """Take a read-only snapshot of the subvolume whose root is open as `source`.

    Returns when the transaction that holds it has been committed. Raises OSError: ETXTBSY for an
    active swap file, EROFS, ENOSPC, EDQUOT, EXDEV.
    """
    arguments = _SnapshotArguments(fd=source, flags=_SUBVOLUME_READ_ONLY, name=os.fsencode(name))
    libc.ioctl(directory, _SNAP_CREATE_V2, arguments, doing="taking a snapshot")


def delete_subvolume(directory: int, subvolume_id: int) -> None:
    """Delete a subvolume of the file system on which `directory` is open, by id (Linux 5.7).

    The kernel deletes it even while it is mounted or read; nothing but the caller's own checks
    protects a reader.
    """
    arguments = _DestroyArguments(flags=_BY_ID, subvolume_id=subvolume_id)
    libc.ioctl(directory, _SNAP_DESTROY_V2, arguments, doing=f"deleting subvolume {subvolume_id}")


def start_sync(descriptor: int) -> None:
    """Start a commit of what is dirty, and do not wait for it."""
    transaction = _Transaction()
    libc.ioctl(descriptor, _START_SYNC, transaction, doing="starting a commit")


def path_of_inode(descriptor: int, subvolume_id: int, inode: int) -> str:
    """Return the path of a directory from the root of its subvolume; empty for the root."""
    lookup = _LookupArguments(tree_id=subvolume_id, object_id=inode)
    libc.ioctl(descriptor, _INO_LOOKUP, lookup, doing=f"looking up inode {inode}")
    return os.fsdecode(lookup.name).rstrip("/")
