"""Swap files: which of them a snapshot would meet, and what helps."""

from __future__ import annotations

import pytest

from holdstill.linux import swaps
from holdstill.linux.mountinfo import Mount
from holdstill.snapshots.model import Layer, Source, Subvolume
from holdstill.snapshots.notes import Place, swap_notes

SWAPS = b"""Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/sda2                               partition\t4194300\t\t0\t\t-2
/swap/my\\040file                         file\t\t8188\t\t0\t\t-3
/srv/\xff\\040(deleted)                   file\t\t8188\t\t0\t\t-4
"""

OWN = Layer("/m", Subvolume("fs", "/dev/sdx", 256, "u1", "@"), "")
INNER = Layer("/m/in", Subvolume("fs", "/dev/sdx", 257, "u2", "@/in"), "")
SOURCE = Source("/m", Mount(1, 0, "0:40", "/@", "/m", (), "btrfs", "/dev/sdx", ()), (OWN,), (), ())


def test_only_files_are_swapped_to_as_files() -> None:
    """Partitions are not, and names are bytes."""
    assert swaps.parse(SWAPS) == ("/swap/my file", "/srv/\udcff (deleted)")


@pytest.mark.parametrize(
    ("place", "helps"),
    [
        (Place("fs", 256), "move it to a subvolume of its own that nested-exclude names"),
        (Place("fs", 257), "name /m/in in nested-exclude"),
    ],
)
def test_a_swap_file_in_what_is_frozen_is_fatal(place: Place, helps: str) -> None:
    """What helps depends on whether its subvolume can be left out."""
    (note,) = swap_notes("/m/s w", place, [SOURCE], [OWN, INNER])
    assert note.is_fatal
    assert note.remedy == f"turn it off (swapoff '/m/s w'), or {helps}"


@pytest.mark.parametrize("place", [None, Place("fs", 258), Place("other", 256)])
def test_a_swap_file_elsewhere_is_no_matter(place: Place | None) -> None:
    """On another file system, or in another subvolume: ids are counted on each file system."""
    assert list(swap_notes("/s", place, [SOURCE], [OWN, INNER])) == []
