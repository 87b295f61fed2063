"""All subvolumes of a btrfs file system, read from its root tree (BTRFS_IOC_TREE_SEARCH_V2).

Where each lies, what it is and whose snapshot it is, without opening one of them: a mount that
covers a subvolume, or a permission, hides nothing here.
"""

from __future__ import annotations

import ctypes
import errno
import os

from holdstill.linux import libc
from holdstill.linux.btrfs import READ, TOP_LEVEL, WRITE, path_of_inode, request, uuid_text
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# <linux/btrfs_tree.h>
_ROOT_TREE = 1
_ROOT_ITEM = 132
_ROOT_REF = 156
_FIRST_SUBVOLUME = 256
_LAST_SUBVOLUME = (1 << 64) - 256 - 1
_U64_MAX = (1 << 64) - 1
_READ_ONLY = 1 << 0
_BUFFER_SIZE = 1 << 16
_LOOKS = 20
"""At a list that others change meanwhile."""


class _SearchKey(ctypes.Structure):
    """struct btrfs_ioctl_search_key."""

    _fields_ = (
        ("tree_id", ctypes.c_uint64),
        ("min_object_id", ctypes.c_uint64),
        ("max_object_id", ctypes.c_uint64),
        ("min_offset", ctypes.c_uint64),
        ("max_offset", ctypes.c_uint64),
        ("min_transid", ctypes.c_uint64),
        ("max_transid", ctypes.c_uint64),
        ("min_type", ctypes.c_uint32),
        ("max_type", ctypes.c_uint32),
        ("items", ctypes.c_uint32),
        ("unused", ctypes.c_uint32 * 9),
    )


class _Search(ctypes.Structure):
    """struct btrfs_ioctl_search_args_v2, without its buffer."""

    _fields_ = (("key", _SearchKey), ("buffer_size", ctypes.c_uint64))


class _SearchWithBuffer(ctypes.Structure):
    _fields_ = (("head", _Search), ("buffer", ctypes.c_char * _BUFFER_SIZE))


class _Header(ctypes.Structure):
    """struct btrfs_ioctl_search_header."""

    _fields_ = (
        ("transid", ctypes.c_uint64),
        ("object_id", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("type", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


class _RootReference(ctypes.LittleEndianStructure):
    """struct btrfs_root_ref; the name follows."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (
        ("directory_id", ctypes.c_uint64),
        ("sequence", ctypes.c_uint64),
        ("name_length", ctypes.c_uint16),
    )


class _RootItem(ctypes.LittleEndianStructure):
    """struct btrfs_root_item as far as it is used here."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (
        ("inode", ctypes.c_ubyte * 160),
        ("generation", ctypes.c_uint64),
        ("before_flags", ctypes.c_uint64 * 5),
        ("flags", ctypes.c_uint64),
        ("before_uuid", ctypes.c_ubyte * 31),
        ("uuid", ctypes.c_ubyte * 16),
        ("parent_uuid", ctypes.c_ubyte * 16),
    )


_TREE_SEARCH_V2 = request(17, _Search, 112, READ | WRITE)
if (_RootItem.uuid.offset, ctypes.sizeof(_RootItem)) != (247, 279):
    raise AssertionError("struct btrfs_root_item has another layout")


class Entry(NamedTuple):
    """A subvolume, as the root tree knows it."""

    id: int
    uuid: str
    parent_uuid: str
    """Of what it is a snapshot of; empty where it is none."""
    read_only: bool
    inside: int
    """Id of the subvolume that it lies in; 0 for the top level."""
    path: str
    """From the root of that subvolume; empty where it is longer than the kernel tells."""


def subvolumes(descriptor: int) -> dict[int, Entry]:
    """Return every subvolume of the file system that a file is open on, by id.

    One that is being deleted has no place any more and is left out. Raises OSError (EPERM without
    CAP_SYS_ADMIN).
    """
    for _ in range(_LOOKS - 1):
        try:
            return _read(descriptor)
        except FileNotFoundError:  # a directory went meanwhile, with the subvolume in it
            continue
    return _read(descriptor)


def _read(descriptor: int) -> dict[int, Entry]:
    roots: dict[int, _RootItem] = {}
    places: dict[int, tuple[int, int, bytes]] = {}
    for header, item in _items(descriptor):
        if header.type == _ROOT_ITEM:
            # Before Linux 3.6 it was shorter, and ended before the uuids.
            roots[header.object_id] = _RootItem.from_buffer_copy(
                item.ljust(ctypes.sizeof(_RootItem), b"\0")
            )
        elif header.type == _ROOT_REF:
            places[header.offset] = (header.object_id, *_reference(item))
    entries = {
        number: _entry(descriptor, number, root, places.get(number))
        for number, root in roots.items()
        if number in places or number == TOP_LEVEL
    }
    if any(entry.inside and entry.inside not in entries for entry in entries.values()):
        raise FileNotFoundError(errno.ENOENT, "a subvolume went while they were listed")
    return entries


def _entry(
    descriptor: int, number: int, root: _RootItem, place: tuple[int, int, bytes] | None
) -> Entry:
    inside, path = 0, ""
    if place is not None:
        inside, directory_id, name = place
        path = _place(descriptor, inside, directory_id, name)
    return Entry(
        id=number,
        uuid=uuid_text(root.uuid),
        parent_uuid=uuid_text(root.parent_uuid) if any(root.parent_uuid) else "",
        read_only=bool(root.flags & _READ_ONLY),
        inside=inside,
        path=path,
    )


def _place(descriptor: int, inside: int, directory_id: int, name: bytes) -> str:
    try:
        directory = path_of_inode(descriptor, inside, directory_id)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return ""  # anybody may make such a one: it matters only to those who need its path
    return f"{directory}/{os.fsdecode(name)}".lstrip("/")


def _reference(item: bytes) -> tuple[int, bytes]:
    reference = _RootReference.from_buffer_copy(item)
    name = item[ctypes.sizeof(reference) :][: reference.name_length]
    return reference.directory_id, name


def _items(descriptor: int) -> Iterator[tuple[_Header, bytes]]:
    """Yield the items of the root tree that belong to subvolumes, in the order of their keys."""
    first = (TOP_LEVEL, 0, 0)
    while True:
        search = _SearchWithBuffer()
        search.head.buffer_size = _BUFFER_SIZE
        search.head.key = _key(first)
        libc.ioctl(descriptor, _TREE_SEARCH_V2, search, doing="reading the list of subvolumes")
        if search.head.key.items == 0:
            return
        data = bytes(search)[_SearchWithBuffer.buffer.offset :]
        last = None
        for last, item in _unpacked(data, search.head.key.items):
            yield last, item
        if last is not None:
            first = (last.object_id, last.type, last.offset + 1)


def _key(first: tuple[int, int, int]) -> _SearchKey:
    return _SearchKey(
        tree_id=_ROOT_TREE,
        min_object_id=first[0],
        min_type=first[1],
        min_offset=first[2],
        max_object_id=_LAST_SUBVOLUME,
        max_type=_ROOT_REF,
        max_offset=_U64_MAX,
        max_transid=_U64_MAX,
        items=(1 << 32) - 1,
    )


def _unpacked(data: bytes, count: int) -> Iterator[tuple[_Header, bytes]]:
    position = 0
    for _ in range(count):
        header = _Header.from_buffer_copy(data, position)
        position += ctypes.sizeof(header)
        yield header, data[position : position + header.length]
        position += header.length
