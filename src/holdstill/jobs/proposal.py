"""What of a machine could be backed up: pure, from its mounts and what freezing them would meet."""

from __future__ import annotations

import re

from holdstill.config.rules import LONGEST_NAME
from holdstill.errors import SourceError, shown
from holdstill.linux.mountinfo import is_below, is_within
from holdstill.scope import Hidden, keeper_of
from holdstill.snapshots.notes import Kind
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from holdstill.linux.mountinfo import Mount
    from holdstill.scope import FreezePlan
    from holdstill.snapshots.notes import Note

_SYSTEM = ("/proc", "/sys", "/dev", "/run")
_REMOVABLE = "where removable disks are mounted"
_BY_HAND = "name it as a path to back it up"


class ProposedJob(NamedTuple):
    """Paths that can be frozen together."""

    name: str
    paths: tuple[str, ...]
    nested_exclude: tuple[str, ...] = ()


class Proposal(NamedTuple):
    """A job for each file system, so that all of its subvolumes have one instant."""

    jobs: tuple[ProposedJob, ...]
    left_out: tuple[Hidden, ...]


def propose(mounts: Sequence[Mount], repository: str | None) -> Proposal:
    """Choose among the mounts that can be seen; `repository` is the directory of a local one."""
    left_out = {one.path: one for one in _without_snapshots(mounts)}
    found = [mount for mount in mounts if mount.fs_type == "btrfs"]
    chosen = sorted(found, key=lambda one: (one.mount_point.count("/"), one.mount_point))
    for why_not in (_unfit, _twice, _top_level, _inside, _holder_of(repository, mounts)):
        for mount in tuple(chosen):
            if reason := why_not(mount, chosen):
                chosen.remove(mount)
                left_out[mount.mount_point] = Hidden(mount.mount_point, *reason)
    chosen = [mount for mount in chosen if not _is_nested(mount, chosen)]
    return Proposal(tuple(_jobs(chosen)), tuple(left_out[path] for path in sorted(left_out)))


_Reason = tuple[str, str]
"""Why a mount is not proposed, and what could be done about it."""


def _unfit(mount: Mount, _: Sequence[Mount]) -> _Reason | None:
    if any(is_within(mount.mount_point, directory) for directory in _SYSTEM):
        return _REMOVABLE, _BY_HAND
    if mount.read_only_file_system:
        return "the file system is read-only: it takes no snapshot", ""
    kept = keeper_of(mount.mount_point)
    return (kept, _BY_HAND) if kept else None


def _twice(mount: Mount, chosen: Sequence[Mount]) -> _Reason | None:
    """Leave out what is mounted at a shorter path, too."""
    for other in _beside(mount, chosen):
        if other.root == mount.root and chosen.index(other) < chosen.index(mount):
            return f"the same as {shown(other.mount_point)}", ""
    return None


def _top_level(mount: Mount, chosen: Sequence[Mount]) -> _Reason | None:
    """Leave out what is mounted to manage the subvolumes, which are mounted elsewhere."""
    places = [one.mount_point for one in _beside(mount, chosen) if not _is_nested(one, [mount])]
    if mount.root != "/" or mount.mount_point == "/" or not places:
        return None
    names = ", ".join(map(shown, places))
    return f"the top level of the file system, whose subvolumes are mounted at {names}", _BY_HAND


def _inside(mount: Mount, chosen: Sequence[Mount]) -> _Reason | None:
    """Leave out what can be seen in another mount, at another place."""
    for other in _beside(mount, chosen):
        place = _place_in(other, mount)
        if place not in {"", mount.mount_point} and nearest(place, chosen) == other:
            return f"the same as {shown(place)}", ""
    return None


def _holder_of(
    repository: str | None, mounts: Sequence[Mount]
) -> Callable[[Mount, Sequence[Mount]], _Reason | None]:
    home = None if repository is None else nearest(repository, mounts)

    def holds(mount: Mount, chosen: Sequence[Mount]) -> _Reason | None:
        if mount == home and mount.mount_point != "/" and len(chosen) > 1:
            return "the repository lies there", _BY_HAND
        return None

    return holds


def _beside(mount: Mount, chosen: Sequence[Mount]) -> list[Mount]:
    """Return the other mounts of a mount's file system."""
    return [one for one in chosen if one.device == mount.device and one is not mount]


def _place_in(outer: Mount, mount: Mount) -> str:
    """Return where a mount of the same file system shows what another one does; or nothing."""
    if not is_below(mount.root, outer.root):
        return ""
    return outer.mount_point.rstrip("/") + mount.root.removeprefix(outer.root.rstrip("/"))


def _is_nested(mount: Mount, chosen: Sequence[Mount]) -> bool:
    """Whether another mount shows the same at the same place, as a part of its own."""
    return any(_place_in(other, mount) == mount.mount_point for other in _beside(mount, chosen))


def nearest(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """Return the mount that a path lies on, as far as names tell."""
    around = [mount for mount in mounts if is_within(path, mount.mount_point)]
    return max(around, key=lambda one: len(one.mount_point), default=None)


def _without_snapshots(mounts: Sequence[Mount]) -> Iterator[Hidden]:
    """Yield the disks of other file systems, each where it is mounted first."""
    devices: set[str] = set()
    for mount in mounts:
        is_disk = mount.source.startswith("/dev/") and mount.fs_type != "squashfs"
        if is_disk and mount.fs_type != "btrfs" and mount.device not in devices:
            devices.add(mount.device)
            yield Hidden(mount.mount_point, f"{mount.fs_type}, which has no snapshots", "")


def _jobs(chosen: Sequence[Mount]) -> Iterator[ProposedJob]:
    by_device: dict[str, list[str]] = {}
    for mount in chosen:
        by_device.setdefault(mount.device, []).append(mount.mount_point)
    names: set[str] = set()
    for paths in by_device.values():
        names.add(name := job_name(paths[0], names))
        yield ProposedJob(name, tuple(paths))


def job_name(path: str, taken: Collection[str] = ()) -> str:
    """Return a name for the job of a path, other than those that are taken."""
    word = re.sub("[^A-Za-z0-9._@-]+", "-", path.rpartition("/")[2]).strip("._@-")
    word = ("system" if path == "/" else word)[: LONGEST_NAME - 8] or "data"
    numbered = (f"{word}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (word, *numbered) if name not in taken)


def swap_places(plan: FreezePlan, notes: Sequence[Note]) -> Iterator[str]:
    """Yield where the nested subvolumes are that no snapshot can be taken of.

    Raises SourceError where that is a subvolume which a path needs.
    """
    for note in notes:
        if note.kind is Kind.SWAP_FILE and note.is_fatal:
            around = [one.target for one in plan.layers if is_within(note.path, one.target)]
            place = max(around, key=len, default="")
            if any(layer.target == place for one in plan.sources for layer in one.layers):
                raise SourceError(f"{shown(note.path)}: {note.text}", remedy=note.remedy)
            yield place
