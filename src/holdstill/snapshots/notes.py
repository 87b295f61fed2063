"""What is worth knowing of subvolumes before they are frozen: swap files, NOCOW, quota groups."""

from __future__ import annotations

import errno
import os
from enum import StrEnum

from holdstill.errors import shown
from holdstill.linux import btrfs as kernel
from holdstill.linux import swaps
from holdstill.snapshots import btrfs
from holdstill.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdstill.snapshots.model import Layer, Source, Subvolume

_FRAGMENTS = "while a snapshot exists, the first write to each block is a copy: files fragment"
_SEEN = "seen at the root directory, no file was looked at"


class Kind(StrEnum):
    """What a note is about."""

    SWAP_FILE = "swap-file"
    NOCOW = "nocow"
    QUOTA = "quota"


class Note(NamedTuple):
    """Something that a snapshot will meet."""

    path: str
    kind: Kind
    text: str
    remedy: str = ""
    is_fatal: bool = False
    """Whether the kernel takes no snapshot because of it."""


class Place(NamedTuple):
    """Where a file lies."""

    file_system: str
    """Its uuid."""
    subvolume_id: int


def look(sources: Sequence[Source], layers: Sequence[Layer]) -> tuple[Note, ...]:
    """Return the notes on what is to be frozen; raises FreezeError if it cannot be opened.

    Looked at are /proc/swaps, the mounts' options, each subvolume's root directory, and whether
    quotas are enabled. No other file is.
    """
    one_of_each = {source.subvolume.file_system: source for source in reversed(sources)}
    return (
        *_swap_files(sources, layers),
        *(note for source in one_of_each.values() for note in _nocow(source, layers)),
        *(note for source in one_of_each.values() for note in _quotas(source)),
    )


def _swap_files(sources: Sequence[Source], layers: Sequence[Layer]) -> Iterator[Note]:
    for path in swaps.active_files():
        try:
            place = _place_of(path)
        except OSError as error:
            text = (
                "an active swap file that cannot be looked at "
                f"({error.strerror}): if it lies in what is to be frozen, the run will fail"
            )
            yield Note(path, Kind.SWAP_FILE, text)
        else:
            yield from swap_notes(path, place, sources, layers)


def _place_of(path: str) -> Place | None:
    """Return where a file lies, None if it is not on btrfs; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        uuid = kernel.file_system_uuid(descriptor)
        return Place(uuid, kernel.subvolume_info(descriptor).id)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return None
    finally:
        os.close(descriptor)


def swap_notes(
    path: str, place: Place | None, sources: Sequence[Source], layers: Sequence[Layer]
) -> Iterator[Note]:
    """Yield the note on a swap file, if it lies in what is to be frozen."""
    for layer in layers:
        subvolume = layer.subvolume
        if Place(subvolume.file_system, subvolume.id) == place:
            text = (
                f"an active swap file: no snapshot can be taken of {subvolume.name}, "
                "and the run will fail"
            )
            yield Note(path, Kind.SWAP_FILE, text, _way_out(path, layer, sources), is_fatal=True)
            return


def _way_out(path: str, layer: Layer, sources: Sequence[Source]) -> str:
    off = f"turn it off (swapoff {shown(path)})"
    if any(layer in source.layers for source in sources):
        return f"{off}, or move it to a subvolume of its own that nested-exclude names"
    return f"{off}, or name {shown(layer.target)} in nested-exclude"


def _nocow(source: Source, layers: Sequence[Layer]) -> Iterator[Note]:
    if "nodatacow" in source.mount.super_options:
        text = f"NOCOW (mounted with nodatacow): {_FRAGMENTS}"
        yield Note(source.mount.mount_point, Kind.NOCOW, text)
        return
    own = [one for one in layers if one.subvolume.file_system == source.subvolume.file_system]
    with btrfs.mounted(source.subvolume.device, kernel.TOP_LEVEL) as top:
        for layer in {layer.subvolume: layer for layer in reversed(own)}.values():
            if _is_nocow(top, layer.subvolume):
                yield Note(layer.target, Kind.NOCOW, f"NOCOW ({_SEEN}): {_FRAGMENTS}")


def _is_nocow(top: int, subvolume: Subvolume) -> bool:
    try:
        with btrfs.opened(subvolume.path or ".", top) as root:
            return kernel.is_nocow(root)
    except OSError as error:
        raise btrfs.failure(error, f"cannot open {subvolume.shown}") from error


def _quotas(source: Source) -> Iterator[Note]:
    # Simple quotas ("squota") have nothing to count anew.
    if kernel.quota_mode(source.subvolume.file_system) == "qgroup":
        mount_point = source.mount.mount_point
        text = "quota groups: btrfs counts anew when a snapshot is removed, which takes time"
        remedy = f"if nobody needs them: btrfs quota disable {shown(mount_point)}"
        yield Note(mount_point, Kind.QUOTA, text, remedy)
