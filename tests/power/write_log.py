"""What is left on a disk whose power was cut.

A disk has a cache of its own: what was written is safe once a flush that began later has ended, and
until then any part of it may be on the medium or not, in any order. QEMU writes all that a guest
sends down into a log (its driver `blklogwrites`, in the format of the kernel's log-writes target,
Documentation/admin-guide/device-mapper/log-writes.rst). `lose_power` makes of the disk as it was
before, and of that log, one disk that may have been left: everything up to the last flush, and of
what came later a part.
"""

from __future__ import annotations

import os
import struct
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

_SUPER = struct.Struct("<QQQI")
_MAGIC = 0x6A736677736872
_ENTRY = struct.Struct("<QQQQ")
_FLUSH, _DISCARD = 1, 4
ATOM = 4096
"""Bytes that a disk writes wholly or not at all: a physical sector."""


class Write(NamedTuple):
    """Data that a guest wrote at an offset of its disk, in bytes."""

    offset: int
    data: bytes


class Loss(NamedTuple):
    """What became of the writes that no flush had made safe."""

    kept: int
    lost: int
    torn: int


class Log(NamedTuple):
    """What was sent to a disk."""

    safe: list[Write]
    """In their order, up to the last flush."""
    pending: list[Write]
    """What came later."""
    is_whole: bool
    """Whether nothing is missing up to the last flush.

    QEMU appends several entries at once, and its end can leave a gap between them.
    """


def lose_power(image: str, log: str, chance: random.Random) -> Loss | None:
    """Bring a disk's image, as it was when its log began, to what a cut has left.

    Returns None, and leaves the image alone, if the log has a gap.
    """
    safe, pending, is_whole = _read(log)
    if not is_whole:
        return None
    disk = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        for write in safe:
            os.pwrite(disk, write.data, write.offset)
        return _settle(disk, pending, chance)
    finally:
        os.close(disk)


def _read(log: str) -> Log:
    safe: list[Write] = []
    pending: list[Write] = []
    with open(log, "rb") as file:
        if not (start := file.read(_SUPER.size)):
            return Log([], [], is_whole=True)
        magic, _, announced, sector = _SUPER.unpack(start)
        assert magic == _MAGIC, f"{log} is no log of writes"
        file.seek(sector)
        count = 0
        for count, (write, is_flush) in enumerate(_entries(file, sector), 1):  # noqa: B007
            if write.data:
                pending.append(write)
            if is_flush:
                safe += pending
                pending.clear()
    # The number of entries is written at each flush.
    return Log(safe, pending, is_whole=count >= announced)


def _entries(file: IO[bytes], sector: int) -> Iterator[tuple[Write, bool]]:
    """Yield the writes, and whether each is a flush, up to what QEMU was about to append."""
    while len(head := file.read(sector)) == sector and any(head[: _ENTRY.size]):
        first, count, flags, _ = _ENTRY.unpack_from(head)
        assert not flags & _DISCARD, "nothing in the guest discards"
        data = file.read(count * sector)
        if len(data) < count * sector:
            return
        yield Write(first * sector, data), bool(flags & _FLUSH)


def _settle(disk: int, pending: list[Write], chance: random.Random) -> Loss:
    """Write a part of what was pending: a share that differs from cut to cut, torn at one place."""
    share = chance.choice((0.0, 0.5, 0.9))
    kept = [write for write in pending if chance.random() < share]
    torn = [write for write in kept if len(write.data) > ATOM and chance.random() < share / 4]
    for write in kept:
        data = write.data
        if write in torn:
            data = data[: ATOM * chance.randrange(1, len(data) // ATOM + 1)]
        os.pwrite(disk, data, write.offset)
    return Loss(len(kept) - len(torn), len(pending) - len(kept), len(torn))
