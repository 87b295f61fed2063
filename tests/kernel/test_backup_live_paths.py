"""What restic writes to may lie below the frozen path: it stays live, and out of the backup."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import each_restic, only
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


def _directory(path: str, _: Disk) -> None:
    os.mkdir(path)


def _nested_subvolume(path: str, _: Disk) -> None:
    sh("btrfs", "subvolume", "create", path)


def _mount(path: str, disk: Disk) -> None:
    os.mkdir(path)
    disk.arena.mount_tmpfs(path)


def _keep_everything_in(site: Site, own: str) -> None:
    site.directories["cache-directory"] = f"{own}/cache"
    site.environment["TMPDIR"] = f"{own}/deep/tmp"
    os.makedirs(site.environment["TMPDIR"])
    site.add_repository("main", f"{own}/deep/repository")


@pytest.mark.parametrize("make", [_directory, _nested_subvolume, _mount])
def test_cache_temporary_files_and_repository_stay_live(
    site: Site, disk: Disk, make: Callable[[str, Disk], None]
) -> None:
    """All three are written to during the backup, and none of them is in it."""
    own = f"{site.source}/own"
    make(own, disk)
    _keep_everything_in(site, own)
    site.job.update(keep={"last": 1}, prune={})
    site.succeed()
    record = site.succeed()
    assert os.listdir(f"{own}/cache/restic")
    assert os.listdir(f"{own}/deep/tmp") == []
    assert len(site.snapshots()) == 1
    assert not {"own/deep/repository", "own/deep/tmp", "own/cache/restic"} & set(site.listed())
    assert not any("cache" in warning for warning in record["warnings"])
    # holdstill's own list of versions and the job's lock lie beside restic's cache.
    assert only(record)["files_unmodified"] == (1 if make is _mount else 3)


@each_restic
def test_what_lies_beside_them_is_backed_up(site: Site) -> None:
    """Only the directories that restic writes to are left out, not those that hold them."""
    _keep_everything_in(site, f"{site.source}/own")
    site.write("own/deep/note")
    site.succeed()
    assert "own/deep/note" in site.listed()
    assert "own/deep/repository/config" not in site.listed()


@pytest.mark.parametrize(
    "name", ["sta*r", "qu?estion", "[class]", "back\\slash", "!bang", "sp ace"]
)
def test_a_live_directory_with_a_pattern_for_a_name_is_left_out(site: Site, name: str) -> None:
    """Its name excludes itself and nothing else."""
    site.write("star/note")
    site.write("c/note")
    site.add_repository("main", f"{site.source}/{name}")
    site.succeed()
    assert [p for p in site.listed() if not p.startswith(name)] == sorted(
        ["star", "star/note", "c", "c/note", "file"]
    )
    assert f"{name}/config" not in site.listed()


def test_the_rest_of_the_source_is_still_frozen(site: Site) -> None:
    """Handing directories in opens no way around the snapshot."""
    _keep_everything_in(site, f"{site.source}/own")
    with site.paused("backup") as process:
        site.write("file", "after\n")
        site.let_go()
        assert process.wait() == 0
    assert Path(site.restored(), "file").read_text(encoding="utf-8") == "before\n"


@each_restic
def test_a_cache_that_cannot_be_opened_is_a_warning(site: Site) -> None:
    """The backup is made without one; the record says that this is slow, and why."""
    os.mkdir(site.path("cache"))
    Path(site.path("cache"), "restic").write_text("in the way", encoding="utf-8")
    record = site.succeed()
    (warning,) = record["warnings"]
    assert site.path("cache/restic") in warning
    assert "slow" in warning
    assert len(site.snapshots()) == 1


def test_a_cache_on_a_read_only_disk_is_a_warning(site: Site, disk: Disk) -> None:
    """Neither version, cache nor lock can be kept: all is said, and the backup is made."""
    cache = disk.arena.directory()
    disk.arena.mount_tmpfs(cache)
    sh("mount", "-o", "remount,ro", cache)
    site.directories["cache-directory"] = cache
    record = site.succeed()
    assert len(record["warnings"]) == 3
    assert all(cache in warning for warning in record["warnings"])


@each_restic
def test_no_exclude_file_brings_back_what_is_live(site: Site) -> None:
    """A pattern of the user's that begins with `!` has not the last word."""
    own = os.path.dirname(site.write("own/live"))
    site.environment["TMPDIR"] = own
    excludes = site.write("excludes", os.fsencode(f"!{own}\n!{own}/live\n"))
    site.job["exclude-files"] = [excludes]
    site.succeed()
    assert [name for name in site.listed() if name.startswith("own")] == []
