"""A tree in which nothing has changed adds nothing, whatever else was mounted meanwhile.

The sources lie in `quiet`: a snapshot holds the metadata of every directory above its paths.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import NEWEST, RESTICS, each_restic, make_site, only, version_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

WITHOUT_DEVICE_IDS = [path for path in RESTICS.values() if version_of(path) >= (0, 17, 0)]


_DRAWS = 10
"""Of a device number: the kernel gives the lowest free one, which may be that of before."""


def _devices_of(site: Site, directory: str) -> set[int]:
    """Return the device numbers that restic has stored for what lies in a directory."""
    latest = site.snapshots()[-1]["id"]
    tree = json.loads(site.restic("cat", "tree", f"{latest}:{site.source}/{directory}"))
    return {node["device_id"] for node in tree["nodes"]}


def _added(record: dict[str, object]) -> tuple[int, int, int]:
    result = only(record)
    return result["data_added"], result["files_new"], result["dirs_changed"]


@pytest.fixture
def quiet_site(
    tmp_path: Path, disk: Disk, quiet: str, restic_path: str, template_repository: str
) -> Site:
    """Set up a site whose source is mounted below directories that nobody touches."""
    source = disk.source(at=f"{quiet}/source")
    made = make_site(tmp_path, source, restic_path, template_repository)
    made.add_repository("main")
    made.write("deep/er/note")
    made.write("one")
    return made


@pytest.mark.parametrize("restic_path", WITHOUT_DEVICE_IDS)
def test_adds_nothing_after_an_unrelated_mount(quiet_site: Site, disk: Disk) -> None:
    """The snapshot's device number is another in each run, and restic does not store it."""
    quiet_site.succeed()
    disk.source()
    disk.source()
    assert _added(quiet_site.succeed()) == (0, 0, 0)


@each_restic
def test_reads_nothing_again(quiet_site: Site, disk: Disk) -> None:
    """Before 0.17 restic stores device numbers: directories are rewritten, no file is read."""
    quiet_site.succeed()
    disk.source()
    result = only(quiet_site.succeed())
    assert (result["files_new"], result["files_changed"]) == (0, 0)
    assert result["files_unmodified"] == 3


def test_hard_links_cost_no_more_than_their_own_directories(quiet_site: Site, disk: Disk) -> None:
    """Restic needs the device number to tell hard links: what lies beside them is not rewritten."""
    for number in range(20):
        quiet_site.write(f"wide{number}/note")
    os.link(quiet_site.write("links/one"), f"{quiet_site.source}/links/two")
    quiet_site.succeed()
    before = _devices_of(quiet_site, "links")
    for _ in range(_DRAWS):
        disk.source()
        added, new, changed = _added(quiet_site.succeed())
        if _devices_of(quiet_site, "links") != before:
            break
        assert (added, new, changed) == (0, 0, 0)
    else:
        pytest.fail("the snapshot was given the same device number again and again")
    assert (new, changed) == (0, len(("/srv", "quiet", "source", "links")))
    assert added < 20_000


def test_adds_nothing_with_a_nested_subvolume_left_out(quiet_site: Site) -> None:
    """The empty directory in its place has new timestamps in each snapshot: it is left out."""
    quiet_site.job["nested"] = "skip"
    subprocess.run(
        ["btrfs", "-q", "subvolume", "create", f"{quiet_site.source}/deep/nested"], check=True
    )
    quiet_site.succeed()
    assert _added(quiet_site.succeed()) == (0, 0, 0)
    assert "deep/nested" not in quiet_site.listed()


def test_adds_nothing_where_the_data_lie_in_the_top_level(
    tmp_path: Path, arena: Arena, quiet: str, template_repository: str
) -> None:
    """The staging directory is then part of the source, and no part of the backup."""
    disk = arena.disk(256)
    source = disk.mount("", f"{quiet}/top")
    site = make_site(tmp_path, source, NEWEST, template_repository)
    site.add_repository("main")
    site.write("deep/note")
    site.succeed()
    assert _added(site.succeed()) == (0, 0, 0)
    assert site.listed() == ["deep", "deep/note"]


def test_adds_nothing_with_cache_and_repository_below_the_source(quiet_site: Site) -> None:
    """What restic writes to below the source moves no timestamp that is in the backup."""
    quiet_site.directories["cache-directory"] = f"{quiet_site.source}/own/cache"
    quiet_site.add_repository("main", f"{quiet_site.source}/own/repository")
    quiet_site.succeed()
    assert _added(quiet_site.succeed()) == (0, 0, 0)
    assert "own/cache/restic" not in quiet_site.listed()
    assert "own/repository" not in quiet_site.listed()
