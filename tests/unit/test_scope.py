"""What is frozen and what is hidden: a pure decision about what was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.errors import SourceError
from holdstill.linux.mountinfo import Mount, is_below, parse
from holdstill.scope import (
    FreezePlan,
    Submounts,
    Wishes,
    assemble,
    mounts_to_include,
    refuse_missing,
    unmatched,
)
from holdstill.snapshots.model import Layer, Nested, Source, Subvolume

if TYPE_CHECKING:
    from random import Random

TOP_LEVEL = 5
INCLUDE = Wishes(submounts=Submounts.INCLUDE)
REQUIRE = Wishes(submounts=Submounts.REQUIRE)
HOW = "name it in nested-include to freeze it"


def number(path: str) -> int:
    """Return an id that only this path has."""
    return 300 + int.from_bytes(path.encode())


def mount(
    mount_point: str,
    fs_type: str = "btrfs",
    root: str = "/",
    device: str = "0:40",
    options: tuple[str, ...] = ("rw",),
) -> Mount:
    """Return a row of mountinfo; its id is its place's."""
    return Mount(
        number(mount_point), 0, device, root, mount_point, ("rw",), fs_type, "/dev/sdx", options
    )


def subvolume(path: str, file_system: str = "fs", number_: int | None = None) -> Subvolume:
    """Return a subvolume by its place."""
    own = number(path) if number_ is None else number_
    return Subvolume(file_system, f"/dev/{file_system}", own, f"uuid of {path}", path.lstrip("/"))


def nested(path: str, snapshot_of: str = "") -> Nested:
    """Return a subvolume at a place; `snapshot_of` is the place of what it was taken of."""
    return Nested(path, subvolume(path), f"uuid of {snapshot_of}" if snapshot_of else "")


def source(
    path: str,
    *layers: str,
    inside: tuple[str | Nested, ...] = (),
    submounts: tuple[str | Mount, ...] = (),
) -> Source:
    """Return a source by the places of its layers and what lies below."""
    return Source(
        path=path,
        mount=mount(layers[0]),
        layers=tuple(Layer(target, subvolume(target), "") for target in layers),
        nested=tuple(nested(one) if isinstance(one, str) else one for one in inside),
        submounts=tuple(mount(one, "tmpfs") if isinstance(one, str) else one for one in submounts),
    )


def decide(*sources: Source, wishes: Wishes = Wishes()) -> FreezePlan:  # noqa: B008 - frozen
    """Assemble sources that the user named."""
    return assemble([one.path for one in sources], sources, wishes)


def targets(plan: FreezePlan) -> list[str]:
    """Return what is covered, in the order of mounting."""
    return [layer.target for layer in plan.layers]


def left_out(plan: FreezePlan) -> dict[str, str]:
    """Return what is left out, and why."""
    return {found.path: found.reason for found in plan.left_out}


def test_two_directories_of_one_mount_are_one_snapshot() -> None:
    """The subvolume is frozen once, for both."""
    plan = decide(source("/m/a", "/m"), source("/m/b", "/m"))
    assert plan.subvolumes == (subvolume("/m"),)
    assert targets(plan) == ["/m"]


def test_parents_are_mounted_before_children() -> None:
    """In whatever order the paths are named: a child's mount point lies in its parent."""
    child = source("/m/a/b", "/m", "/m/a", "/m/a/b")
    for sources in ([child, source("/m", "/m")], [source("/m", "/m"), child]):
        assert targets(decide(*sources)) == ["/m", "/m/a", "/m/a/b"]


def test_a_root_mount_comes_first() -> None:
    """`/` has as many slashes as `/m`."""
    assert targets(decide(source("/a", "/a"), source("/", "/"))) == ["/", "/a"]


def test_nested_subvolumes_are_frozen_to_any_depth() -> None:
    """With nothing said about them."""
    plan = decide(source("/m", "/m", inside=("/m/n", "/m/n/o", "/m/d/p")))
    assert targets(plan) == ["/m", "/m/n", "/m/d/p", "/m/n/o"]
    assert plan.left_out == ()


_REMOTE = rb"""
90 30 0:55 / /m/nfs rw,relatime shared:9 - nfs4 nas:/export rw,vers=4.2,hard,proto=tcp,timeo=600
91 30 0:56 /a /m/v3 rw,relatime shared:8 - nfs [fe80::1]:/export/a rw,vers=3,hard,addr=fe80::1
92 30 0:57 / /m/smb rw,relatime shared:7 - cifs //nas/share rw,vers=3.1.1,username=backup
93 30 0:58 / /m/9p rw,relatime - 9p hostshare rw,access=client,trans=virtio
94 30 0:59 / /m/ssh rw,nosuid,nodev,relatime - fuse.sshfs nas:/data rw,user_id=0,group_id=0
95 30 0:60 / /m/auto rw,relatime - autofs systemd-1 rw,fd=57,pgrp=1,timeout=0,direct
"""
"""As the kernel lists them. Not every kernel that runs these tests can mount them: a dead one is
mounted for FUSE and autofs, but a server of NFS needs nfsd."""


def test_what_a_server_may_keep_waiting_is_left_out_and_never_opened() -> None:
    """Below a source it is named; beside one the view does without it."""
    mounts = parse(_REMOTE.strip())
    below = decide(source("/m", "/m", submounts=mounts), wishes=INCLUDE)
    assert left_out(below) == {
        "/m/nfs": "another mount (nfs4)",
        "/m/v3": "another mount (nfs)",
        "/m/smb": "another mount (cifs)",
        "/m/9p": "another mount (9p)",
        "/m/ssh": "another mount (fuse.sshfs)",
        "/m/auto": "another mount (autofs)",
    }
    assert {one.remedy for one in below.left_out} == {""}
    assert mounts_to_include([source("/m", "/m", submounts=mounts)], REQUIRE) == ()
    beside = decide(source("/m/dir", "/m", submounts=(*mounts, "/m/local")))
    assert (beside.left_out, beside.outside) == ((), ("/m/local",))


def test_other_mounts_are_left_out_with_the_way_to_include_them() -> None:
    """There is one for those of btrfs only, and only where they can be frozen."""
    read_only = mount("/m/ro", options=("ro",))
    found = decide(source("/m", "/m", submounts=("/m/t", mount("/m/b"), read_only))).left_out
    assert [(one.path, one.reason, one.remedy) for one in found] == [
        ("/m/b", "another mount (btrfs)", 'submounts = "include" freezes it'),
        ("/m/ro", "another mount (btrfs)", ""),
        ("/m/t", "another mount (tmpfs)", ""),
    ]


def test_of_mounts_in_mounts_the_topmost_is_named() -> None:
    """What lies below it is in it."""
    plan = decide(source("/m", "/m", submounts=("/m/t", "/m/t/u", "/m/t2")))
    assert set(left_out(plan)) == {"/m/t", "/m/t2"}


def test_what_another_source_freezes_is_not_left_out() -> None:
    """A mount and a subvolume that are named themselves."""
    other = source("/m/t", "/m/t")
    outer = source("/m", "/m", inside=("/m/n",), submounts=(other.mount,))
    plan = decide(outer, source("/m/n", "/m", "/m/n"), other, wishes=Wishes(nested=False))
    assert plan.left_out == ()


def test_two_sources_in_one_mount_take_nothing_from_each_other() -> None:
    """What lies below the one lies outside of the other, which must not hide it."""
    inside = ("/m/a/n", "/m/b/n")
    plan = decide(source("/m/a", "/m", inside=inside), source("/m/b", "/m", inside=inside))
    assert targets(plan) == ["/m", "/m/a/n", "/m/b/n"]
    assert plan.hidden == ()


def test_what_lies_beside_the_source_is_no_matter() -> None:
    """Only the named directory's own content is promised: nothing else is frozen or named."""
    plan = decide(source("/m/a", "/m", inside=("/m/n", "/m/ab/n"), submounts=("/m/ab",)))
    assert (targets(plan), plan.left_out) == (["/m"], ())


def test_nested_can_be_skipped() -> None:
    """All but what nested-include names."""
    wishes = Wishes(nested=False, include=("/m/o",))
    plan = decide(source("/m", "/m", inside=("/m/n", "/m/n/deep", "/m/o")), wishes=wishes)
    assert targets(plan) == ["/m", "/m/o"]
    assert left_out(plan) == {"/m/n": 'a subvolume of its own, and nested = "skip"'}
    assert [one.remedy for one in plan.left_out] == [HOW]


def test_one_can_be_excluded_with_all_below_it() -> None:
    """A directory, too, with the subvolumes in it; a name that begins alike stays."""
    inside = ("/m/d/n", "/m/d2", "/m/e", "/m/e/f")
    plan = decide(source("/m", "/m", inside=inside), wishes=Wishes(leave_out=("/m/d", "/m/e")))
    assert targets(plan) == ["/m", "/m/d2"]
    assert left_out(plan) == dict.fromkeys(
        ("/m/d/n", "/m/e"), "a subvolume that nested-exclude names"
    )


KEPT = {
    "/m/.snapshots": "snapshots that snapper keeps",
    "/m/home/.snapshots": "snapshots that snapper keeps",
    "/m/.snapshots/1/snapshot": "snapshots that snapper keeps",
    "/m/timeshift-btrfs/snapshots/1/@": "snapshots that Timeshift keeps",
    "/m/var/lib/docker/btrfs/subvolumes/0a1b": "a layer of Docker's images",
    "/m/u/.local/share/containers/storage/btrfs/subvolumes/0a": "a layer of Podman's images",
}


@pytest.mark.parametrize(("path", "reason"), KEPT.items(), ids=KEPT)
def test_what_others_keep_by_the_hundred_is_left_out_and_named(path: str, reason: str) -> None:
    """With the key that would include it."""
    plan = decide(source("/m", "/m", inside=(path,)))
    assert left_out(plan) == {path: reason}
    assert plan.left_out[0].remedy == HOW
    included = decide(source("/m", "/m", inside=(path,)), wishes=Wishes(include=(path,)))
    assert (targets(included), included.left_out) == (["/m", path], ())


def test_a_source_in_such_a_place_is_the_users_own_choice() -> None:
    """Only what lies in such a place below the source is left out."""
    top = "/m/.snapshots/1/snapshot"
    plan = decide(source(top, top, inside=(f"{top}/home", f"{top}/.snapshots")))
    assert targets(plan) == [top, f"{top}/home"]
    assert set(left_out(plan)) == {f"{top}/.snapshots"}


@pytest.mark.parametrize("name", ["x.snapshots", ".snapshots2", "docker/btrfs/subvolumes2/a"])
def test_a_name_that_is_only_alike_means_nothing(name: str) -> None:
    """Names are compared whole."""
    assert decide(source("/m", "/m", inside=(f"/m/{name}",))).left_out == ()


def test_an_included_subvolume_brings_those_that_it_lies_in() -> None:
    """It could not be shown otherwise; what lies beside it stays left out."""
    inside = tuple(f"/m/.snapshots{rest}" for rest in ("", "/1/snapshot", "/2/snapshot"))
    plan = decide(source("/m", "/m", inside=inside), wishes=Wishes(include=(inside[1],)))
    assert targets(plan) == ["/m", inside[0], inside[1]]
    assert set(left_out(plan)) == {inside[2]}


def test_a_read_only_snapshot_of_what_is_frozen_is_left_out() -> None:
    """Of the source, of something nested in it, or of another source; not of something else."""
    inside = (
        "/m/n",
        nested("/m/of-source", "/m"),
        nested("/m/of-nested", "/m/n"),
        nested("/m/of-other", "/o"),
        nested("/m/received", "/somewhere/else"),
    )
    plan = decide(source("/m", "/m", inside=inside), source("/o", "/o"))
    assert targets(plan) == ["/m", "/o", "/m/n", "/m/received"]
    reason = "a read-only snapshot of what is frozen here"
    assert left_out(plan) == dict.fromkeys(("/m/of-source", "/m/of-nested", "/m/of-other"), reason)


def test_our_own_staging_directory_is_no_part_of_the_data() -> None:
    """Where the data lie in the top level, other runs' snapshots are neither frozen nor named."""
    top = Layer("/m", subvolume("/", number_=TOP_LEVEL), "")
    inside = (nested("/m/.holdstill/run/0/uuid"), nested("/m/mine"))
    sources = [Source(p, mount("/m"), (top,), inside, ()) for p in ("/m/mine", "/m", "/m/d")]
    plan = decide(*sources)
    assert plan.staging == ("/m/.holdstill",)
    assert (targets(plan), plan.left_out) == (["/m", "/m/mine"], ())
    for one in sources:  # beside a source, too: a run's own snapshots are no change of the plan
        hidden = {nested.path for nested in decide(one).hidden}
        assert hidden <= {"/m/mine"}


def test_one_of_that_name_elsewhere_is_the_users_own() -> None:
    """Only the top level has a staging directory."""
    plan = decide(source("/m", "/m", inside=("/m/.holdstill/run/0/uuid",)))
    assert (plan.staging, len(plan.layers)) == ((), 2)


def test_each_file_system_has_one_device() -> None:
    """Its first source's."""
    layer = Layer("/n", subvolume("/n", "other"), "")
    other = Source("/n", mount("/n", device="0:41"), (layer,), (), ())
    plan = decide(source("/m", "/m"), other, source("/o", "/o"))
    assert plan.devices == {"fs": "/dev/fs", "other": "/dev/other"}


def test_mounts_of_btrfs_are_included_when_asked() -> None:
    """Not those of others, nor what is excluded, nor one that is a source already."""
    rows = (mount("/m/a"), mount("/m/b", "ext4"), mount("/m/c"), mount("/m/d"))
    sources = [source("/m", "/m", submounts=rows), source("/m/d", "/m/d")]
    for way in (Submounts.INCLUDE, Submounts.REQUIRE):
        wishes = Wishes(submounts=way, leave_out=("/m/c",))
        assert mounts_to_include(sources, wishes) == (rows[0],)
    assert mounts_to_include(sources, Wishes()) == ()


def test_a_mount_in_one_that_is_left_out_cannot_be_included() -> None:
    """The view shows no directory to mount it on."""
    rows = (mount("/m/t", "tmpfs"), mount("/m/t/b"), mount("/m/t2"))
    assert mounts_to_include([source("/m", "/m", submounts=rows)], INCLUDE) == (rows[2],)


def test_a_mount_beside_the_path_is_not_included() -> None:
    """It lies in the same mount, and not below the source."""
    assert mounts_to_include([source("/m/a", "/m", submounts=(mount("/m/b"),))], INCLUDE) == ()


def test_a_mount_of_kept_snapshots_is_included_only_by_its_name() -> None:
    """`.snapshots` is a mount of its own in the layouts of Arch and openSUSE; it is not missed."""
    row = mount("/m/.snapshots")
    outer = source("/m", "/m", submounts=(row,))
    assert mounts_to_include([outer], REQUIRE) == ()
    plan = decide(outer, wishes=REQUIRE)
    refuse_missing(plan)
    assert left_out(plan) == {"/m/.snapshots": "snapshots that snapper keeps"}
    assert "nested-include" in plan.left_out[0].remedy
    for path in ("/m/.snapshots", "/m/.snapshots/1/snapshot"):
        assert mounts_to_include([outer], Wishes(Submounts.INCLUDE, include=(path,))) == (row,)


def test_a_mount_covers_the_subvolumes_below_it() -> None:
    """They cannot be seen, and would hide what can."""
    own = source("/m/d", "/m/d", inside=("/m/d/x",))
    inside = (nested("/m/d"), nested("/m/d/x"), nested("/m/d/y"))
    outer = source("/m", "/m", inside=inside, submounts=(own.mount,))
    plan = assemble(["/m"], [outer, own], INCLUDE)
    assert targets(plan) == ["/m", "/m/d", "/m/d/x"]
    assert plan.left_out == ()


def test_a_mount_of_the_same_subvolume_at_its_own_place_is_no_other_mount() -> None:
    """The view shows there what the host shows."""
    row = mount("/m/n", root="/m/n")
    assert decide(source("/m", "/m", inside=("/m/n",), submounts=(row,))).left_out == ()


@pytest.mark.parametrize(
    "row",
    [
        mount("/m/n", "tmpfs"),
        mount("/m/n", root="/m/n/part"),
        mount("/m/n", root="/m/n", device="0:99"),
    ],
    ids=["another type", "only a directory of it", "another file system"],
)
def test_any_other_mount_over_a_subvolume_is_named(row: Mount) -> None:
    """The view shows the subvolume, the host something else."""
    plan = decide(source("/m", "/m", inside=("/m/n",), submounts=(row,)))
    assert left_out(plan) == {"/m/n": f"another mount ({row.fs_type})"}


def test_required_mounts_are_all_there_or_it_is_an_error() -> None:
    """All that are missing are named, with their file system."""
    plan = decide(source("/m", "/m", submounts=("/m/t", mount("/m/e", "ext4"))), wishes=REQUIRE)
    with pytest.raises(SourceError, match=r"/m/e: another mount \(ext4\), /m/t: .*\(tmpfs\)"):
        refuse_missing(plan)


def test_what_is_left_out_knowingly_is_not_missing() -> None:
    """What nested-exclude names, nested snapshots, and the running system's own."""
    root = source("/", "/", inside=("/.snapshots",), submounts=("/proc", "/run", "/tmp"))
    refuse_missing(decide(root, wishes=Wishes(Submounts.REQUIRE, leave_out=("/tmp",))))
    with pytest.raises(SourceError, match="/tmp: another mount"):
        refuse_missing(decide(root, wishes=REQUIRE))


def test_the_systems_own_directories_stay_live_below_a_frozen_root() -> None:
    """Where they are mounts; without a frozen root they are live anyway."""
    root = source("/", "/", submounts=("/proc", "/dev", "/dev/pts", "/srv"))
    plan = decide(root)
    assert plan.system_directories == ("/proc", "/dev")
    assert {one.path for one in plan.left_out if one.is_system} == {"/proc", "/dev"}
    assert decide(source("/m", "/m")).system_directories == ()


def warned(*sources: Source, **wishes: tuple[str, ...]) -> list[str]:
    """Return the warnings of wishes that match nothing."""
    return list(unmatched(decide(*sources, wishes=Wishes(**wishes))))  # type: ignore[arg-type]


def test_a_wish_that_matches_nothing_below_the_sources_is_told() -> None:
    """With its key; what lies beside the sources does not count."""
    outer = source("/m/d", "/m", inside=("/m/d/n", "/m/beside"), submounts=("/m/d/t",))
    assert warned(outer, leave_out=("/m/d/n", "/m/d/t", "/m/d"), include=("/m/d/n",)) == []
    what = "no subvolume or mount below the paths is at or in"
    assert warned(outer, leave_out=("/m/d/nn", "/m/beside"), include=("/m/d/x y",)) == [
        f"nested-exclude: {what} /m/d/nn",
        f"nested-exclude: {what} /m/beside",
        f"nested-include: {what} '/m/d/x y'",
    ]


def test_what_lies_in_something_left_out_can_be_excluded_and_not_included() -> None:
    """It is left out with it, in the one case; in the other somebody waits for it in vain."""
    outer = source("/m", "/m", submounts=("/m/t",))
    assert warned(outer, leave_out=("/m/t/in",)) == []
    assert len(warned(outer, include=("/m/t/in",))) == 1


names = st.sampled_from(["a", "b", "ab", ".snapshots"])


ROOTS = ("/m", "/m/sub", "/n")


def below(root: str) -> st.SearchStrategy[str]:
    """Return paths in a mount."""
    return st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join([root, *parts]))


@st.composite
def machines(draw: st.DrawFn) -> list[Source]:
    """Draw sources in mounts that hold subvolumes and other mounts; `/m/sub` is mounted in `/m`."""
    inside = {root: sorted(draw(st.sets(below(root), max_size=5))) for root in ROOTS}
    rows = {
        root: sorted(draw(st.sets(below(root).filter(lambda p: not p.startswith("/m/sub/")))))
        for root in ROOTS
    }
    submounts = {
        root: tuple(mount(path, draw(st.sampled_from(["btrfs", "tmpfs"]))) for path in rows[root])
        for root in ROOTS
    }
    submounts["/m"] += (mount("/m/sub"),)
    found = []
    for root in draw(st.lists(st.sampled_from(ROOTS), min_size=1, max_size=4)):
        path = draw(st.sampled_from([root, *inside[root]]) | below(root))
        layers = [root, *(one for one in inside[root] if one == path or is_below(path, one))]
        found.append(source(path, *layers, inside=tuple(inside[root]), submounts=submounts[root]))
    return found


paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join(["/m", *parts]))
some_wishes = st.builds(
    Wishes,
    submounts=st.sampled_from(Submounts),
    nested=st.booleans(),
    leave_out=st.lists(paths, max_size=2).map(tuple),
    include=st.lists(paths, max_size=2).map(tuple),
)


@given(machines(), some_wishes)
def test_every_plan_can_be_mounted_and_covers_every_source(
    found: list[Source], wishes: Wishes
) -> None:
    """Each place once, parents first."""
    order = targets(decide(*found, wishes=wishes))
    assert len(set(order)) == len(order)
    for index, target in enumerate(order):
        assert not any(is_below(target, later) for later in order[index:])
    for one in found:
        assert {layer.target for layer in one.layers} <= set(order)


@given(machines(), some_wishes)
def test_nothing_below_a_source_is_neither_frozen_nor_named(
    found: list[Source], wishes: Wishes
) -> None:
    """Each subvolume and mount is shown, named, part of what is named, or covered by a mount."""
    plan = decide(*found, wishes=wishes)
    shown, named = set(targets(plan)), set(left_out(plan))
    mounts = {one.mount.mount_point for one in found}
    below = {place.path for one in found for place in one.nested}
    below |= {row.mount_point for one in found for row in one.submounts}
    for path in filter(plan.contains, below):
        outer = named | (mounts - {one.path for one in found if one.path == path})
        assert path in shown | named or any(is_below(path, place) for place in outer), path


@given(machines(), some_wishes)
def test_no_subvolume_is_both_frozen_and_named(found: list[Source], wishes: Wishes) -> None:
    """What is named as an empty directory would be excluded from the backup."""
    plan = decide(*found, wishes=wishes)
    stubs = {one.path for one in plan.left_out if one.is_stub}
    assert stubs.isdisjoint(targets(plan))


@given(machines(), some_wishes, st.randoms())
def test_the_order_of_the_paths_does_not_matter(
    found: list[Source], wishes: Wishes, random: Random
) -> None:
    """The same paths in another order make the same view."""
    shuffled = list(found)
    random.shuffle(shuffled)
    first, second = decide(*found, wishes=wishes), decide(*shuffled, wishes=wishes)
    assert targets(first) == targets(second)
    assert left_out(first).keys() == left_out(second).keys()
