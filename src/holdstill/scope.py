"""What of the sources is frozen, what is left out, and why: pure, printed and executed alike."""

from __future__ import annotations

from enum import StrEnum

from holdstill.errors import SourceError, shown
from holdstill.linux.btrfs import TOP_LEVEL
from holdstill.linux.mountinfo import above, is_below, is_within
from holdstill.snapshots.model import Layer
from holdstill.snapshots.staging import DIRECTORY
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdstill.linux.mountinfo import Mount
    from holdstill.snapshots.model import Nested, Source, Subvolume

_BRING_IN = "name it in nested-include to freeze it"
_INCLUDE_MOUNT = 'submounts = "include" freezes it'
_INCLUDE_KEPT_MOUNT = 'submounts = "include" freezes it, if nested-include names it'
_REMOTE = ("nfs", "cifs", "smb3", "9p", "ceph", "afs", "autofs", "fuse.")
"""File systems, by the beginning of their names, that a dead server may make wait for ever."""
SYSTEM = "the running system's own"
"""Why what every program needs stays live."""
_SYSTEM_DIRECTORIES = ("/proc", "/sys", "/dev", "/run")
_KEEPERS = {
    ".snapshots": "snapshots that snapper keeps",
    "timeshift-btrfs": "snapshots that Timeshift keeps",
    "docker/btrfs/subvolumes": "a layer of Docker's images",
    "containers/storage/btrfs/subvolumes": "a layer of Podman's images",
}
"""Where others keep subvolumes by the hundred, and what those are."""


class Submounts(StrEnum):
    """What becomes of other mounts below a source."""

    LEAVE_OUT = "leave-out"
    INCLUDE = "include"
    """Those of btrfs are frozen with it; others are left out."""
    REQUIRE = "require"
    """The same, and it is an error if another one is there."""


class Wishes(NamedTuple):
    """What the user says about what lies below a source and is not part of its subvolume."""

    submounts: Submounts = Submounts.LEAVE_OUT
    nested: bool = True
    """Whether nested subvolumes are frozen with it."""
    leave_out: tuple[str, ...] = ()
    """Paths that are not, with all below them."""
    include: tuple[str, ...] = ()
    """Paths that are, whatever else is said, with all below them."""


class Hidden(NamedTuple):
    """Something live that the view does not show."""

    path: str
    reason: str
    remedy: str
    """How it would be included; empty where it cannot be."""
    is_stub: bool = False
    """Whether the view shows an empty directory there whose timestamps change with every look."""
    is_kept: bool = False
    """Whether another program keeps its snapshots there."""
    is_remote: bool = False
    """Whether to look at it may wait for somebody else's machine or program."""
    is_system: bool = False
    """Whether it is the kernel's or the running system's own, which nobody expects in a backup."""


class FreezePlan(NamedTuple):
    """What will be frozen and where it will show."""

    paths: tuple[str, ...]
    """What the user named, and restic records."""
    sources: tuple[Source, ...]
    """The same, and the mounts below that are frozen with them."""
    wishes: Wishes
    layers: tuple[Layer, ...]
    """What covers what, parents before children."""
    hidden: tuple[Hidden, ...]
    staging: tuple[str, ...]
    """Where the staging directory shows, below a source or beside it, if the top level does."""

    @property
    def subvolumes(self) -> tuple[Subvolume, ...]:
        """Each subvolume once."""
        return tuple(dict.fromkeys(layer.subvolume for layer in self.layers))

    @property
    def devices(self) -> dict[str, str]:
        """One device for each file system, by its uuid."""
        return {s.file_system: s.device for s in reversed(self.subvolumes)}

    @property
    def system_directories(self) -> tuple[str, ...]:
        """What stays live where the root itself is frozen: programs do not run without."""
        if not any(layer.target == "/" for layer in self.layers):
            return ()
        mounted = {hidden.path for hidden in self.hidden}
        return tuple(path for path in _SYSTEM_DIRECTORIES if path in mounted)

    @property
    def outside(self) -> tuple[str, ...]:
        """What a snapshot of a source's mount would hide though no path contains it."""
        return tuple(
            hidden.path
            for hidden in self.hidden
            if not self.contains(hidden.path) and not hidden.is_remote
        )

    @property
    def stubs(self) -> tuple[Hidden, ...]:
        """The subvolumes that snapshots show as empty directories."""
        return tuple(hidden for hidden in self.hidden if hidden.is_stub)

    @property
    def left_out(self) -> tuple[Hidden, ...]:
        """What lies below a source and is not in the view."""
        return tuple(hidden for hidden in self.hidden if self.contains(hidden.path))

    def contains(self, path: str) -> bool:
        """Whether a path lies in a source, or is one."""
        return any(is_within(path, source) for source in self.paths)

    def covers(self, path: str) -> bool:
        """Whether a snapshot would hide what is live at a path."""
        return any(is_within(path, layer.target) for layer in self.layers)


def mounts_to_include(sources: Sequence[Source], wishes: Wishes) -> tuple[Mount, ...]:
    """Return the mounts below the sources that are to be frozen like sources of their own.

    None that lies below a mount which is left out: the view has no place to show it at.
    """
    if wishes.submounts is Submounts.LEAVE_OUT:
        return ()
    known = {source.mount.id for source in sources}
    found: dict[int, Mount] = {}
    for source in sources:
        left_out: list[str] = []
        for mount in source.submounts:
            if any(is_below(mount.mount_point, path) for path in left_out):
                continue
            if not _is_wanted(mount, sources, wishes):
                left_out.append(mount.mount_point)
            elif mount.id not in known and is_below(mount.mount_point, source.path):
                found[mount.id] = mount
    return tuple(found.values())


def _is_wanted(mount: Mount, sources: Sequence[Source], wishes: Wishes) -> bool:
    kept = _kept(mount.mount_point, sources) and not _is_included(mount.mount_point, wishes)
    return _can_be_included(mount) and not kept and not _is_excluded(mount.mount_point, wishes)


def _can_be_included(mount: Mount) -> bool:
    return mount.fs_type == "btrfs" and not mount.read_only_file_system


def _is_excluded(path: str, wishes: Wishes) -> bool:
    return any(is_within(path, excluded) for excluded in wishes.leave_out)


def _is_included(path: str, wishes: Wishes) -> bool:
    """Whether nested-include names a path, or one in it: that can only be shown in it."""
    return any(is_within(path, named) or is_below(named, path) for named in wishes.include)


def refuse_missing(plan: FreezePlan) -> None:
    """Raise SourceError for a mount that is left out though none may be."""
    missing = [
        hidden
        for hidden in plan.left_out
        if not (hidden.is_stub or hidden.is_system or hidden.is_kept)
        and not _is_excluded(hidden.path, plan.wishes)
    ]
    if plan.wishes.submounts is Submounts.REQUIRE and missing:
        names = ", ".join(f"{shown(hidden.path)}: {hidden.reason}" for hidden in missing)
        raise SourceError(
            f'submounts = "require", and not everything below the paths can be frozen: {names}',
            remedy="unmount it, or name it in nested-exclude to leave it out knowingly",
        )


def unmatched(plan: FreezePlan) -> Iterator[str]:
    """Yield a warning for each wish that speaks of nothing below the sources: a typo, perhaps."""
    below = {nested.path for source in plan.sources for nested in source.nested}
    below |= {mount.mount_point for mount in _submounts(plan.sources)}
    below = set(filter(plan.contains, below))
    left_out = [hidden.path for hidden in plan.left_out]
    for path in plan.wishes.leave_out:
        # What lies in something that is left out is not known, and left out with it.
        if not any(is_within(path, one) for one in left_out):
            yield from _unmatched("nested-exclude", path, below)
    for path in plan.wishes.include:
        yield from _unmatched("nested-include", path, below)


def _unmatched(key: str, path: str, below: set[str]) -> Iterator[str]:
    if not any(is_within(one, path) for one in below):
        yield f"{key}: no subvolume or mount below the paths is at or in {shown(path)}"


def assemble(paths: Sequence[str], sources: Sequence[Source], wishes: Wishes) -> FreezePlan:
    """Decide what is frozen for the sources together; `paths` are those the user named."""
    layers = {layer.target: layer for source in sources for layer in source.layers}
    staging = tuple(sorted({path for source in sources for path in staging_in(source)}))
    originals = _originals(sources)
    hidden: dict[str, Hidden] = {}
    for source in sources:
        for nested in _visible(source, sources):
            if nested.path not in layers and not _is_part_of(nested.path, hidden, staging):
                reason, remedy = _why_not(nested, sources, wishes, originals)
                if reason:
                    hidden[nested.path] = Hidden(nested.path, reason, remedy, is_stub=True)
                else:
                    layers[nested.path] = Layer(nested.path, nested.subvolume, "")
    for mount in _hidden_mounts(sources, layers, wishes):
        hidden[mount.path] = mount
    return FreezePlan(
        paths=tuple(paths),
        sources=tuple(sources),
        wishes=wishes,
        layers=tuple(sorted(layers.values(), key=lambda one: (one.target.count("/"), one.target))),
        hidden=tuple(hidden[path] for path in sorted(hidden)),
        staging=staging,
    )


def _visible(source: Source, sources: Sequence[Source]) -> Iterator[Nested]:
    """Yield the subvolumes nested in a source that no mount of another source covers."""
    below = {mount.id: mount.mount_point for mount in source.submounts}
    covers = [below[one.mount.id] for one in sources if one.mount.id in below]
    for nested in source.nested:
        if not any(is_within(nested.path, cover) for cover in covers):
            yield nested


def _is_part_of(path: str, hidden: dict[str, Hidden], staging: Sequence[str]) -> bool:
    """Whether a path is ours, or lies in a subvolume that has been named as left out."""
    ours = any(is_within(path, directory) for directory in staging)
    return ours or any(directory in hidden for directory in above(path))


def _hidden_mounts(
    sources: Sequence[Source], layers: dict[str, Layer], wishes: Wishes
) -> Iterator[Hidden]:
    """Yield the mounts below the sources' own that no layer stands for, the topmost only."""
    shown = {source.mount.id for source in sources}
    found: list[str] = []
    for mount in _submounts(sources):
        is_hidden = mount.id not in shown and (
            not _stands_for(layers, mount, sources) or _is_excluded(mount.mount_point, wishes)
        )
        if is_hidden and not any(is_within(mount.mount_point, path) for path in found):
            found.append(mount.mount_point)
            yield _hidden_mount(mount, sources, wishes)


def _submounts(sources: Sequence[Source]) -> list[Mount]:
    mounts = {mount.id: mount for source in sources for mount in source.submounts}
    return sorted(mounts.values(), key=lambda one: one.mount_point)


def _stands_for(layers: dict[str, Layer], mount: Mount, sources: Sequence[Source]) -> bool:
    """Whether the view shows at a mount point just what is mounted there.

    Also a directory that is mounted on itself: systemd's ProtectSystem= does so with /etc.
    """
    path = mount.mount_point
    layer = next((layers[one] for one in (path, *above(path)) if one in layers), None)
    if layer is None:
        return False
    inside = path.removeprefix(layer.target).strip("/")
    root = "/".join(("", *filter(None, (layer.subvolume.path, layer.directory, inside))))
    devices = {one.subvolume.file_system: one.mount.device for one in sources}
    same_file_system = devices[layer.subvolume.file_system] == mount.device
    return same_file_system and mount.root == (root or "/")


def _hidden_mount(mount: Mount, sources: Sequence[Source], wishes: Wishes) -> Hidden:
    path = mount.mount_point
    if path in _SYSTEM_DIRECTORIES:
        return Hidden(path, SYSTEM, "", is_system=True)
    kept = _kept(path, sources)
    if kept and _can_be_included(mount) and not _is_included(path, wishes):
        return Hidden(path, kept, _INCLUDE_KEPT_MOUNT, is_kept=True)
    can_be = wishes.submounts is Submounts.LEAVE_OUT and _can_be_included(mount)
    remedy = _INCLUDE_MOUNT if can_be else ""
    is_remote = mount.fs_type.startswith(_REMOTE)
    return Hidden(path, f"another mount ({mount.fs_type})", remedy, is_remote=is_remote)


def _why_not(
    nested: Nested, sources: Sequence[Source], wishes: Wishes, originals: set[str]
) -> tuple[str, str]:
    """Return why a nested subvolume is not frozen, and how it would be; empty if it is."""
    if not any(is_below(nested.path, source.path) for source in sources):
        return "a subvolume outside of the paths", ""
    if _is_excluded(nested.path, wishes):
        return "a subvolume that nested-exclude names", ""
    if _is_included(nested.path, wishes):
        return "", ""
    if not wishes.nested:
        return 'a subvolume of its own, and nested = "skip"', _BRING_IN
    if nested.snapshot_of in originals:
        return "a read-only snapshot of what is frozen here", _BRING_IN
    return _kept(nested.path, sources), _BRING_IN


def _kept(path: str, sources: Sequence[Source]) -> str:
    """Say what others keep at a path, empty if nothing: seen from the source that it lies in."""
    around = [source.path for source in sources if is_below(path, source.path)]
    return keeper_of(path.removeprefix(max(around, key=len, default="").rstrip("/")))


def keeper_of(path: str) -> str:
    """Say what others keep at a path, as its names tell; empty if nothing."""
    return next((what for keeper, what in _KEEPERS.items() if f"/{keeper}/" in f"{path}/"), "")


def _originals(sources: Sequence[Source]) -> set[str]:
    """Return the uuids of what a snapshot below a source may be a snapshot of."""
    found = {layer.subvolume.uuid for source in sources for layer in source.layers}
    nested = (one for source in sources for one in source.nested if not one.snapshot_of)
    return found | {one.subvolume.uuid for one in nested}


def staging_in(source: Source) -> Iterator[str]:
    """Yield where the staging directory shows on the way to a source, or below it."""
    for layer in source.layers:
        if layer.subvolume.id == TOP_LEVEL and not layer.directory:
            yield layer.target.rstrip("/") + "/" + DIRECTORY
