"""What stays live in a view: a pure decision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdstill.view.layout import FrozenMount, Layout, live_below

parts = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4)
paths = parts.map(lambda names: "/" + "/".join(names))


def frozen(*targets: str) -> tuple[FrozenMount, ...]:
    """Return snapshots that cover paths."""
    return tuple(FrozenMount(target, "/dev/sdx", 300, "") for target in targets)


def covers(target: str, path: str) -> bool:
    """Whether a path is a target or inside it, name by name."""
    own = [name for name in target.split("/") if name]
    return [name for name in path.split("/") if name][: len(own)] == own


def test_what_a_frozen_path_covers_is_handed_in() -> None:
    """Restic's cache below the source, say."""
    mounts = frozen("/data")
    assert live_below(("/data/cache", "/var/cache"), mounts) == ("/data/cache",)


def test_a_neighbour_whose_name_begins_alike_is_not_covered() -> None:
    """Names are compared whole."""
    assert live_below(("/data2", "/data-cache/x"), frozen("/data")) == ()


def test_nothing_frozen_covers_nothing() -> None:
    """Then all is live anyway."""
    assert live_below(("/a", "/b"), ()) == ()


@given(st.lists(paths).map(tuple), st.lists(paths))
def test_exactly_what_is_covered_is_handed_in_once(
    live: tuple[str, ...], targets: list[str]
) -> None:
    """In the order in which it was named."""
    expected = [p for p in dict.fromkeys(live) if any(covers(t, p) for t in targets)]
    assert list(live_below(live, frozen(*targets))) == expected


def test_the_mounts_hang_from_the_directories_above_them() -> None:
    """Not those inside a snapshot, which nobody can rename, and never the root."""
    layout = Layout((), frozen("/srv/data", "/srv/data/a/b", "/mnt/x/y"), (), (), "/")
    assert layout.carriers == ("/mnt", "/mnt/x", "/mnt/x/y", "/srv", "/srv/data")


def test_a_root_of_its_own_hangs_from_nothing() -> None:
    """What lies in it is frozen with it."""
    assert Layout((), frozen("/", "/home"), (), (), "/").carriers == ()
