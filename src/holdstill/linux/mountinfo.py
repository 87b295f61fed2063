r"""/proc/PID/mountinfo (proc_pid_mountinfo(5)) as data.

Names are bytes that others chose: the kernel writes space, tab, newline and backslash as octal
escapes, and `\#` as `\043` at the start of a source; every other byte stands as it is.
"""

from __future__ import annotations

import os
import re

from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DELETED = "//deleted"
"""What a mount's root ends in when the mounted directory has been removed."""


class Mount(NamedTuple):
    """A row of mountinfo."""

    id: int
    parent_id: int
    device: str
    """major:minor of the file system; for btrfs not the st_dev of its files."""
    root: str
    """The directory of the file system that is mounted, from its top level."""
    mount_point: str
    options: tuple[str, ...]
    fs_type: str
    source: str
    """What was mounted: for btrfs one of its block devices."""
    super_options: tuple[str, ...]

    @property
    def subvolume_id(self) -> int | None:
        """Id of the btrfs subvolume that is mounted; None for another file system."""
        ids = (option[9:] for option in self.super_options if option.startswith("subvolid="))
        return next((int(number) for number in ids), None)

    @property
    def read_only_file_system(self) -> bool:
        """Whether the whole file system refuses writes, not only this mount."""
        return "ro" in self.super_options


def parse(text: bytes) -> tuple[Mount, ...]:
    """Parse mountinfo; raises ValueError on a line that proc_pid_mountinfo(5) does not allow."""
    return tuple(_mount(line) for line in text.split(b"\n") if line)


def _mount(line: bytes) -> Mount:
    fields = line.split(b" ")
    try:
        separator = fields.index(b"-", 6)
        fs_type, source, super_options = fields[separator + 1 : separator + 4]
        return Mount(
            id=int(fields[0]),
            parent_id=int(fields[1]),
            device=unescaped(fields[2]),
            root=unescaped(fields[3]),
            mount_point=unescaped(fields[4]),
            options=tuple(unescaped(fields[5]).split(",")),
            fs_type=unescaped(fs_type),
            source=unescaped(source),
            super_options=tuple(unescaped(super_options).split(",")),
        )
    except (ValueError, IndexError):
        message = f"not a line of mountinfo: {line!r}"
        raise ValueError(message) from None


def unescaped(field: bytes) -> str:
    """Undo the kernel's octal escapes, which /proc/swaps uses, too (seq_file_path)."""
    if b"\\" in field:
        field = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), field)
    return os.fsdecode(field)


def read() -> tuple[Mount, ...]:
    """Return the mounts of this process's namespace that its root can see."""
    with open("/proc/self/mountinfo", "rb") as file:
        return parse(file.read())


def read_from(descriptor: int) -> tuple[Mount, ...]:
    """Return the mounts, as they are now, of the namespace whose mountinfo is open.

    An open mountinfo keeps its namespace alive (fs/proc_namespace.c takes a reference), so this
    works, too, when every process in it has ended.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    chunks = []
    while chunk := os.read(descriptor, 1 << 16):
        chunks.append(chunk)
    return parse(b"".join(chunks))


def mount_id(descriptor: int) -> int:
    """Return the id of the mount that an open file was reached through.

    Path prefixes cannot tell: mounts stack, hide each other, and names change.
    """
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="utf-8") as file:
        facts = dict(line.split(":", 1) for line in file)
    return int(facts["mnt_id"])


def visible_below(top: Mount, mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """Return the mounts that a walk from the root of `top` comes to, parents before children.

    Not those that others cover: a mount on the same place, or on a directory above it.
    """
    children: dict[int, list[Mount]] = {}
    for mount in mounts:
        if mount.id != mount.parent_id:
            children.setdefault(mount.parent_id, []).append(mount)
    found: list[Mount] = []
    waiting = [top]
    while waiting:
        mount = waiting.pop()
        inner = children.get(mount.id, [])
        covering = [one for one in inner if one.mount_point == mount.mount_point]
        if covering and mount is not top:
            waiting.append(covering[-1])
            continue
        if mount is not top:
            found.append(mount)
        places = {one.mount_point for one in inner}
        waiting += [one for one in inner if places.isdisjoint(_above(one.mount_point, mount))]
    return tuple(sorted(found, key=lambda one: one.mount_point))


def _above(path: str, mount: Mount) -> Iterator[str]:
    """Yield the directories above a path, up to the root of a mount; that, too, if it is it."""
    if path == mount.mount_point:
        yield path  # on top of the mount itself
    while is_below(path := path.rpartition("/")[0] or "/", mount.mount_point):
        yield path


def is_below(path: str, directory: str) -> bool:
    """Whether `path` lies inside `directory`, which itself does not count."""
    return path != directory and path.startswith(directory.rstrip("/") + "/")


def above(path: str) -> Iterator[str]:
    """Yield the directories that an absolute path lies in, the nearest first."""
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def is_within(path: str, directory: str) -> bool:
    """Whether `path` is `directory`, or lies inside it."""
    return path == directory or is_below(path, directory)
