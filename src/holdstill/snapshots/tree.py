"""How the subvolumes of a file system lie in each other: pure, from what the root tree says."""

from __future__ import annotations

import os

from holdstill.errors import SourceError, shown
from holdstill.linux.mountinfo import is_below
from holdstill.snapshots.model import Nested, Subvolume
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from holdstill.linux.btrfs_tree import Entry
    from holdstill.snapshots.model import Layer


class Tree(NamedTuple):
    """The subvolumes of one file system."""

    file_system: str
    """Its uuid."""
    device: str
    inside: Mapping[int, tuple[Entry, ...]]
    """What lies directly in each subvolume, sorted by path."""
    entries: Mapping[int, Entry]

    def subvolume(self, number: int) -> Subvolume:
        """Return a subvolume by its id; raises SourceError if it has been deleted."""
        entry = self.entries.get(number)
        if entry is None:
            message = f"subvolume {number} of {shown(self.device)} has been deleted"
            raise SourceError(message, remedy="unmount it, if it is still mounted")
        return Subvolume(self.file_system, self.device, number, entry.uuid, self._path(entry))

    def _path(self, entry: Entry) -> str:
        names = [entry.path]
        while entry.inside:
            entry = self.entries[entry.inside]
            names.append(entry.path)
        return "/".join(name for name in reversed(names) if name)

    def nested(self, layer: Layer) -> Iterator[Nested]:
        """Yield all subvolumes that show below a layer, each after the one that it lies in."""
        for entry in self.inside.get(layer.subvolume.id, ()):
            if not (layer.directory and entry.path) or is_below(entry.path, layer.directory):
                path = entry.path.removeprefix(layer.directory).lstrip("/")
                yield from self._with_nested(entry, os.path.join(layer.target, path))

    def _with_nested(self, first: Entry, place: str) -> Iterator[Nested]:
        waiting = [(first, place)]  # no recursion: they may lie in each other by the thousand
        while waiting:
            entry, path = waiting.pop()
            if not entry.path:
                message = f"subvolume {entry.id} of {shown(self.device)} lies too deep to be found"
                remedy = f"move it up: it is somewhere below {shown(path)}"
                raise SourceError(message, remedy=remedy)
            yield Nested(
                path=path,
                subvolume=self.subvolume(entry.id),
                snapshot_of=entry.parent_uuid if entry.read_only else "",
            )
            inner = reversed(self.inside.get(entry.id, ()))
            waiting += [(one, f"{path}/{one.path}") for one in inner]


def tree(file_system: str, device: str, entries: Mapping[int, Entry]) -> Tree:
    """Sort the subvolumes of a file system by where they lie."""
    inside: dict[int, list[Entry]] = {}
    for entry in sorted(entries.values(), key=lambda entry: entry.path):
        inside.setdefault(entry.inside, []).append(entry)
    return Tree(file_system, device, {k: tuple(v) for k, v in inside.items()}, entries)
