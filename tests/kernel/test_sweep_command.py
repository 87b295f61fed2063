"""`holdstill sweep`: what dead runs have left is removed, and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.kernel.backups import wait_until
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


def _die_in_the_middle(site: Site) -> None:
    """Kill holdstill and its restic while a snapshot exists."""
    with site.paused("backup") as process:
        process.kill()
        process.wait()
        pid = site.calls("backup")[0].pid
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    site.let_go()
    site.install_restic()
    site.forget_calls()


def test_nothing_to_do(site: Site) -> None:
    """It says nothing and exits with 0."""
    done = site.run("sweep")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_removes_what_a_dead_run_has_left(site: Site, disk: Disk) -> None:
    """A line for each run, with its snapshots and its device; a second sweep finds nothing."""
    _die_in_the_middle(site)
    (run,) = disk.runs()
    dry = site.run("sweep", "--dry-run")
    assert dry.stdout == f"would remove 1 snapshot of run {run} on {disk.device}\n"
    assert len(disk.snapshots()) == 1
    done = site.run("sweep")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"removing 1 snapshot of run {run} on {disk.device}\n"
    assert (disk.runs(), disk.snapshots()) == ([], [])
    assert site.run("sweep").stdout == ""


def test_a_run_that_is_alive_is_not_swept(site: Site, disk: Disk) -> None:
    """The backup goes on undisturbed and ends well."""
    with site.paused("backup") as process:
        done = site.run("sweep")
        assert (done.returncode, done.stdout) == (0, "")
        assert len(disk.snapshots()) == 1
        site.let_go()
        assert process.wait() == 0
    assert site.listed() == ["file"]


def test_what_is_not_ours_is_left_alone_and_named(site: Site, disk: Disk) -> None:
    """A writable subvolume of somebody in a dead run's place: 1, a warning, and it stays."""
    _die_in_the_middle(site)
    (run,) = disk.runs()
    mine = f"{disk.staging()}/{run}/7"
    os.mkdir(mine)
    sh("btrfs", "subvolume", "create", f"{mine}/precious")
    done = site.run("sweep")
    assert done.returncode == 1
    assert "7/precious: not a snapshot that holdstill took" in done.stderr
    assert os.path.isdir(f"{mine}/precious")
    assert len(disk.snapshots()) == 1
    record = site.succeed()
    assert any("7/precious" in warning for warning in record["warnings"])
    sh("btrfs", "subvolume", "delete", f"{mine}/precious")
    assert site.run("sweep").returncode == 0
    assert disk.runs() == []
