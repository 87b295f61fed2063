"""`holdstill plan`: what a run would do, and nothing is done."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import struct
from typing import TYPE_CHECKING, Any

import pytest

from holdstill import freeze
from holdstill.snapshots.btrfs import read_tree
from tests.kernel.backups import PASSWORD, each_restic, host_mounts
from tests.kernel.disks import sh, swapping

if TYPE_CHECKING:
    from holdstill.linux.mountinfo import Mount
    from holdstill.snapshots.tree import Tree
    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]
pytestmark = pytest.mark.usefixtures("swap_alone")


def _plan(site: Site) -> dict[str, Any]:
    done = site.run("plan", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def test_says_what_is_frozen_and_left_out(site: Site, disk: Disk) -> None:
    """Subvolume, device, where it shows, and what is not in the backup with the reason."""
    sh("btrfs", "subvolume", "create", f"{site.source}/nested")
    os.mkdir(f"{site.source}/mounted")
    disk.arena.mount_tmpfs(f"{site.source}/mounted")
    site.job["nested"] = "skip"
    plan = _plan(site)
    (frozen,) = plan["frozen"]
    assert (frozen["path"], frozen["device"]) == (site.source, disk.device)
    assert plan["paths"] == [site.source]
    assert [(one["path"], one["reason"]) for one in plan["left_out"]] == [
        (f"{site.source}/mounted", "another mount (tmpfs)"),
        (f"{site.source}/nested", 'a subvolume of its own, and nested = "skip"'),
    ]
    (source,) = plan["sources"]
    assert (source["path"], source["mount"]["mount_point"]) == (site.source, site.source)
    assert plan["notes"] == plan["warnings"] == plan["failures"] == []
    text = site.run("plan").stdout
    name = f"subvolume {frozen['subvolume_id']} ({frozen['subvolume']})"
    assert f"      btrfs on {disk.device}: {name}, mounted here\n" in text
    assert f"    {site.source}  snapshot of {name}\n" in text
    assert f"    another mount (tmpfs)\n      {site.source}/mounted\n" in text


@each_restic
def test_the_printed_commands_are_the_executed_ones(site: Site) -> None:
    """Each line splits, as a shell would, into what restic is then started with."""
    site.job.update(tags=["a b"], exclude=["*.o", "it's"], keep={"last": 2}, prune={})
    commands = [shlex.split(line) for line in _plan(site)["commands"]]
    site.succeed()
    executed = site.calls("backup", "forget")
    for printed, call in zip(commands, executed, strict=True):
        words = list(call.argv)
        if "--time" in words:
            del words[words.index("--time") : words.index("--time") + 2]
        start = next(number for number, word in enumerate(printed) if word[0] == "/")
        variables = dict(word.split("=", 1) for word in printed[:start])
        assert printed[start + 1 :] == words
        assert {name: call.environment[name] for name in variables} == variables


def test_changes_nothing(site: Site, disk: Disk) -> None:
    """No snapshot, no mount, no restic but for its version; --dry-run prints the same."""
    mounts = host_mounts()
    planned, dry = site.run("plan"), site.run("backup", "--dry-run")
    assert (planned.returncode, planned.stdout) == (0, dry.stdout)
    assert (disk.runs(), disk.snapshots(), host_mounts()) == ([], [], mounts)
    assert site.commands() == ["version"]
    assert site.snapshots() == []
    dry_json = site.run("backup", "--dry-run", "--json")
    assert json.loads(dry_json.stdout)["job"] == "data"


def test_gives_no_secret_away(site: Site) -> None:
    """The password's file is named, the password is not."""
    done = site.run("plan")
    assert site.path("password") in done.stdout
    assert PASSWORD not in done.stdout


def test_every_job_is_planned(site: Site) -> None:
    """All jobs when none is named, one object a line."""
    site.jobs["second"] = dict(site.job)
    done = site.run("plan", "--json")
    assert [json.loads(line)["job"] for line in done.stdout.splitlines()] == ["data", "second"]


def test_a_job_that_cannot_be_planned_does_not_hide_the_next(site: Site) -> None:
    """Its error names it, and is the command's exit status."""
    site.jobs = {"bad": {**site.job, "paths": [site.path("nowhere")]}, "data": site.job}
    done = site.run("plan")
    assert done.returncode == 1
    assert done.stderr == (
        f"holdstill: error: bad: {site.path('nowhere')} cannot be looked at: "
        "No such file or directory\n  is its disk mounted?\n"
    )
    assert done.stdout.startswith("data\n  sources\n")
    bad, data = map(json.loads, site.run("plan", "--json").stdout.splitlines())
    assert (bad["job"], [one["remedy"] for one in bad["failures"]]) == (
        "bad",
        ["is its disk mounted?"],
    )
    assert (data["job"], data["failures"], len(data["frozen"])) == ("data", [], 1)


def test_all_bad_paths_of_a_job_are_named_at_once(site: Site, arena: Arena) -> None:
    """Each with its remedy, whatever file system it is on; the good ones are not."""
    other = arena.disk(128).source("@")
    os.symlink("file", f"{other}/link")
    tmpfs = arena.other("tmpfs")
    bad = [f"{site.source}/nowhere", tmpfs, f"{other}/link", f"{other}/file"]
    site.job["paths"] = [site.source, *bad, other]
    for command in ("plan", "backup"):
        done = site.run(command)
        first, *lines = done.stderr.splitlines()
        assert (done.returncode, first) == (
            1,
            "holdstill: error: data: 4 paths cannot be frozen",
        )
        assert [line.split()[0] for line in lines] == bad
        assert "(is its disk mounted?)" in lines[0]
        assert "(only paths on btrfs can be frozen)" in lines[1]
        assert f"(name {other}/file instead)" in lines[2]
        assert f"(name its directory, {other})" in lines[3]
    assert site.commands() == []


def test_a_wish_that_matches_nothing_is_a_warning(site: Site) -> None:
    """A typo, most likely; a run records it."""
    for name in ("logs", "photos"):
        sh("btrfs", "subvolume", "create", f"{site.source}/{name}")
    site.job["nested-exclude"] = [f"{site.source}/logs", f"{site.source}/phtos"]
    site.job["nested-include"] = [f"{site.source}/log"]
    expected = [
        f"{key}: no subvolume or mount below the paths is at or in {site.source}/{name}"
        for key, name in (("nested-exclude", "phtos"), ("nested-include", "log"))
    ]
    done = site.run("plan", "--json")
    assert (done.returncode, json.loads(done.stdout)["warnings"]) == (0, expected)
    assert done.stderr == "".join(f"holdstill: warning: data: {text}\n" for text in expected)
    assert site.succeed()["warnings"] == expected


def test_an_active_swap_file_is_found_beforehand(site: Site) -> None:
    """The plan says that the run will fail, and what it says to do helps."""
    nested = f"{site.source}/nested"
    sh("btrfs", "subvolume", "create", nested)
    with swapping(f"{nested}/swap file") as swap:
        done = site.run("plan", "--json")
        plan = json.loads(done.stdout)
        assert done.returncode == 1
        ((path, kind, fatal),) = [(n["path"], n["kind"], n["is_fatal"]) for n in plan["notes"]]
        assert (path, kind, fatal) == (swap, "swap-file", True)
        assert f"error: data: '{swap}': an active swap file" in done.stderr
        assert f"name {nested} in nested-exclude" in done.stderr
        assert f"      '{swap}'\n" in site.run("plan").stdout
        assert site.back_up()["outcome"] == "failed"
        site.job["nested-exclude"] = [nested]
        assert _plan(site)["notes"] == []
        site.succeed()


def test_a_swap_file_that_cannot_be_seen_is_noted(site: Site, disk: Disk) -> None:
    """Its mount is gone from here: where it lies is not known, and the plan says so."""
    name = sh("findmnt", "-n", "-o", "FSROOT", site.source).strip().lstrip("/")
    elsewhere = disk.mount(name)
    with swapping(f"{site.source}/swap") as seen:
        sh("swapoff", seen)
        sh("swapon", f"{elsewhere}/swap")
        sh("umount", "-l", elsewhere)
        (note,) = _plan(site)["notes"]
    assert (note["path"], note["is_fatal"]) == ("/swap", False)
    assert "cannot be looked at (No such file or directory)" in note["text"]


def test_a_plan_is_printed_in_any_locale(site: Site) -> None:
    """Where the terminal has no letters for it, with others."""
    for place in ("a", "a/b", "c", "d\u00e9"):
        sh("btrfs", "subvolume", "create", f"{site.source}/{place}")
    site.environment = {"PYTHONIOENCODING": "ascii"}
    done = site.run("plan")
    assert (done.returncode, done.stderr) == (0, "")
    drawn = [line[4:].split("  snapshot")[0].rstrip() for line in done.stdout.splitlines()
             if "  snapshot" in line][1:]  # fmt: skip
    assert drawn == ["|- a", "|  `- b", "|- c", "`- d\\xe9"]


def test_a_swap_file_that_is_not_frozen_is_no_matter(site: Site, disk: Disk) -> None:
    """In a subvolume beside the source's, on the same file system."""
    with swapping(f"{disk.source()}/swap"):
        assert _plan(site)["notes"] == []


def _notes(site: Site) -> dict[str, str]:
    return {one["path"]: one["kind"] for one in _plan(site)["notes"]}


def test_a_subvolume_that_is_nocow_is_noted(site: Site) -> None:
    """By its root directory as it is now, to any depth, also where a mount covers it."""
    for name in ("plain", "plain/vm", "covered"):
        sh("btrfs", "subvolume", "create", f"{site.source}/{name}")
    for name in ("plain/vm", "covered"):
        sh("chattr", "+C", f"{site.source}/{name}")
    sh("mount", "-t", "tmpfs", "tmpfs", f"{site.source}/covered")
    assert _notes(site) == dict.fromkeys(
        (f"{site.source}/covered", f"{site.source}/plain/vm"), "nocow"
    )
    text = site.run("plan").stdout
    assert text.count("NOCOW") == 1
    assert "no file was looked at" in " ".join(text.split())


def test_a_mount_without_copy_on_write_is_noted_once(site: Site, arena: Arena) -> None:
    """Not each subvolume in it."""
    disk = arena.disk(256)
    source = disk.source("@")
    sh("mount", "-o", "remount,nodatacow", source)
    for name in ("a", "b"):
        sh("btrfs", "subvolume", "create", f"{source}/{name}")
    site.job["paths"] = [source, f"{source}/a"]
    assert _notes(site) == {source: "nocow"}


def test_quota_groups_are_noted(site: Site, arena: Arena) -> None:
    """While they are enabled, once for each file system."""
    disk = arena.disk(256)
    site.job["paths"] = [site.source, disk.source("@a"), disk.source("@b")]
    assert _notes(site) == {}
    sh("btrfs", "quota", "enable", disk.top)
    assert list(_notes(site).values()) == ["quota"]
    sh("btrfs", "quota", "disable", disk.top)
    assert _notes(site) == {}


def test_simple_quotas_are_not(site: Site, arena: Arena) -> None:
    """They do not count anew when a snapshot is removed (Linux 6.7)."""
    disk = arena.disk(256)
    site.job["paths"] = [disk.source("@")]
    top = os.open(disk.top, os.O_RDONLY)
    try:
        fcntl.ioctl(top, 0xC0109428, struct.pack("QQ", 4, 0))  # BTRFS_IOC_QUOTA_CTL
    except OSError:
        pytest.skip("this kernel has no simple quotas")
    finally:
        os.close(top)
    assert _notes(site) == {}


def test_what_is_handed_in_live_is_named(site: Site) -> None:
    """What restic needs, and what lies beside the path: the printed command is that of a run.

    Also before the first run, which makes the cache.
    """
    directory = f"{site.source}/directory"
    os.mkdir(directory)
    sh("btrfs", "subvolume", "create", f"{site.source}/beside")
    site.job["paths"] = [directory]
    site.directories["cache-directory"] = f"{directory}/cache"
    site.add_repository("main", f"{directory}/repository")
    plan = _plan(site)
    assert plan["live"] == [
        {"path": f"{directory}/cache/restic", "what": "restic's cache"},
        {"path": f"{directory}/repository", "what": "the repository main"},
        {"path": f"{site.source}/beside", "what": "a subvolume outside of the paths"},
    ]
    left_out = [one["path"] for one in plan["left_out"]]
    assert left_out == [f"{directory}/cache/restic", f"{directory}/repository"]
    site.succeed()
    (call,) = site.calls("backup")
    assert call.values("--exclude") == left_out
    assert shlex.split(plan["commands"][0])[-len(call.argv) + 2 :] == [
        word for word in call.argv if word not in {"--time", call.value("--time")}
    ]


def test_a_mount_that_is_included_is_a_source(site: Site, disk: Disk) -> None:
    """It has a mount of its own, and a place in the tree."""
    outside = disk.source()
    name = sh("findmnt", "-n", "-o", "FSROOT", outside).strip().lstrip("/")
    inner = f"{site.source}/inner"
    disk.mount(name, inner)
    site.job["submounts"] = "include"
    plan = _plan(site)
    assert [one["path"] for one in plan["sources"]] == [site.source, inner]
    assert plan["sources"][0]["subvolumes_below"] == [inner]
    text = site.run("plan").stdout
    assert f"    {inner} (a mount below, included)\n      btrfs on {disk.device}: " in text
    (line,) = (line for line in text.splitlines() if line.startswith("    └─ inner "))
    assert line.split()[2:] == ["snapshot", "of", "subvolume", line.split()[5], f"({name})"]


def test_a_thousand_nested_subvolumes_are_a_line_each(site: Site, arena: Arena) -> None:
    """None is missing; the list can be read, also in the width of a terminal."""
    source = arena.disk().source("@")
    names = [f"{number:04}" for number in range(1000)]
    parent = os.open(source, os.O_RDONLY)
    for name in names:
        request = struct.pack("q4088s", 0, name.encode())
        fcntl.ioctl(parent, 0x5000940E, bytearray(request))  # BTRFS_IOC_SUBVOL_CREATE
    os.close(parent)
    site.job["paths"] = [source]
    lines = site.run("plan").stdout.splitlines()
    start = lines.index("  in the view: 1,001 snapshots, read-only") + 2
    tree = lines[start : start + 1000]
    assert [line.split()[1] for line in tree] == names
    assert all(line.startswith(("    ├─ ", "    └─ ")) and len(line) <= 80 for line in tree)
    assert len({line.split()[-1] for line in tree}) == 1000


def test_the_list_of_subvolumes_is_read_once_for_each_file_system(
    disk: Disk, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many paths there are. The reading is counted, not replaced."""
    paths = [disk.source(), disk.source(), arena.disk(128).source("@")]
    os.mkdir(f"{paths[0]}/directory")
    read: list[str] = []

    def counted(mount: Mount) -> Tree:
        read.append(mount.source)
        return read_tree(mount)

    monkeypatch.setattr("holdstill.snapshots.btrfs.read_tree", counted)
    freeze.plan([*paths, f"{paths[0]}/directory"])
    assert len(read) == len(set(read)) == 2
