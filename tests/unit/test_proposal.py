"""Which mounts of a machine are proposed, and why others are not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from holdstill.config.rules import name_complaint
from holdstill.jobs.proposal import job_name, propose
from holdstill.linux.mountinfo import Mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdstill.jobs.proposal import Proposal


def mount(
    point: str,
    root: str = "/",
    device: str = "0:30",
    fs_type: str = "btrfs",
    options: Sequence[str] = ("rw",),
) -> Mount:
    """Return a row of mountinfo; each device has one disk."""
    source = f"/dev/sd{device.rpartition(':')[2]}" if fs_type != "tmpfs" else "tmpfs"
    return Mount(hash(point), 1, device, root, point, (), fs_type, source, tuple(options))


def jobs(proposal: Proposal) -> dict[str, tuple[str, ...]]:
    """Return the paths of each job."""
    return {job.name: job.paths for job in proposal.jobs}


def reasons(proposal: Proposal) -> dict[str, str]:
    """Return why each place is left out."""
    return {hidden.path: hidden.reason for hidden in proposal.left_out}


def test_subvolumes_of_a_file_system_are_one_job() -> None:
    """Fedora, Debian and Ubuntu: they share an instant, and each is a path of its own."""
    found = propose(
        [
            mount("/", "/@"),
            mount("/home", "/@home"),
            mount("/boot", fs_type="ext4", device="8:1"),
            mount("/tmp", fs_type="tmpfs", device="0:9"),
        ],
        None,
    )
    assert jobs(found) == {"system": ("/", "/home")}
    assert reasons(found) == {"/boot": "ext4, which has no snapshots"}


def test_a_flat_layout_is_backed_up_where_it_is_mounted() -> None:
    """The top level, mounted for the sake of its subvolumes, would show all of them twice."""
    found = propose(
        [mount("/mnt/biggadisk.root"), mount("/mnt/biggadisk", "/@biggadisk")], "/mnt/elsewhere"
    )
    assert jobs(found) == {"biggadisk": ("/mnt/biggadisk",)}
    assert "/mnt/biggadisk" in reasons(found)["/mnt/biggadisk.root"]


def test_a_top_level_alone_is_proposed() -> None:
    """Data may lie directly in it."""
    assert jobs(propose([mount("/srv/data")], None)) == {"data": ("/srv/data",)}


def test_a_nested_subvolume_mounted_in_its_own_place_is_part_of_its_parent() -> None:
    """It is frozen with that, so it is neither a path nor left out."""
    found = propose([mount("/srv"), mount("/srv/inner", "/inner")], None)
    assert (jobs(found), reasons(found)) == ({"srv": ("/srv",)}, {})


def test_a_directory_bound_elsewhere_is_left_out() -> None:
    """It is in the backup already, at its first place."""
    found = propose([mount("/", "/@"), mount("/export/www", "/@/var/www")], None)
    assert jobs(found) == {"system": ("/",)}
    assert reasons(found) == {"/export/www": "the same as /var/www"}


def test_what_is_mounted_twice_is_proposed_once() -> None:
    """At the shorter path."""
    found = propose([mount("/srv/a/b", "/@a"), mount("/a", "/@a")], None)
    assert jobs(found) == {"a": ("/a",)}
    assert reasons(found) == {"/srv/a/b": "the same as /a"}


def test_snapshots_that_others_keep_are_left_out() -> None:
    """openSUSE: even the root is one of them, and is proposed all the same."""
    found = propose(
        [
            mount("/", "/@/.snapshots/1/snapshot"),
            mount("/.snapshots", "/@/.snapshots"),
            mount("/var", "/@/var"),
        ],
        None,
    )
    assert jobs(found) == {"system": ("/", "/var")}
    assert reasons(found) == {"/.snapshots": "snapshots that snapper keeps"}


def test_removable_and_read_only_disks_are_left_out() -> None:
    """Who wants one of them names it."""
    found = propose(
        [
            mount("/run/media/me/usb", device="0:40"),
            mount("/mnt/old", device="0:41", options=("ro",)),
        ],
        None,
    )
    assert jobs(found) == {}
    assert reasons(found) == {
        "/run/media/me/usb": "where removable disks are mounted",
        "/mnt/old": "the file system is read-only: it takes no snapshot",
    }


def test_the_disk_of_the_repository_is_left_out_unless_it_is_the_only_one() -> None:
    """A repository on the root disk does not keep that from being backed up."""
    root, disk = mount("/", "/@"), mount("/mnt/disk", device="0:40")
    assert jobs(propose([root, disk], "/mnt/disk/restic")) == {"system": ("/",)}
    assert jobs(propose([disk], "/mnt/disk/restic")) == {"disk": ("/mnt/disk",)}
    assert jobs(propose([root, disk], "/var/restic")) == {"system": ("/",), "disk": ("/mnt/disk",)}
    ext4 = mount("/mnt/disk/restic", fs_type="ext4", device="8:1")
    assert "disk" in jobs(propose([root, disk, ext4], "/mnt/disk/restic/r"))


def test_each_file_system_has_a_job_with_a_name_of_its_own() -> None:
    """Numbered where the last part of two paths is the same."""
    found = propose([mount("/a/data"), mount("/b/data", device="0:31")], None)
    assert jobs(found) == {"data": ("/a/data",), "data-2": ("/b/data",)}


POINTS = st.sampled_from(["/", "/a", "/a/b", "/b", "/run/c", "/a/.snapshots", "/home/é \n"])
ROOTS = st.sampled_from(["/", "/@", "/@/b", "/@a", "/@a/.snapshots"])
MOUNTS = st.builds(
    mount,
    POINTS,
    ROOTS,
    st.sampled_from(["0:30", "0:31"]),
    st.sampled_from(["btrfs", "btrfs", "ext4", "tmpfs"]),
    st.sampled_from([("rw",), ("ro",)]),
)


@given(
    st.lists(MOUNTS, max_size=6, unique_by=lambda one: one.mount_point),
    st.none() | st.sampled_from(["/a/repository", "/b"]),
)
def test_nothing_is_proposed_twice_and_no_btrfs_is_forgotten(
    mounts: list[Mount], repository: str | None
) -> None:
    """Each btrfs mount is a path, left out with a reason, or nested in a path at its place."""
    found = propose(mounts, repository)
    paths = [path for job in found.jobs for path in job.paths]
    assert len(set(paths)) == len(paths)
    assert not set(paths) & set(reasons(found))
    for one in mounts:
        if one.fs_type == "btrfs" and one.mount_point not in {*paths, *reasons(found)}:
            assert any(one.mount_point.startswith(path.rstrip("/") + "/") for path in paths)


@given(st.text(), st.sets(st.from_regex(r"data(-[0-9])?", fullmatch=True)))
def test_every_path_has_a_name_that_a_job_can_have(text: str, taken: set[str]) -> None:
    """Whatever its last part looks like."""
    name = job_name(f"/srv/{text}", taken)
    assert not name_complaint(name)
    assert name not in taken
    assert re.fullmatch(r"[\x21-\x7e]+", name)
