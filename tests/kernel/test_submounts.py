"""Other mounts below a source: never frozen by accident, never read live, included or required."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.linux.mountinfo import is_below
from tests.kernel.disks import Disk, sh
from tests.kernel.program import execute, started

if TYPE_CHECKING:
    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena

pytest_plugins = ["tests.kernel.backup_fixtures"]

BRINGS_IN = 'submounts = "include" freezes it, if nested-include names it'
INCLUDES = 'submounts = "include" freezes it'


def say(path: str, text: str = "before\n") -> str:
    """Write a file `file` in a directory; return its path."""
    Path(path, "file").write_text(text, encoding="utf-8")
    return f"{path}/file"


def below(source: str, name: str) -> str:
    """Make a directory to mount on."""
    os.makedirs(f"{source}/{name}")
    return f"{source}/{name}"


def planned(site: Site) -> tuple[dict[str, int], dict[str, tuple[str, str]]]:
    """Return the subvolumes that `plan` freezes by their places, and what it leaves out."""
    done = site.run("plan", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    left_out = {one["path"]: (one["reason"], one["remedy"]) for one in plan["left_out"]}
    return {one["path"]: one["subvolume_id"] for one in plan["frozen"]}, left_out


def test_other_mounts_are_left_out_and_named(site: Site, disk: Disk, arena: Arena) -> None:
    """By default; what of them can be included says how."""
    inner = disk.source(at=below(site.source, "inner"))
    other = below(site.source, "other")
    arena.mount_tmpfs(other)
    say(other, "live\n")
    frozen, left_out = planned(site)
    assert frozen.keys() == {site.source}
    expected = {inner: ("another mount (btrfs)", INCLUDES), other: ("another mount (tmpfs)", "")}
    assert left_out == expected
    record = site.succeed()
    assert {one["path"] for one in record["left_out"]} == {inner, other}
    assert site.listed() == ["file", "inner", "other"]


def test_mounts_of_btrfs_are_frozen_at_the_same_instant(
    site: Site, disk: Disk, arena: Arena
) -> None:
    """With what is nested in them; those of others stay left out."""
    inner = disk.source(at=below(site.source, "inner"))
    sh("btrfs", "subvolume", "create", f"{inner}/nested")
    say(f"{inner}/nested")
    other = below(site.source, "other")
    arena.mount_tmpfs(other)
    site.job["submounts"] = "include"
    record = site.succeed()
    assert record["instant"] in {"one-transaction", "unwritten"}
    assert len(record["snapshots"]) == 3
    assert [one["path"] for one in record["left_out"]] == [other]
    assert [one["remedy"] for one in record["left_out"]] == [""]
    expected = ["file", "inner", "inner/file", "inner/nested", "inner/nested/file", "other"]
    assert site.listed() == expected
    assert site.snapshots()[0]["paths"] == [site.source]


def test_an_included_mount_is_frozen_in_the_view(site: Site, disk: Disk) -> None:
    """What is written there while restic works is not in the backup."""
    file = f"{disk.source(at=below(site.source, 'inner'))}/file"
    site.job["submounts"] = "include"
    with site.paused("backup") as process:
        Path(file).write_text("after\n", encoding="utf-8")
        site.let_go()
        assert process.wait() == 0
    restored = Path(site.restored(), "inner/file")
    assert restored.read_text(encoding="utf-8") == "before\n"


def test_an_included_mount_can_be_excluded(site: Site, disk: Disk) -> None:
    """By its path, or one above it."""
    disk.source(at=below(site.source, "in/inner"))
    site.job.update({"submounts": "include", "nested-exclude": [f"{site.source}/in"]})
    assert len(site.succeed()["snapshots"]) == 1


@pytest.mark.parametrize("fs_type", ["tmpfs", "ext4", "overlay"])
def test_required_mounts_that_cannot_be_frozen_fail_the_run(
    site: Site, arena: Arena, fs_type: str
) -> None:
    """Before restic starts; mount and type are named."""
    target = below(site.source, "other")
    sh("mount", "--bind", arena.other(fs_type, 64), target)
    site.job["submounts"] = "require"
    record = site.back_up()
    assert (record["outcome"], record["exit_status"]) == ("failed", 1)
    assert f"{target}: another mount ({fs_type})" in record["failure"]["message"]
    assert site.calls() == []
    done = site.run("plan")
    assert (done.returncode, done.stdout) == (1, "")
    assert target in done.stderr


def test_required_mounts_of_btrfs_are_included(site: Site, disk: Disk) -> None:
    """Then nothing is missing."""
    disk.source(at=below(site.source, "inner"))
    site.job["submounts"] = "require"
    record = site.succeed()
    assert (len(record["snapshots"]), record["left_out"]) == (2, [])


def test_a_bind_mount_of_a_directory_shows_its_frozen_copy(site: Site, disk: Disk) -> None:
    """Of its own subvolume, or of another one: each subvolume is frozen once."""
    os.mkdir(f"{site.source}/data")
    say(f"{site.source}/data")
    other = disk.source()
    os.makedirs(f"{other}/part/of")
    say(f"{other}/part/of")
    for origin, name in ((f"{site.source}/data", "own"), (f"{other}/part", "theirs")):
        sh("mount", "--bind", origin, below(site.source, name))
    site.job["submounts"] = "include"
    assert len(site.succeed()["snapshots"]) == 2
    assert site.listed() == [
        "data", "data/file", "file", "own", "own/file", "theirs", "theirs/of", "theirs/of/file",
    ]  # fmt: skip


def test_a_directory_mounted_on_itself_is_backed_up(site: Site) -> None:
    """As systemd mounts /etc read-only for a hardened unit: it is the same directory as before."""
    sh("btrfs", "subvolume", "create", f"{site.source}/nested")
    bound = below(site.source, "plain/etc")
    inner = below(site.source, "nested/inner")
    for path in (bound, inner):
        say(path)
        sh("mount", "--bind", path, path)
        sh("mount", "-o", "remount,bind,ro", path)
    frozen, left_out = planned(site)
    assert frozen.keys() == {site.source, f"{site.source}/nested"}
    assert left_out == {}
    site.job["nested-exclude"] = [bound]
    assert planned(site)[1].keys() == {bound}
    del site.job["nested-exclude"]
    site.succeed()
    assert {"plain/etc/file", "nested/inner/file"} <= set(site.listed())


def test_a_subvolume_mounted_twice_is_frozen_once(site: Site, disk: Disk) -> None:
    """And shown at both places."""
    name = disk.arena.unique("@")
    disk.source(name, below(site.source, "one"))
    disk.mount(name, below(site.source, "two"))
    site.job["submounts"] = "include"
    assert len(site.succeed()["snapshots"]) == 2
    assert site.listed() == ["file", "one", "one/file", "two", "two/file"]


def test_a_bound_file_is_left_out(site: Site, disk: Disk) -> None:
    """Containers have them; a file has no snapshot, and the one below the mount is backed up."""
    site.write("config", "below\n")
    sh("mount", "--bind", f"{disk.source()}/file", f"{site.source}/config")
    site.job["submounts"] = "include"
    assert [one["path"] for one in site.succeed()["left_out"]] == [f"{site.source}/config"]
    assert Path(site.restored(), "config").read_text(encoding="utf-8") == "below\n"


def test_a_mount_in_a_mount_that_is_left_out(site: Site, disk: Disk, arena: Arena) -> None:
    """The view has no place for it: it is part of what is named."""
    outer = below(site.source, "outer")
    arena.mount_tmpfs(outer)
    os.mkdir(f"{outer}/inner")
    disk.source(at=f"{outer}/inner")
    site.job["submounts"] = "include"
    record = site.succeed()
    assert [one["path"] for one in record["left_out"]] == [outer]
    assert len(record["snapshots"]) == 1


def test_a_source_in_a_mount_that_is_left_out_is_an_error(
    site: Site, disk: Disk, arena: Arena
) -> None:
    """It cannot be shown at its path; restic is not started on the rest."""
    outer = below(site.source, "outer")
    arena.mount_tmpfs(outer)
    os.mkdir(f"{outer}/inner")
    inner = disk.source(at=f"{outer}/inner")
    site.job["paths"] = [site.source, inner]
    record = site.back_up()
    assert record["outcome"] == "failed"
    assert inner in json.dumps(record)
    assert site.calls("backup") == []


def test_mounts_on_top_of_each_other_and_hidden_ones(site: Site, disk: Disk, arena: Arena) -> None:
    """Only what can be seen counts: a lower mount, or one below a covered directory, does not."""
    place = below(site.source, "place")
    arena.mount_tmpfs(place)
    disk.source(at=place)
    below(site.source, "dir/hidden")
    arena.mount_tmpfs(f"{site.source}/dir/hidden")
    disk.source(at=f"{site.source}/dir")
    site.job["submounts"] = "require"
    record = site.succeed()
    assert record["left_out"] == []
    assert site.listed() == ["dir", "dir/file", "file", "place", "place/file"]


def test_a_read_only_file_system_cannot_be_included(site: Site, arena: Arena) -> None:
    """It takes no snapshot: left out and named, or required in vain."""
    disk = arena.disk(128)
    target = disk.source(at=below(site.source, "inner"))
    sh("mount", "-o", "remount,ro", disk.top)
    site.job["submounts"] = "include"
    assert [one["path"] for one in site.succeed()["left_out"]] == [target]
    site.job["submounts"] = "require"
    assert target in site.back_up()["failure"]["message"]


def test_mounts_of_another_btrfs_are_included_with_their_own_proof(
    site: Site, arena: Arena
) -> None:
    """Each file system at its own instant; together they are skewed."""
    arena.disk(256).source(at=below(site.source, "inner"))
    site.job["submounts"] = "include"
    record = site.succeed()
    assert record["instant"] == "skewed"
    assert [one["instant"] for one in record["file_systems"]] == ["single", "single"]


def _layout(disk: Disk, base: str, mounts: dict[str, str]) -> None:
    """Mount subvolumes at paths below `base`, parents first, with a file in each."""
    for path, subvolume in mounts.items():
        disk.mount(subvolume, os.path.join(base, path))
        say(os.path.join(base, path), f"{subvolume}\n")


LAYOUTS = {
    "Debian": (["@rootfs"], {"": "@rootfs"}),
    "Ubuntu": (["@", "@home"], {"": "@", "home": "@home"}),
    "Fedora": (["root", "home", "var"], {"": "root", "home": "home", "var": "var"}),
    "Arch": (
        ["@", "@home", "@log", "@pkg", "@snapshots"],
        {"": "@", "home": "@home", "var/log": "@log", "var/cache/pacman/pkg": "@pkg",
         ".snapshots": "@snapshots"},
    ),
    "openSUSE": (
        ["@", "@/.snapshots", "@/.snapshots/1", "@/.snapshots/1/snapshot", "@/home", "@/var",
         "@/opt", "@/usr/local", "@/boot/grub2/x86_64-efi"],
        {"": "@/.snapshots/1/snapshot", "home": "@/home", "var": "@/var", "opt": "@/opt",
         "usr/local": "@/usr/local", "boot/grub2/x86_64-efi": "@/boot/grub2/x86_64-efi",
         ".snapshots": "@/.snapshots"},
    ),
    "in the top level": ([], {"": ""}),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_default_layouts_of_distributions(site: Site, arena: Arena, name: str) -> None:
    """Everything that is mounted below is left out and named, or frozen at one instant."""
    subvolumes, mounts = LAYOUTS[name]
    disk = arena.disk(256)
    for path in subvolumes:
        plain = path == "@/.snapshots/1"
        os.makedirs(os.path.dirname(f"{disk.top}/{path}"), exist_ok=True)
        os.mkdir(f"{disk.top}/{path}") if plain else disk.create(path)
    base = arena.directory()
    _layout(disk, base, mounts)
    site.source = base
    site.job["paths"] = [base]
    inner = {os.path.join(base, path) for path in mounts if path}
    frozen, left_out = planned(site)
    assert frozen.keys() == {base}
    kept = {f"{base}/.snapshots"} & inner
    expected = dict.fromkeys(inner, ("another mount (btrfs)", INCLUDES))
    assert left_out == expected | dict.fromkeys(kept, ("snapshots that snapper keeps", BRINGS_IN))
    site.job["submounts"] = "require"
    frozen, left_out = planned(site)
    assert (set(frozen), set(left_out)) == ({base} | inner - kept, kept)
    record = site.succeed()
    assert record["instant"] in {"single", "one-transaction", "unwritten"}
    restored = site.restored()
    for path, subvolume in mounts.items():
        if path == ".snapshots":
            assert os.listdir(f"{restored}/.snapshots") == []
            continue
        text = Path(restored, path, "file").read_text(encoding="utf-8")
        assert text == f"{subvolume}\n"
    assert not any(is_below(f"/{one}", "/.holdstill") for one in site.listed())


def test_a_root_mounted_by_its_id_and_nested_homes(arena: Arena, site: Site) -> None:
    """Flat and nested at once: `@home` is a mount, `@/srv` is nested; `subvolid=` names both."""
    disk = arena.disk(256)
    for path in ("@", "@home", "@/srv"):
        disk.create(path)
        say(f"{disk.top}/{path}")
    base = arena.directory()
    for path, name in (("", "@"), ("home", "@home")):
        number = sh("btrfs", "inspect-internal", "rootid", f"{disk.top}/{name}").strip()
        os.makedirs(os.path.join(base, path), exist_ok=True)
        target = os.path.join(base, path)
        sh("mount", "-t", "btrfs", "-o", f"subvolid={number}", disk.device, target)
    site.source = base
    site.job.update({"paths": [base, f"{base}/home"]})
    record = site.succeed()
    assert (len(record["snapshots"]), record["left_out"]) == (3, [])
    assert site.listed() == ["file", "home", "home/file", "srv", "srv/file"]
    assert sorted(site.snapshots()[0]["paths"]) == [base, f"{base}/home"]


def test_a_file_system_on_two_devices(arena: Arena) -> None:
    """Mountinfo names one of them; that is enough."""
    with (
        arena.block_device(256, "true") as second,
        arena.block_device(256, "mkfs.btrfs", "-q", "-f", "-m", "raid1", second) as first,
    ):
        sh("btrfs", "device", "scan", first, second)
        top = arena.directory(arena.unique("top"))
        sh("mount", "-t", "btrfs", "-o", f"subvolid=5,device={second}", first, top)
    disk = Disk(first, arena, top)
    arena.disks.append(disk)
    source = disk.source("@")
    sh("btrfs", "subvolume", "create", f"{source}/nested")
    files = [f"{source}/file", say(f"{source}/nested")]
    with started(source, "sh", "-c", 'echo ready; read -r _; cat "$@"', "sh", *files) as run:
        assert run.line() == "ready"
        Path(files[1]).write_text("after\n", encoding="utf-8")
        run.let_go()
        assert run.finish().stdout == "before\n" * 2
    assert disk.runs() == []


def test_hundreds_of_mounts_below_a_source(source: str, arena: Arena) -> None:
    """All are named, and none is read."""
    for number in range(100):
        arena.mount_tmpfs(below(source, f"m{number}"))
    done = execute(source, "true")
    assert done.stderr.count("another mount (tmpfs)") == 100
