"""How subvolumes lie in each other: pure, from what the root tree says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.errors import SourceError
from holdstill.linux.btrfs_tree import Entry
from holdstill.snapshots.model import Layer
from holdstill.snapshots.tree import Tree, tree

TOP = Entry(5, "uuid-5", "", read_only=False, inside=0, path="")


def grown(*places: tuple[int, int, str], **snapshots: str) -> Tree:
    """Return a tree of subvolumes: id, in which, at what path; `s7="uuid-6"`: 7 is a snapshot."""
    entries = {5: TOP}
    for number, inside, path in places:
        of = snapshots.get(f"s{number}", "")
        entries[number] = Entry(number, f"uuid-{number}", of, bool(of), inside, path)
    return tree("fs", "/dev/sdx", entries)


def nested(found: Tree, target: str, number: int, directory: str = "") -> list[str]:
    """Return where subvolumes show below a layer."""
    layer = Layer(target, found.subvolume(number), directory)
    return [one.path for one in found.nested(layer)]


def test_a_path_leads_through_all_that_it_lies_in() -> None:
    """From the top level down."""
    found = grown((6, 5, "@"), (7, 6, "a/b"), (8, 7, "c"))
    assert [found.subvolume(n).path for n in (5, 6, 7, 8)] == ["", "@", "@/a/b", "@/a/b/c"]


def test_all_depths_are_found_each_after_its_parent() -> None:
    """And nothing beside."""
    found = grown((8, 7, "c"), (6, 5, "@"), (7, 6, "a/b"), (9, 5, "@home"), (10, 6, "a"))
    assert nested(found, "/m", 6) == ["/m/a", "/m/a/b", "/m/a/b/c"]


def test_a_directory_of_a_subvolume_shows_what_lies_in_it() -> None:
    """Where only that directory is mounted; a name that begins alike lies elsewhere."""
    found = grown((6, 5, "@"), (7, 6, "dir/x"), (8, 6, "dir2/y"), (9, 6, "dir"))
    assert nested(found, "/m", 6, "dir") == ["/m/x"]


def test_the_root_directory_gets_no_double_slash() -> None:
    """`/` ends with one already."""
    assert nested(grown((6, 5, "@"), (7, 6, "var")), "/", 6) == ["/var"]


def test_only_a_read_only_copy_is_a_snapshot_here() -> None:
    """A writable one is somebody's own data by now."""
    found = grown((6, 5, "@"), (7, 6, "copy"), s7="uuid-6")
    (only,) = found.nested(Layer("/m", found.subvolume(6), ""))
    assert only.snapshot_of == "uuid-6"
    writable = Entry(7, "uuid-7", "uuid-6", read_only=False, inside=6, path="copy")
    found = tree("fs", "/dev/sdx", {**found.entries, 7: writable})
    (only,) = found.nested(Layer("/m", found.subvolume(6), ""))
    assert only.snapshot_of == ""


def test_a_subvolume_that_is_not_listed_has_been_deleted() -> None:
    """It can still be mounted."""
    with pytest.raises(SourceError, match="subvolume 9 of /dev/sdx has been deleted"):
        grown().subvolume(9)


@given(st.lists(st.integers(0, 20), max_size=20))
def test_each_subvolume_is_found_once_below_the_top_level(parents: list[int]) -> None:
    """Whatever lies in what."""
    places = [(6 + i, 5 + min(p, i), f"n{i}") for i, p in enumerate(parents)]
    found = nested(grown(*places), "/m", 5)
    assert len(found) == len(set(found)) == len(places)
    for index, path in enumerate(found):
        parent = path.rpartition("/")[0]
        assert parent == "/m" or parent in found[:index]


def test_subvolumes_lie_in_each_other_by_the_thousand() -> None:
    """A path has room for two thousand of them."""
    found = grown(*((6 + depth, 5 + depth, "a") for depth in range(2000)))
    assert nested(found, "/m", 5)[-1] == "/m" + 2000 * "/a"
