"""What restic reads is the snapshot or nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import each_restic, only, wait_until
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

# Counts in two files, always first in the one that restic reads first.
_WRITER = """
import os, sys, itertools
files = [os.open(os.path.join(sys.argv[1], name), os.O_RDWR | os.O_CREAT) for name in ("a", "z")]
for number in itertools.count():
    for file in files:
        os.pwrite(file, b"%020d" % number, 0)
        os.fdatasync(file)
"""


@each_restic
def test_files_that_change_all_the_time_are_of_one_instant(site: Site) -> None:
    """`z` is never newer than `a`, which is always written and synced before it."""
    for number in range(8):
        site.write(f"between{number}", os.urandom(4 << 20))
    with subprocess.Popen([sys.executable, "-IS", "-c", _WRITER, site.source]) as writer:
        try:
            wait_until(lambda: os.path.exists(f"{site.source}/z"))
            site.succeed()
        finally:
            writer.kill()
    restored = Path(site.restored())
    first, second = (int((restored / name).read_bytes()) for name in ("a", "z"))
    assert first - second in {0, 1}


def test_what_happens_after_the_freeze_is_not_in_the_backup(site: Site) -> None:
    """Files that were changed, removed and made before restic began are as they were."""
    site.write("doomed", "still here\n")
    with site.paused("backup") as process:
        site.write("file", "after\n")
        site.write("new")
        os.unlink(f"{site.source}/doomed")
        site.let_go()
        assert process.wait() == 0
    restored = Path(site.restored())
    assert sorted(os.listdir(restored)) == ["doomed", "file"]
    assert (restored / "file").read_text(encoding="utf-8") == "before\n"


def _unmount_in_the_view(site: Site, _: Disk) -> None:
    sh("nsenter", "-t", str(site.calls("backup")[0].pid), "-m", "umount", "-l", site.source)


def _cover_in_the_view(site: Site, _: Disk) -> None:
    pid = str(site.calls("backup")[0].pid)
    sh("nsenter", "-t", pid, "-m", "umount", "-l", site.source)
    sh("nsenter", "-t", pid, "-m", "mount", "--bind", site.path("tmp"), site.source)


def _delete_the_snapshot(_: Site, disk: Disk) -> None:
    for path in disk.snapshots():
        sh("btrfs", "subvolume", "delete", f"{disk.top}/{path}")


@pytest.mark.parametrize(
    "sabotage", [_unmount_in_the_view, _cover_in_the_view, _delete_the_snapshot]
)
def test_a_view_that_is_sabotaged_fails_the_run(
    site: Site, disk: Disk, sabotage: Callable[[Site, Disk], None]
) -> None:
    """Restic ends well, and is not believed: what it read was not, or not only, the snapshot."""
    site.job.update(keep={"last": 1})
    with site.paused("backup") as process:
        sabotage(site, disk)
        site.let_go()
        out, err = process.communicate()
    assert process.returncode == 1
    assert "data: failed" in out
    assert "lost its snapshot" in err
    assert "snapshot" in err
    assert site.commands() == ["version", "backup", "forget"]
    assert site.snapshots() == []


@each_restic
def test_only_what_cannot_be_trusted_is_removed(site: Site, disk: Disk) -> None:
    """By its id: the backups of other runs stay, and the record says what was done."""
    good = only(site.succeed())["snapshot_id"]
    with site.paused("backup", "--json") as process:
        _delete_the_snapshot(site, disk)
        site.let_go()
        record = json.loads(process.communicate()[0])
    message = only(record)["failure"]["message"]
    assert re.search(
        r"lost its snapshot at .*; restic's snapshot [0-9a-f]{8} was removed$", message
    )
    assert only(record)["snapshot_id"] == ""
    assert [one["id"][:8] for one in site.snapshots()] == [good[:8]]


def test_what_cannot_be_trusted_and_not_be_removed_is_named(site: Site, disk: Disk) -> None:
    """The record says which one it is, why it is still there, and how to remove it."""
    with site.paused("backup", "--json") as process:
        _delete_the_snapshot(site, disk)
        site.install_restic(before='[ "$1" != forget ] || { echo Fatal: no way >&2; exit 1; }')
        site.let_go()
        record = json.loads(process.communicate()[0])
    failure = only(record)["failure"]
    (left,) = site.snapshots()
    assert f"restic's snapshot {left['id'][:8]} could not be removed: " in failure["message"]
    assert "no way" in failure["message"]
    assert failure["remedy"].endswith(f"holdstill restic data -- forget {left['id'][:8]}")


def _assert_never_live(site: Site, *words: str) -> None:
    done = site.run("backup", "--json")
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert site.commands() in ([], ["version"])
    assert site.snapshots() == []


def test_a_file_system_that_is_read_only_is_not_read_live(arena: Arena, site: Site) -> None:
    """No snapshot can be taken: restic is not started."""
    disk = arena.disk(256)
    site.source = disk.source()
    site.job["paths"] = [site.source]
    sh("mount", "-o", "remount,ro", disk.top)
    sh("mount", "-o", "remount,ro", site.source)
    _assert_never_live(site, site.source, "read-only")


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_staging_directory_of_others_is_not_used(arena: Arena, site: Site, mode: int) -> None:
    """Where others could exchange snapshots there is no freeze, and no backup."""
    disk = arena.disk(256)
    site.job["paths"] = [disk.source()]
    os.chmod(disk.staging(), mode)
    _assert_never_live(site, ".holdstill", "not safe")


def test_a_staging_directory_that_is_a_file_is_not_used(arena: Arena, site: Site) -> None:
    """Something of that name that is no directory stops the run before restic."""
    disk = arena.disk(256)
    site.job["paths"] = [disk.source()]
    Path(disk.top, ".holdstill").write_text("mine", encoding="utf-8")
    _assert_never_live(site, ".holdstill")
    os.unlink(f"{disk.top}/.holdstill")


@pytest.mark.parametrize("place", ["cache", "tmp", "repository"])
def test_a_source_inside_what_must_stay_live_is_refused(site: Site, place: str) -> None:
    """What restic writes to is live in the view, so nothing in it can be a source."""
    inside = f"{site.source}/{place}/inside"
    os.makedirs(inside)
    site.job["paths"] = [inside]
    if place == "cache":
        site.directories["cache-directory"] = f"{site.source}/cache"
        os.rename(inside, f"{site.source}/cache/restic")
        site.job["paths"] = [f"{site.source}/cache/restic"]
    elif place == "tmp":
        site.environment["TMPDIR"] = f"{site.source}/tmp"
    else:
        site.add_repository("main", f"{site.source}/repository")
    _assert_never_live(site, "would be read live")


def test_a_full_file_system_is_not_read_live(arena: Arena, site: Site) -> None:
    """There is no room for a snapshot: the error says so, and restic is not started."""
    disk = arena.disk(64, "--mixed")
    site.source = disk.source()
    site.job["paths"] = [site.source]
    disk.staging()
    _fill(site.source)
    _assert_never_live(site, "No space left", "free some space")


def _fill(directory: str) -> None:
    for size in (1 << 20, 1 << 12, 1 << 8):
        number = 0
        try:
            while True:
                with open(f"{directory}/{size}-{number}", "wb") as file:
                    file.write(os.urandom(size))
                    if size > 1 << 10:
                        os.fsync(file.fileno())
                number += 1
        except OSError:
            continue
    os.sync()


def test_a_mount_that_is_read_only_can_be_frozen(site: Site, disk: Disk) -> None:
    """The file system takes the snapshot, not the mount: a read-only one is backed up."""
    name = disk.arena.unique("@")
    disk.create(name)
    Path(disk.top, name, "file").write_text("x", encoding="utf-8")
    site.source = disk.mount(name, options="ro")
    site.job["paths"] = [site.source]
    assert only(site.succeed())["files_new"] == 1
