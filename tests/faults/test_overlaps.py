"""Two starts of one job at once: each run is whole, or touches nothing and says so."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.backups import only

if TYPE_CHECKING:
    import subprocess

    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk
    from tests.soaking import Soak

pytest_plugins = ["tests.kernel.backup_fixtures"]

FILES = 30_000
DIRECTORIES = 100
LATER_SECONDS = 1.0
"""From the first start to the second: others archived a part of the files then, as ok."""


@pytest.fixture
def large(site: Site) -> Site:
    """Set up a job with many files."""
    for number in range(DIRECTORIES):
        os.mkdir(f"{site.source}/{number}")
    for number in range(FILES):
        path = f"{site.source}/{number % DIRECTORIES}/{number}"
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{number}\n")
    return site


def test_a_second_start_one_second_into_the_first(large: Site, disk: Disk) -> None:
    """It is refused, or waits where it may; every backup that was made has every file."""
    assert _refused(large, disk) == 1
    assert _refused(large, disk, "--wait=10m") == 0


@pytest.mark.soak
def test_fifty_overlapping_starts(large: Site, disk: Disk, soak: Soak) -> None:
    """In pairs, of which every other second one waits."""
    starts = 2 * soak.count(25)
    refused = sum(
        _refused(large, disk, *["--wait=10m"] * (number % 2)) for number in range(starts // 2)
    )
    assert refused
    soak.note(
        f"overlapping starts with {FILES:,} files: {starts}, {refused} of them refused with 75, "
        f"{starts - refused} with every file; 0 leftovers"
    )


def _refused(site: Site, disk: Disk, *options: str) -> int:
    """Start a job, and again a second later; return how many of the two were refused."""
    with site.started("backup", "--json") as first:
        time.sleep(LATER_SECONDS)
        with site.started("backup", "--json", *options) as second:
            records = [_read(first), _read(second)]
    assert disk.runs() == []
    whole = [_is_whole(site, record) for record in records]
    assert any(whole)
    return whole.count(False)


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    assert "Traceback" not in err, err
    record: dict[str, Any] = json.loads(out)
    assert record["exit_status"] == process.returncode
    return record


def _is_whole(site: Site, record: dict[str, Any]) -> bool:
    """Whether a run has made a backup, in which nothing may be missing; False: it was refused."""
    if record["outcome"] == "skipped":
        assert (record["exit_status"], record["snapshots"], record["repositories"]) == (75, [], [])
        return False
    assert record["outcome"] == "ok"
    nodes = site.nodes(only(record)["snapshot_id"])
    assert len([node for node in nodes if node["type"] == "file"]) == FILES + 1
    return True
