"""A temporary disk to measure on, in a mount namespace of this process: all of it vanishes with it.

The disk's image is a file without a name and its loop device frees itself, so nothing can be left
behind, however the benchmark ends.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass

from bench.process import tool
from holdstill.demo.disk import place, search_path
from holdstill.linux import loop, mounts

FILE_BYTES = 1000
FILES_IN_A_DIRECTORY = 1000

_IMAGE_BYTES = 16 << 30
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True, slots=True)
class Source:
    """A subvolume that is mounted, as the script wants it."""

    name: str
    subvolume: str
    path: str


@dataclass(frozen=True, slots=True)
class Stage:
    """The mounted disk. restic records the directories above a source, too: see `elsewhere`."""

    device: str
    top: str
    """Where its top level is mounted: repositories and caches lie there, too."""
    root: str
    """A small file system in memory that holds the mount points and what else is written."""

    @property
    def elsewhere(self) -> str:
        """A directory for mount points that come later, and may not touch the ones above."""
        return f"{self.root}/elsewhere"

    def source(self, name: str, files: int) -> Source:
        """Make a subvolume with so many small files, and mount it."""
        source = Source(name, f"@{name}", f"{self.root}/{name}")
        tool("btrfs", "subvolume", "create", f"{self.top}/{source.subvolume}")
        os.mkdir(source.path)
        tool("mount", "-t", "btrfs", "-o", f"subvol={source.subvolume}", self.device, source.path)
        fill(source.path, files)
        return source

    def nest(self, source: Source, count: int) -> None:
        """Make so many subvolumes inside a source."""
        for number in range(count):
            tool("btrfs", "subvolume", "create", f"{source.path}/{number:04}")


def stage() -> Stage:
    """Make the disk and mount it; raises OSError where this machine does not allow it."""
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    root = place([sys.executable, sys.prefix, checkout, tempfile.gettempdir()])
    os.environ["PATH"] = search_path(os.environ)
    mounts.enter_private_namespace()
    tool("mount", "-t", "tmpfs", "-o", "mode=0755", "bench", root)
    made = Stage(device=_mounted_disk(f"{root}/top"), top=f"{root}/top", root=root)
    os.mkdir(f"{made.top}/repositories")
    os.mkdir(made.elsewhere)
    return made


def _mounted_disk(top: str) -> str:
    with tempfile.TemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp")) as image:  # noqa: S108 - on a disk, unlike /tmp
        os.truncate(image.fileno(), _IMAGE_BYTES)
        descriptor, device = loop.attach(image.fileno())
    try:
        tool("mkfs.btrfs", "--quiet", "--force", "--metadata", "single", device)
        os.mkdir(top)
        tool("mount", "-t", "btrfs", device, top)
    finally:
        os.close(descriptor)  # from here on the mounts alone keep the device
    return device


def fill(path: str, files: int) -> None:
    """Write small files, no two alike, a thousand in a directory."""
    for first in range(0, files, FILES_IN_A_DIRECTORY):
        directory = f"{path}/{first // FILES_IN_A_DIRECTORY:04}"
        os.mkdir(directory)
        descriptor = os.open(directory, _DIRECTORY)
        for number in range(first, min(first + FILES_IN_A_DIRECTORY, files)):
            _write(descriptor, number)
        os.close(descriptor)
    tool("sync", "--file-system", path)


def _write(directory: int, number: int) -> None:
    descriptor = os.open(f"{number:06}", _NEW_FILE, 0o644, dir_fd=directory)
    os.write(descriptor, (b"%d " % number).ljust(FILE_BYTES, b"."))
    os.close(descriptor)
