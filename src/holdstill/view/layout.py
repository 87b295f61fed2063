"""What a view is made of, as data: decided before anything is mounted."""

from __future__ import annotations

from holdstill.linux.mountinfo import above, is_within
from holdstill.tuples import NamedTuple


class FrozenMount(NamedTuple):
    """A snapshot, or a directory in one, that covers a path."""

    target: str
    device: str
    subvolume_id: int
    directory: str
    """What of the snapshot is shown, from its root; empty for all of it."""


class Layout(NamedTuple):
    """All that a view shows otherwise than the host."""

    paths: tuple[str, ...]
    """The sources: each must show a snapshot."""
    frozen: tuple[FrozenMount, ...]
    """Parents before children."""
    live: tuple[str, ...]
    """Paths that stay live and writable, though a frozen one may cover them."""
    outside: tuple[str, ...]
    """Other mounts and subvolumes that no source contains, where they still are: live, too."""
    working_directory: str

    @property
    def has_own_root(self) -> bool:
        """Whether the root directory itself is frozen."""
        return any(mount.target == "/" for mount in self.frozen)

    @property
    def carriers(self) -> tuple[str, ...]:
        """The live directories that the view's mounts hang from: whoever renames one moves them."""
        targets = {mount.target for mount in self.frozen}
        top = [target for target in targets if targets.isdisjoint(above(target))]
        found = {directory for target in top for directory in (target, *above(target))}
        return tuple(sorted(found - {"/"}))


def live_below(paths: tuple[str, ...], frozen: tuple[FrozenMount, ...]) -> tuple[str, ...]:
    """Return those paths that a frozen mount would cover."""
    return tuple(
        path
        for path in dict.fromkeys(paths)
        if any(is_within(path, mount.target) for mount in frozen)
    )
