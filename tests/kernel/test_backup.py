"""`holdstill backup`: restic makes one snapshot of what was frozen, at its original paths."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.backups import each_restic, host_mounts, only, timestamps
from tests.kernel.disks import sh

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]


@each_restic
def test_a_backup_restores_to_what_was_frozen(site: Site) -> None:
    """Files, directories and links come back as they were."""
    site.write("deep/er/note", "hello\n")
    os.symlink("note", f"{site.source}/deep/er/link")
    os.link(f"{site.source}/file", f"{site.source}/deep/same")
    record = site.succeed()
    restored = site.restored()
    assert Path(restored, "file").read_text(encoding="utf-8") == "before\n"
    assert Path(restored, "deep/er/note").read_text(encoding="utf-8") == "hello\n"
    assert os.readlink(f"{restored}/deep/er/link") == "note"
    assert os.path.samefile(f"{restored}/file", f"{restored}/deep/same")
    assert only(record)["total_files"] == len(("file", "note", "same"))


@each_restic
def test_the_snapshot_has_the_jobs_paths_host_and_tags(site: Site) -> None:
    """Restic records exactly what the configuration says, not where the snapshot was."""
    site.job["tags"] = ["nightly", "systemd.timer"]
    record = site.succeed()
    (snapshot,) = site.snapshots()
    assert snapshot["paths"] == [site.source]
    assert snapshot["tags"] == ["nightly", "systemd.timer"]
    assert snapshot["hostname"] == socket.gethostname()
    assert snapshot["id"].startswith(only(record)["snapshot_id"])


@each_restic
def test_the_snapshot_carries_the_instant_of_the_freeze(site: Site) -> None:
    """Restic's time is the record's frozen_at, which lies between start and end of the run."""
    before = datetime.now(UTC)
    record = site.succeed()
    (snapshot,) = site.snapshots()
    frozen_at = datetime.fromisoformat(record["frozen_at"])
    assert datetime.fromisoformat(snapshot["time"]) == frozen_at
    assert before < frozen_at < datetime.now(UTC)
    assert datetime.fromisoformat(record["started"]) < frozen_at


def test_the_time_is_right_in_another_time_zone(site: Site) -> None:
    """A TZ in the environment changes how the instant is written, not which one it is."""
    site.environment["TZ"] = "Pacific/Chatham"
    record = site.succeed()
    (snapshot,) = site.snapshots()
    when = datetime.fromisoformat(snapshot["time"])
    assert when == datetime.fromisoformat(record["frozen_at"])
    assert snapshot["time"][-6:] in {"+13:45", "+12:45"}


@each_restic
def test_the_second_backup_finds_its_parent(site: Site) -> None:
    """Only what changed is read again: the frozen file is the same file to restic."""
    site.write("same", "s" * 1000)
    site.succeed()
    site.write("new")
    second = only(site.succeed())
    assert (second["files_new"], second["files_changed"], second["files_unmodified"]) == (1, 0, 2)
    assert site.snapshots()[1]["parent"] == site.snapshots()[0]["id"]


@each_restic
def test_one_process_for_the_backup_and_one_for_the_retention(site: Site) -> None:
    """Neither looks at the repository first, nor asks for the version again."""
    site.job.update(keep={"daily": 7}, prune={})
    site.succeed()
    assert site.commands() == ["version", "backup", "forget"]
    site.forget_calls()
    site.succeed()
    assert site.commands() == ["backup", "forget"]


def test_a_new_binary_is_asked_for_its_version_again(site: Site) -> None:
    """What is remembered belongs to one file: an upgrade replaces it."""
    site.succeed()
    site.install_restic(before=":")
    site.forget_calls()
    site.succeed()
    assert site.commands() == ["version", "backup"]


@each_restic
def test_excludes_work_as_on_the_live_path(site: Site) -> None:
    """Patterns, a file of patterns that lies in the source, and marked directories."""
    for name in ("keep", "drop.o", "abs/secret", "listed/x", "marked/.resticignore", "marked/y"):
        site.write(name)
    patterns = site.write(".restic_exclude", f"{site.source}/listed\n")
    site.job["exclude"] = ["*.o", f"{site.source}/abs/secret"]
    site.job["exclude-files"] = [patterns]
    site.job["exclude-if-present"] = [".resticignore"]
    site.succeed()
    files = [path for path in site.listed() if not os.path.isdir(f"{site.source}/{path}")]
    assert files == [".restic_exclude", "file", "keep", "marked/.resticignore"]


def test_the_exclude_file_is_the_frozen_one(site: Site) -> None:
    """Excludes belong to the instant: what is written to them later does not count."""
    patterns = site.write(".restic_exclude", "secret\n")
    site.write("secret")
    site.job["exclude-files"] = [patterns]
    with site.paused("backup") as process:
        os.unlink(patterns)
        site.let_go()
        assert process.wait() == 0
    assert site.listed() == [".restic_exclude", "file"]


def test_a_missing_exclude_file_fails_the_run(site: Site) -> None:
    """Without its excludes a backup is not what was asked for."""
    site.job["exclude-files"] = [f"{site.source}/nowhere"]
    record = site.back_up()
    assert record["outcome"] == "failed"
    assert any("nowhere" in warning for warning in record["warnings"])
    assert site.snapshots() == []


def test_a_directory_inside_a_subvolume_is_a_source(site: Site) -> None:
    """The path may be any directory: what lies beside it is not in the backup."""
    site.write("inner/note")
    site.job["paths"] = [f"{site.source}/inner"]
    site.succeed()
    (snapshot,) = site.snapshots()
    assert snapshot["paths"] == [f"{site.source}/inner"]
    assert site.listed() == ["inner", "inner/note"]


def test_two_directories_of_one_subvolume_are_frozen_together(site: Site) -> None:
    """They share one snapshot, so they are of one instant."""
    site.write("a/x")
    site.write("b/y")
    site.job["paths"] = [f"{site.source}/a", f"{site.source}/b"]
    record = site.succeed()
    assert (record["instant"], len(record["snapshots"])) == ("single", 1)
    assert site.listed() == ["a", "a/x", "b", "b/y"]


@each_restic
def test_nothing_is_left_and_the_host_has_not_noticed(site: Site, disk: Disk) -> None:
    """No snapshot, no run, no temporary file, no mount; no timestamp in the source has moved."""
    site.job.update(keep={"last": 1}, prune={})
    mounts, times = host_mounts(), timestamps(site.source)
    site.succeed()
    assert (disk.runs(), disk.snapshots()) == ([], [])
    assert os.listdir(site.path("tmp")) == []
    assert host_mounts() == mounts
    assert timestamps(site.source) == times


def test_no_mount_shows_on_the_host_while_it_runs(site: Site) -> None:
    """The host's table of mounts is the same in the middle of a backup."""
    before = host_mounts()
    with site.paused("backup") as process:
        during = host_mounts()
        site.let_go()
        assert process.wait() == 0
    assert during == before


def test_what_is_nested_or_mounted_below_is_named(site: Site, disk: Disk) -> None:
    """What the backup lacks stands in the record, with the reason, and is said in a line."""
    disk.arena.mount_tmpfs(os.path.dirname(site.write("tmpfs/x")))
    sh("btrfs", "subvolume", "create", f"{site.source}/nested")
    site.job["nested"] = "skip"
    done = site.run("backup", "--json")
    record = json.loads(done.stdout)
    assert [(one["path"], one["reason"]) for one in record["left_out"]] == [
        (f"{site.source}/nested", 'a subvolume of its own, and nested = "skip"'),
        (f"{site.source}/tmpfs", "another mount (tmpfs)"),
    ]
    assert "nested-include" in record["left_out"][0]["remedy"]
    assert f"left out: {site.source}/nested, {site.source}/tmpfs" in done.stderr
