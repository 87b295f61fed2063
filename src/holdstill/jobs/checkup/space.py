"""Room on the file systems that are frozen: for the snapshot, and for what is written meanwhile."""

from __future__ import annotations

import errno
import os

from holdstill.errors import shown
from holdstill.jobs.checkup import remedies
from holdstill.jobs.checkup.finding import About, Check
from holdstill.jobs.checkup.places import mebibytes
from holdstill.linux import btrfs, btrfs_space
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdstill.config.model import Config
    from holdstill.jobs.checkup.finding import Finding
    from holdstill.linux.btrfs_space import Room

NONE_LEFT = 8 << 20
"""Bytes for metadata: with less btrfs refuses new files already (Linux 6.18)."""
LITTLE_LEFT = 16 << 20
_NEARLY_FULL = 100
"""Where less than a hundredth is free."""
_FOR_METADATA = "a snapshot needs room for metadata"


class Space(NamedTuple):
    """What a file system has; sizes in bytes."""

    size: int
    free: int
    """For files, as statfs(2) says."""
    metadata: Room


def spaces(config: Config) -> Iterator[Finding]:
    """Look at each file system once; what is not btrfs, or not there, is the plan's business."""
    seen = set[str]()
    for path in dict.fromkeys(path for job in config.jobs.values() for path in job.paths):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            file_system = btrfs.file_system_uuid(descriptor)
            if file_system not in seen:
                seen.add(file_system)
                yield from judge_space(path, _observed(descriptor))
        except OSError as error:
            if error.errno != errno.ENOTTY:
                yield About(Check.SPACE, shown(path)).error(str(error.strerror), remedies.HUNG)
        finally:
            os.close(descriptor)


def _observed(descriptor: int) -> Space:
    found = os.fstatvfs(descriptor)
    room = btrfs_space.metadata_room(descriptor)
    return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, room)


def judge_space(path: str, space: Space) -> Iterator[Finding]:
    """Judge it: without room for metadata no snapshot; without any, none can write meanwhile."""
    about = About(Check.SPACE, shown(path))
    left, metadata = mebibytes(space.free), mebibytes(space.metadata.total)
    remedy = remedies.METADATA.format(path=shown(path))
    if space.metadata.total < NONE_LEFT:
        yield about.error(f"{metadata} for metadata: {_FOR_METADATA}", remedy)
    elif space.metadata.total < LITTLE_LEFT:
        yield about.warning(f"{metadata} for metadata: {_FOR_METADATA}", remedy)
    elif space.free * _NEARLY_FULL < space.size:
        text = f"{left} left: while a snapshot exists, overwriting a file needs room, too"
        yield about.warning(text, remedies.DATA.format(path=shown(path)))
    else:
        yield about.ok(f"{left} free")
