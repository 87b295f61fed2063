"""Subvolumes inside a source: frozen with it to any depth, or named with the key that includes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill import freeze
from holdstill.errors import ChangedError, FreezeError, SourceError
from holdstill.scope import Wishes
from holdstill.snapshots.staging import new_run
from tests.kernel.backups import NEWEST, make_site, only
from tests.kernel.disks import sh, swapping
from tests.kernel.program import execute, started

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena, Disk

pytest_plugins = ["tests.kernel.backup_fixtures"]

HOW = "name it in nested-include to freeze it"


def nest(path: str, content: str = "before\n") -> str:
    """Create a subvolume with a file in it, and the directories on the way; return its path."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    sh("btrfs", "subvolume", "create", "--", path)
    Path(path, "file").write_text(content, encoding="utf-8")
    return path


def copy(source: str, path: str, *options: str) -> str:
    """Take a snapshot with the machine's own program."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    sh("btrfs", "subvolume", "snapshot", *options, "--", source, path)
    return path


def planned(site: Site) -> tuple[set[str], dict[str, tuple[str, str]]]:
    """Return what `plan` freezes, and what it leaves out: why, and what would include it."""
    done = site.run("plan", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    left_out = {one["path"]: (one["reason"], one["remedy"]) for one in plan["left_out"]}
    return {one["path"] for one in plan["frozen"]}, left_out


def test_nested_subvolumes_are_seen_at_their_paths_to_any_depth(disk: Disk, source: str) -> None:
    """In directories, in each other, five levels down: as they were, whatever is written now."""
    places = ["a", "dir/in/b", "a/a", "a/dir/c", "a/a/d", "a/a/d/e/f"]
    files = [f"{nest(f'{source}/{place}')}/file" for place in places]
    with started(source, "sh", "-c", 'echo ready; read -r _; cat "$@"', "sh", *files) as run:
        assert run.line() == "ready"
        assert len(disk.snapshots()) == 1 + len(places)
        for file in files:
            Path(file).write_text("after\n", encoding="utf-8")
            Path(os.path.dirname(file), "new").touch()
        run.let_go()
        done = run.finish()
    assert (done.stdout, done.stderr, done.returncode) == ("before\n" * len(places), "", 0)
    assert disk.runs() == []


def test_nested_subvolumes_are_read_only_in_the_view(source: str) -> None:
    """Like all else in it."""
    inner = nest(f"{source}/a/b")
    done = execute(source, "sh", "-c", 'touch "$0/new"', inner)
    assert "Read-only file system" in done.stderr


def test_only_what_lies_below_the_source_is_frozen(disk: Disk, source: str) -> None:
    """A directory's nested subvolumes; those beside it stay as they are, live."""
    inside, beside = nest(f"{source}/dir/in"), nest(f"{source}/dir2/out")
    with started(f"{source}/dir", "sh", "-c", 'echo ready; read -r _; cat "$@"', "sh",
                 f"{inside}/file", f"{source}/file") as run:  # fmt: skip
        assert run.line() == "ready"
        assert len(disk.snapshots()) == 2
        run.let_go()
        assert run.finish().stdout == "before\n" * 2
    done = execute(f"{source}/dir", "ls", beside)
    assert (done.stdout, done.stderr) == ("file\n", "")


def test_no_timestamp_moves_in_a_nested_tree(source: str) -> None:
    """Neither in the live one nor, from run to run, in the view: the stubs are covered."""
    places = [nest(f"{source}/{place}") for place in ("a", "a/b", "dir/c")]
    paths = [source, f"{source}/dir", *places]
    before = [os.stat(path) for path in paths]
    script = 'stat -c "%n %i %Y %Z %W" "$@"'
    views = [execute(source, "sh", "-c", script, "sh", *paths).stdout for _ in range(2)]
    assert views[0] == views[1] == sh("sh", "-c", script, "sh", *paths)
    assert [(s.st_mtime_ns, s.st_ctime_ns) for s in before] == [
        (s.st_mtime_ns, s.st_ctime_ns) for s in map(os.stat, paths)
    ]


def test_a_backup_holds_them_at_their_paths(site: Site) -> None:
    """With nothing configured; nothing is said to be left out."""
    nest(f"{site.source}/a/b")
    nest(f"{site.source}/a/b/c")
    record = site.succeed()
    assert site.listed() == ["a", "a/b", "a/b/c", "a/b/c/file", "a/b/file", "file"]
    assert record["left_out"] == []
    assert len(record["snapshots"]) == 3
    assert record["instant"] in {"one-transaction", "unwritten"}


def test_they_can_be_skipped(site: Site) -> None:
    """They are not in the backup, not even as empty directories, and the record names them."""
    inner = nest(f"{site.source}/a/b")
    nest(f"{inner}/c")
    site.job["nested"] = "skip"
    record = site.succeed()
    reason = 'a subvolume of its own, and nested = "skip"'
    assert record["left_out"] == [{"path": inner, "reason": reason, "remedy": HOW}]
    assert site.listed() == ["a", "file"]


def test_one_can_be_left_out_and_one_brought_in(site: Site) -> None:
    """By path, with all below it."""
    for place in ("out", "out/deep", "in", "in/deep"):
        nest(f"{site.source}/{place}")
    site.job["nested-exclude"] = [f"{site.source}/out"]
    record = site.succeed()
    assert site.listed() == ["file", "in", "in/deep", "in/deep/file", "in/file"]
    assert [one["path"] for one in record["left_out"]] == [f"{site.source}/out"]
    del site.job["nested-exclude"]
    site.job.update({"nested": "skip", "nested-include": [f"{site.source}/in"]})
    assert [one["path"] for one in site.succeed()["left_out"]] == [f"{site.source}/out"]
    assert site.listed() == ["file", "in", "in/deep", "in/deep/file", "in/file"]


def test_what_others_keep_is_left_out_and_named(site: Site) -> None:
    """Their snapshots by the hundred, and layers of images, with the key that includes them."""
    source = site.source
    nest(f"{source}/.snapshots")
    copy(source, f"{source}/.snapshots/1/snapshot", "-r")
    timeshift = copy(source, f"{source}/timeshift-btrfs/snapshots/2026/@")
    docker = nest(f"{source}/var/lib/docker/btrfs/subvolumes/0a1b")
    mine = copy(source, f"{source}/before-upgrade", "-r")
    frozen, left_out = planned(site)
    assert frozen == {source}
    assert left_out == {
        f"{source}/.snapshots": ("snapshots that snapper keeps", HOW),
        timeshift: ("snapshots that Timeshift keeps", HOW),
        docker: ("a layer of Docker's images", HOW),
        mine: ("a read-only snapshot of what is frozen here", HOW),
    }
    text = site.run("plan").stdout
    for path, (reason, how) in left_out.items():
        assert f"{reason}; {how}" in " ".join(text.split())
        assert f"      {path}\n" in text
    site.succeed()
    assert not {".snapshots", "before-upgrade"} & set(site.listed())


def test_what_others_keep_can_be_included(site: Site) -> None:
    """A single snapshot of snapper's, with the subvolume that it lies in."""
    source = site.source
    nest(f"{source}/.snapshots")
    for number in (1, 2):
        copy(source, f"{source}/.snapshots/{number}/snapshot", "-r")
    site.job["nested-include"] = [f"{source}/.snapshots/1/snapshot"]
    site.succeed()
    found = set(site.listed())
    assert {".snapshots/file", ".snapshots/1/snapshot/file", ".snapshots/2"} < found
    assert ".snapshots/2/snapshot" not in found


def test_a_writable_copy_is_somebodys_data(source: str) -> None:
    """It is frozen like any other subvolume; so is a read-only copy of something elsewhere."""
    writable = copy(source, f"{source}/writable")
    done = execute(source, "cat", f"{writable}/file")
    assert (done.stdout, done.stderr) == ("before\n", "")


def test_a_read_only_copy_of_something_else_is_frozen(disk: Disk, source: str) -> None:
    """A received backup of another machine, say."""
    received = copy(disk.source(), f"{source}/received", "-r")
    done = execute(source, "cat", f"{received}/file")
    assert (done.stdout, done.stderr) == ("before\n", "")


def test_a_mount_that_covers_a_nested_subvolume_is_named(arena: Arena, source: str) -> None:
    """The view shows the subvolume, as it shows what lies below any mount."""
    inner = nest(f"{source}/a")
    arena.mount_tmpfs(inner)
    Path(inner, "live").touch()
    done = execute(source, "ls", inner)
    assert done.stdout == "file\n"
    assert done.stderr.splitlines() == [
        f"holdstill: warning: {inner} is not in the view: another mount (tmpfs)"
    ]


def test_the_same_subvolume_mounted_at_its_own_place_is_not_another_mount(
    disk: Disk, source: str
) -> None:
    """As `subvol=` mounts of nested subvolumes do."""
    name = sh("findmnt", "-n", "-o", "FSROOT", source).strip().lstrip("/")
    inner = nest(f"{source}/a")
    sh("mount", "-t", "btrfs", "-o", f"subvol=/{name}/a", disk.device, inner)
    done = execute(source, "cat", f"{inner}/file")
    assert (done.stdout, done.stderr) == ("before\n", "")


def test_a_subvolume_of_another_disk_with_the_same_id_is_another_mount(
    arena: Arena, source: str
) -> None:
    """Ids are counted on each file system."""
    inner = nest(f"{source}/a")
    number = int(sh("btrfs", "inspect-internal", "rootid", inner))
    other = arena.disk(256)
    for count in range(256, number + 1):
        other.create(f"s{count}")
    sh("mount", "-t", "btrfs", "-o", f"subvolid={number}", other.device, inner)
    assert "another mount (btrfs)" in execute(source, "ls", inner).stderr


def test_hundreds_of_subvolumes_with_any_names(arena: Arena) -> None:
    """More than one answer of the kernel's search holds; names have 255 bytes, any of them."""
    disk = arena.disk(1024)
    source = disk.source("@")
    names = [b"new\nline", b"caf\xe9\xff", b" ", b"-rf", b"'\"\\040", b"x" * 255]
    names += [b"%03d-" % number + b"\xfe" * 251 for number in range(294)]
    for name in names:
        path = os.path.join(os.fsencode(source), name)
        subprocess.run([b"btrfs", b"-q", b"subvolume", b"create", b"--", path], check=True)
        Path(os.fsdecode(path), "file").write_bytes(b"x")
    done = execute(source, "sh", "-c", 'cat "$0"/*/file | wc -c', source)
    assert (done.stdout.strip(), done.stderr) == ("300", "")
    assert disk.runs() == []


def test_a_path_of_many_long_names(source: str) -> None:
    """Near the longest path that there is: the way to a subvolume is longer than one name."""
    inner = nest("/".join([source, *(["x" * 250] * 12), "deep"]))
    assert execute(source, "cat", f"{inner}/file").stdout == "before\n"


def _rename(path: str) -> None:
    os.rename(path, path + "-renamed")


def _rename_parent(path: str) -> None:
    os.rename(os.path.dirname(path), os.path.dirname(path) + "-renamed")


def _delete(path: str) -> None:
    sh("btrfs", "subvolume", "delete", path)


def _create(path: str) -> None:
    nest(path + "-new")


def _replace(path: str) -> None:
    _delete(path)
    nest(path)


def _replace_by_a_file(path: str) -> None:
    _delete(path)
    Path(path).touch()


def _make_it_a_directory(path: str) -> None:
    _delete(path)
    os.mkdir(path)


CHANGES = [
    _rename,
    _rename_parent,
    _delete,
    _create,
    _replace,
    _replace_by_a_file,
    _make_it_a_directory,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_what_changed_since_the_plan_is_a_clear_error(
    disk: Disk, source: str, change: Callable[[str], None]
) -> None:
    """Nothing is run on half of the subvolumes; nothing is left."""
    inner = nest(f"{source}/dir/inner")
    decided = freeze.plan([source])
    change(inner)
    with (
        pytest.raises(FreezeError) as caught,
        freeze.hold(decided, new_run(), warn=print),
    ):
        pytest.fail("a view was made")
    assert isinstance(caught.value, ChangedError)
    assert "try again" in caught.value.remedy
    said = caught.value.message
    assert inner.rpartition("/arena")[2].rpartition("/")[2] in said or "below the paths" in said
    assert disk.runs() == disk.snapshots() == []


CREATE_ONE = "btrfs -q subvolume create {source}/made-$$ >&2"


@pytest.mark.parametrize("nested", ["include", "skip"])
def test_what_is_made_between_plan_and_freeze_is_planned_anew(site: Site, nested: str) -> None:
    """A subvolume appears while the run looks at restic: it would be missing in silence."""
    created = CREATE_ONE.format(source=site.source)
    site.install(f'#!/bin/sh\n[ "$1" = version ] && {created}\nexec {NEWEST} "$@"\n')
    site.job["nested"] = nested
    record = site.succeed()
    (made,) = (name for name in os.listdir(site.source) if name.startswith("made-"))
    left_out = [one["path"] for one in record["left_out"]]
    assert (made in site.listed()) == (nested == "include")
    assert (f"{site.source}/{made}" in left_out) == (nested == "skip")


def test_a_tree_that_never_comes_to_rest_starts_no_restic(site: Site, disk: Disk) -> None:
    """A few plans are made; then it is an error."""
    created = CREATE_ONE.format(source=site.source)
    # Touched, it is another binary, whose version is asked for again.
    asked = f'[ "$1" = version ] && {created} && touch "$0"'
    site.install(f'#!/bin/sh\n{asked}\nexec {NEWEST} "$@"\n')
    record = site.back_up()
    assert len([name for name in os.listdir(site.source) if name.startswith("made-")]) == 3
    assert record["outcome"] == "failed"
    assert "made, removed or renamed" in record["failure"]["message"]
    assert record["repositories"] == []
    assert (disk.runs(), disk.snapshots()) == ([], [])


def test_a_source_that_is_deleted_while_it_is_mounted(disk: Disk) -> None:
    """It can still be read, and no more be frozen."""
    name = disk.arena.unique("@")
    source = disk.source(name)
    sh("btrfs", "subvolume", "delete", f"{disk.top}/{name}")
    done = execute(source, "true")
    assert done.returncode == 125
    assert "has been deleted" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_that_cannot_be_opened_is_named(disk: Disk, source: str) -> None:
    """Root reaches every directory by a capability; without it, none of the set is frozen."""
    nest(f"{source}/closed/inner")
    os.chown(f"{source}/closed", 1234, 1234)
    os.chmod(f"{source}/closed", 0o700)
    without = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    done = execute(source, "echo", "started", wrapper=without)
    assert (done.returncode, done.stdout) == (125, "")
    assert "/closed/inner)" in done.stderr
    assert "CAP_DAC_READ_SEARCH" in done.stderr
    assert disk.runs() == disk.snapshots() == []


@pytest.mark.usefixtures("swap_alone")
def test_too_few_open_files_for_all_of_them(disk: Disk, source: str) -> None:
    """The soft limit is raised to the hard one; where that is too low, the error says so."""
    for number in range(40):
        sh("btrfs", "subvolume", "create", f"{source}/{number}")

    def limit(hard: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))

    assert execute(source, "true", before=limit(256)).returncode == 0
    done = execute(source, "echo", "started", before=limit(64))
    assert (done.returncode, done.stdout) == (125, "")
    assert "Too many open files\n  allow more open files (LimitNOFILE=" in done.stderr
    assert disk.runs() == []


def test_if_one_cannot_be_frozen_none_is(arena: Arena) -> None:
    """An active swap file in one of several: all snapshots are removed, no command is started."""
    disk = arena.disk(512)
    source = disk.source("@")
    places = [nest(f"{source}/{name}") for name in ("a", "b", "c")]
    swap = f"{places[1]}/swap"
    with swapping(swap):
        done = execute(source, "echo", "started")
        assert (done.returncode, done.stdout) == (125, "")
        assert "cannot take a snapshot of subvolume" in done.stderr
        assert "(@/b)" in done.stderr
        assert "swap file" in done.stderr
        assert disk.runs() == disk.snapshots() == []
    assert execute(source, "echo", "started").returncode == 0


def test_a_quota_that_is_exceeded_is_named(arena: Arena) -> None:
    """The remedy is the quota's, not the disk's; nothing is left."""
    disk = arena.disk(512)
    source = disk.source("@")
    nest(f"{source}/a")
    assert execute(source, "true").returncode == 0
    sh("btrfs", "quota", "enable", disk.top)
    sh("btrfs", "quota", "rescan", "-w", disk.top)
    sh("btrfs", "qgroup", "limit", "1k", "0/5", disk.top)
    done = execute(source, "echo", "started")
    assert (done.returncode, done.stdout) == (125, "")
    assert "Disk quota exceeded" in done.stderr
    assert "  raise the quota group's limit" in done.stderr
    sh("btrfs", "quota", "disable", disk.top)
    assert disk.runs() == disk.snapshots() == []


def test_a_disk_that_fills_up_in_the_middle_of_a_set(arena: Arena) -> None:
    """From full to space enough: each run fails and leaves nothing, until one has all of them."""
    disk = arena.disk(128, "--mixed")
    source = disk.source("@")
    for number in range(100):
        sh("btrfs", "subvolume", "create", f"{source}/n{number}")
    assert execute(source, "true").returncode == 0
    fillings = _fill(source)
    said = []
    while (done := execute(source, "echo", "started")).returncode:
        assert (done.returncode, done.stdout, disk.snapshots()) == (125, "", [])
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        said.append(done.stderr)
        for path in fillings[:4]:
            os.unlink(path)
        del fillings[:4]
        os.sync()
    assert done.stdout == "started\n"
    assert any("cannot take a snapshot of subvolume" in text for text in said)
    assert disk.runs() == []


def _fill(directory: str) -> list[str]:
    """Fill a disk; return the files."""
    paths: list[str] = []
    for size in (1 << 17, 1 << 12):
        with suppress(OSError):
            while True:
                paths.append(f"{directory}/fill-{size}-{len(paths)}")
                with open(paths[-1], "wb", buffering=0) as file:
                    file.write(os.urandom(size))
        os.sync()
    return paths


def test_wishes_are_those_of_the_library_too(disk: Disk, source: str) -> None:
    """`plan` takes them as data."""
    nest(f"{source}/a")
    assert len(freeze.plan([source]).subvolumes) == 2
    decided = freeze.plan([source], Wishes(nested=False))
    assert len(decided.subvolumes) == 1
    with pytest.raises(SourceError):
        freeze.plan([f"{source}/missing"])
    assert disk.runs() == []


def test_an_unchanged_nested_tree_adds_nothing(
    tmp_path: Path, disk: Disk, quiet: str, template_repository: str
) -> None:
    """Whatever device numbers the snapshots have this time (restic >= 0.17)."""
    site = make_site(tmp_path, disk.source(at=f"{quiet}/source"), NEWEST, template_repository)
    site.add_repository("main")
    for place in ("a", "a/b", "dir/c"):
        nest(f"{site.source}/{place}")
    first = only(site.succeed())
    assert first["files_new"] == 4
    for _ in range(2):
        disk.source()
        result = only(site.succeed())
        counts = [result[key] for key in ("data_added", "files_new", "dirs_new", "dirs_changed")]
        assert counts == [0, 0, 0, 0]


def test_a_restored_nested_tree_equals_the_snapshot(site: Site) -> None:
    """Contents, modes, owners, times, links and extended attributes, in every subvolume."""
    for place in ("", "a", "a/b", "dir/c"):
        path = f"{site.source}/{place}" if place else site.source
        if place:
            nest(path)
        Path(path, "data").write_bytes(os.urandom(1 << 16))
        os.chmod(f"{path}/data", 0o640)
        os.chown(f"{path}/data", 1234, 4321)
        os.setxattr(f"{path}/data", "user.note", b"\xff\x00")
        os.link(f"{path}/data", f"{path}/linked")
        os.symlink("data", f"{path}/symlink")
        os.mkfifo(f"{path}/fifo")
        os.utime(f"{path}/data", (1_000_000_000, 1_100_000_000))
        os.chmod(path, 0o700)
        os.utime(path, (1_000_000_000, 1_100_000_000))
    before = _facts(site.source)
    site.succeed()
    restored = site.restored()
    assert _facts(restored) == before


def _facts(top: str) -> dict[str, tuple[object, ...]]:
    paths = [top, *(os.path.join(d, n) for d, ds, fs in os.walk(top) for n in (*ds, *fs))]
    return {path.removeprefix(top): _facts_of(path) for path in paths}


def _facts_of(path: str) -> tuple[object, ...]:
    found = os.lstat(path)
    names = os.listxattr(path, follow_symlinks=False)
    attributes = {n: os.getxattr(path, n, follow_symlinks=False) for n in names}
    content: object = None
    if os.path.islink(path):
        content = os.readlink(path)
    elif os.path.isfile(path):
        content = Path(path).read_bytes()
    links = found.st_nlink if not os.path.isdir(path) else 0
    times = found.st_mtime_ns
    return found.st_mode, found.st_uid, found.st_gid, links, times, attributes, content
