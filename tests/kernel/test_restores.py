"""What is restored equals what was frozen: by content, and by all metadata that restic keeps.

What restic itself does not bring back is listed here by version, and found by a plain restic on
the same tree: a backup of frozen files lacks nothing else, but for trusted attributes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel import hard_tree, private_root
from tests.kernel.backups import HOLDSTILL, NEWEST, each_restic, make_site, version_of
from tests.kernel.comparer import Difference, differences
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

NESTED = ("a", "a/b", "dir/c")
TRUSTED = ("trusted", "a/trusted")
"""Files with an attribute that shows only to who may mount, which restic in a view may not."""
MAKES_HOLES = (0, 15, 0)

Lost = set[tuple[bytes, str]]


def lost_by_restic(version: tuple[int, ...], tree: bytes = b"") -> Lost:
    """Return what a plain restic does not bring back of the hard tree."""
    lost = {(path, "linked") for path in hard_tree.LINKED_SPECIALS}
    lost |= {(hard_tree.SOCKET, "missing")}
    lost |= {(hard_tree.ODDLY_ATTRIBUTED, "xattrs")}
    if version < (0, 17, 0):
        lost |= {(hard_tree.NOT_UTF8_TARGET, what) for what in ("target", "size")}
        lost |= {(hard_tree.ATTRIBUTED_SYMLINK, "xattrs")}
    return {(os.path.join(tree, path), what) for path, what in lost}


def lost(found: list[Difference]) -> Lost:
    """Return what differs, and where."""
    return {(one.path, one.what) for one in found}


def restored(site: Site, disk: Disk) -> str:
    """Restore the newest snapshot to btrfs, which takes every attribute; return where it is."""
    target = disk.create(disk.arena.unique("@"))
    options = ["--sparse"] if version_of(site.restic_path) >= MAKES_HOLES else []
    site.restic("restore", "latest", "--target", target, *options)
    return target


def nest(top: str) -> None:
    """Make subvolumes in each other whose hard links have the same inode numbers."""
    for place in NESTED:
        os.makedirs(os.path.dirname(f"{top}/{place}"), exist_ok=True)
        sh("btrfs", "subvolume", "create", f"{top}/{place}")
        Path(top, place, "one").write_text(place, encoding="utf-8")
        os.mkdir(f"{top}/{place}/inside")
        os.link(f"{top}/{place}/one", f"{top}/{place}/inside/two")
    assert len({os.stat(f"{top}/{place}/one").st_ino for place in NESTED}) == 1


@each_restic
def test_everything_comes_back(site: Site, disk: Disk) -> None:
    """From nested subvolumes, too: as from a plain restic that reads a tree which holds still.

    Inode flags are no part of a backup, but files that have them are.
    """
    hard_tree.fill(site.source)
    nest(site.source)
    for name in TRUSTED:
        Path(site.source, name).touch()
        os.setxattr(f"{site.source}/{name}", "trusted.note", b"x")
    found = []
    for back_up in (site.succeed, lambda: site.restic("backup", site.source)):
        with hard_tree.flagged(site.source):
            back_up()
        target = restored(site, disk) + site.source
        found.append(lost(differences(site.source, target)))
        assert_holes(site, target)
    version = version_of(site.restic_path)
    frozen, plain = found
    assert plain == lost_by_restic(version)
    assert frozen == plain | {(os.fsencode(name), "xattrs") for name in TRUSTED}


def assert_holes(site: Site, top: str) -> None:
    """Holes are no part of a backup; a restic that is asked to makes them."""
    if version_of(site.restic_path) < MAKES_HOLES:
        return
    for name in hard_tree.HOLES:
        taken = os.stat(os.path.join(os.fsencode(top), name)).st_blocks * 512
        assert taken < hard_tree.SPARSE_BYTES / 4


def test_a_machine_comes_back(
    arena: Arena, disk: Disk, tmp_path: Path, template_repository: str
) -> None:
    """`/` and `/home`, and what is nested in them: equal but for what the plan leaves out."""
    root = private_root.build(arena.disk(1024), NEWEST, os.path.realpath(tmp_path))
    homes, top = root.inside("/home"), root.inside("/")
    for place in (f"{top}srv/nested", f"{top}etc", homes):
        os.mkdir(f"{place}/tree")
        hard_tree.fill(f"{place}/tree", many=100)
    nest(f"{top}srv")
    site = make_site(tmp_path, "/", "/usr/bin/restic", template_repository)
    site.add_repository("main")
    site.job["paths"] = ["/", "/home"]
    site.configure()
    done = root.run(*HOLDSTILL, "backup", "--json", environment=inside(site))
    assert done.returncode == 0, (done.stdout, done.stderr)
    left_out = {os.fsencode(one["path"])[1:] for one in json.loads(done.stdout)["left_out"]}
    site.restic_path = NEWEST
    target = restored(site, disk)
    version = version_of(NEWEST)
    assert lost(differences(homes, f"{target}/home")) == lost_by_restic(version, b"tree")
    # restic has no place for the metadata of the root itself.
    expected = {(b"", "mtime_ns")}
    for tree in (b"srv/nested/tree", b"etc/tree"):
        expected |= lost_by_restic(version, tree)
    assert lost(differences(top, target, {b"home", *left_out})) == expected


def inside(site: Site) -> dict[str, str]:
    """Return the environment of holdstill on a machine of its own."""
    own = {"PATH": f"{site.base}/bin:/usr/bin:/bin", "TMPDIR": site.path("tmp")}
    return {**own, "HOLDSTILL_CONFIG": site.path("config.toml")}
