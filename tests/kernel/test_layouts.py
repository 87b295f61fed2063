"""Mounts of every kind below a source, and file systems that are laid out in every way."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel import dead_mounts
from tests.kernel.disks import Disk, sh
from tests.kernel.program import execute, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena

pytest_plugins = ["tests.kernel.backup_fixtures"]

KINDS = ("ext4", "tmpfs", "overlay", *dead_mounts.KINDS)


@contextmanager
def mounted(arena: Arena, kind: str, target: str) -> Iterator[None]:
    """Mount a file system that is not btrfs in a new directory."""
    os.makedirs(target)
    if kind in dead_mounts.KINDS:
        with dead_mounts.dead(kind, target):
            yield
    else:
        sh("mount", "--bind", arena.other(kind, 64), target)
        Path(target, "live").touch()
        yield


def left_out(site: Site) -> dict[str, str]:
    """Return what `plan` leaves out, and why."""
    done = site.run("plan", "--json")
    assert done.returncode == 0, done.stderr
    return {one["path"]: one["reason"] for one in json.loads(done.stdout)["left_out"]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mount_of_another_kind_is_named_and_not_looked_at(
    site: Site, arena: Arena, kind: str
) -> None:
    """Even if mounts are to be included. A dead server cannot stop a run: it is asked nothing."""
    target = f"{site.source}/other"
    site.job["submounts"] = "include"
    with mounted(arena, kind, target):
        assert left_out(site) == {target: f"another mount ({kind.partition(' ')[0]})"}
        done = execute(site.source, "find", site.source, "-mindepth", "1")
        assert sorted(done.stdout.split()) == [f"{site.source}/file", target]


def test_a_backup_beside_mounts_of_every_kind(site: Site, arena: Arena) -> None:
    """Restic finds empty directories in their places, and the record names them all."""
    places = [f"{site.source}/{number}" for number in range(len(KINDS))]
    with ExitStack() as mounts:
        for kind, place in zip(KINDS, places, strict=True):
            mounts.enter_context(mounted(arena, kind, place))
        record = site.succeed()
    assert [one["path"] for one in record["left_out"]] == places
    assert site.listed() == [*map(os.path.basename, places), "file"]


@pytest.mark.parametrize("kind", [kind for kind in dead_mounts.KINDS if kind != "fuse"])
def test_a_dead_mount_beside_the_source_is_not_looked_at(
    site: Site, arena: Arena, kind: str
) -> None:
    """It lies on the same mount, outside of what is backed up; the view does without it."""
    os.mkdir(f"{site.source}/dir")
    with mounted(arena, kind, f"{site.source}/beside"):
        done = execute(f"{site.source}/dir", "ls", f"{site.source}/beside")
    assert (done.returncode, done.stdout) == (0, "")


def frozen_content(source: str, *files: str) -> str:
    """Return what files say in a view of a source after they were changed on the host."""
    script = 'echo ready; read -r _; cat "$@"'
    with started(source, "sh", "-c", script, "sh", *files) as run:
        assert run.line() == "ready"
        for file in files:
            Path(file).write_text("after\n", encoding="utf-8")
        run.let_go()
        done = run.finish()
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_opensuse_with_its_snapshots(site: Site, arena: Arena) -> None:
    """The root is a writable snapshot, mounted by default; snapper keeps others beside it."""
    disk = arena.disk(256)
    beside = ["home", "opt", "root", "srv", "usr/local", "var", "boot/grub2/x86_64-efi"]
    disk.create("@")
    disk.create("@/.snapshots")
    for path in beside:
        os.makedirs(os.path.dirname(f"{disk.top}/@/{path}"), exist_ok=True)
        Path(disk.create(f"@/{path}"), "file").touch()
    kept = f"{disk.top}/@/.snapshots"
    for number in range(1, 6):
        os.mkdir(f"{kept}/{number}")
    disk.create("@/.snapshots/1/snapshot")
    Path(kept, "1/snapshot/file").touch()
    for path in (".snapshots", *beside):
        os.makedirs(f"{kept}/1/snapshot/{path}")
    for number in range(2, 6):  # after rollbacks the root is a snapshot of a snapshot
        options = [] if number == 4 else ["-r"]
        origin = f"{kept}/{4 if number == 5 else 1}/snapshot"
        sh("btrfs", "subvolume", "snapshot", *options, origin, f"{kept}/{number}/snapshot")
    sh("btrfs", "subvolume", "set-default", f"{kept}/4/snapshot")
    base = arena.directory()
    sh("mount", "-t", "btrfs", disk.device, base)
    for path in (".snapshots", *beside):
        disk.mount(f"@/{path}", f"{base}/{path}")
    site.source, site.job["paths"] = base, [base]
    assert left_out(site) == {f"{base}/{path}": "another mount (btrfs)" for path in beside} | {
        f"{base}/.snapshots": "snapshots that snapper keeps"
    }
    site.job["submounts"] = "require"
    record = site.succeed()
    assert [one["path"] for one in record["left_out"]] == [f"{base}/.snapshots"]
    assert len(record["snapshots"]) == 1 + len(beside)
    assert record["instant"] in {"one-transaction", "unwritten"}
    assert {"file", *(f"{path}/file" for path in beside)} <= set(site.listed())
    assert not any(path.startswith(".snapshots/") for path in site.listed())


def test_a_file_system_that_has_grown_from_a_seed(arena: Arena) -> None:
    """Its first device is read-only for ever; the subvolumes on it have the seed's uuids."""
    with (
        arena.block_device(256, "mkfs.btrfs", "-q") as seed,
        arena.block_device(256, "true") as sprout,
    ):
        top = arena.directory(arena.unique("top"))
        sh("mount", "-t", "btrfs", "-o", "subvolid=5", seed, top)
        sh("btrfs", "subvolume", "create", f"{top}/@")
        sh("btrfs", "subvolume", "create", f"{top}/@/nested")
        for path in ("@", "@/nested"):
            Path(top, path, "file").write_text("before\n", encoding="utf-8")
        sh("umount", top)
        sh("btrfstune", "-S", "1", seed)
        sh("mount", "-t", "btrfs", "-o", "subvolid=5", seed, top)
        assert "read-only: it takes no snapshot" in execute(f"{top}/@", "true").stderr
        sh("btrfs", "device", "add", "-f", sprout, top)
        sh("mount", "-o", "remount,rw", top)
        disk = Disk(sprout, arena, top)
        arena.disks.append(disk)
        source = disk.mount("@")
        files = (f"{source}/file", f"{source}/nested/file")
        assert frozen_content(source, *files) == "before\n" * 2
        assert disk.runs() == []


def test_a_mirror_that_has_lost_a_disk(arena: Arena) -> None:
    """The night after a disk died is no time to be without a backup."""
    with arena.block_device(256, "true") as lost:
        with arena.block_device(256, "mkfs.btrfs", "-q", "-f", "-draid1", "-mraid1", lost) as left:
            top = arena.directory(arena.unique("top"))
            sh("wipefs", "-a", lost)
            sh("mount", "-t", "btrfs", "-o", "subvolid=5,degraded", left, top)
        disk = Disk(left, arena, top)
        arena.disks.append(disk)
        source = disk.source("@")
        assert frozen_content(source, f"{source}/file") == "before\n"
        assert disk.runs() == []


def test_the_options_of_a_file_system_stay(arena: Arena) -> None:
    """Those that the host has mounted it with are neither needed nor changed."""
    disk = arena.disk(256)
    sh("mount", "-o", "remount,compress=zstd:3,commit=120,nodiscard,autodefrag", disk.top)
    source = disk.source("root")
    before = arena.rows()
    assert "commit=120" in next(row for row in before if row.mount_point == source).super_options
    assert frozen_content(source, f"{source}/file") == "before\n"
    assert arena.rows() == before


def test_a_flat_layout_below_one_directory(site: Site, arena: Arena) -> None:
    """Subvolumes beside each other in the top level, mounted below a directory of another disk."""
    outer, inner = arena.disk(256), arena.disk(256)
    base = outer.source("@")
    for name in ("one", "two"):
        inner.source(name, at=f"{base}/{name}")
    site.source, site.job["paths"] = base, [f"{base}/one", f"{base}/two"]
    record = site.succeed()
    assert record["instant"] in {"one-transaction", "unwritten"}
    assert (len(record["snapshots"]), record["left_out"]) == (2, [])
    assert site.listed() == ["one", "one/file", "two", "two/file"]
    assert outer.runs() == []
