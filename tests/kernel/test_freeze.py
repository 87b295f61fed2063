"""Freezing paths wherever they lie: what is shown, what is named, what stays untouched."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import holdstill
from holdstill.errors import SourceError
from tests.kernel.disks import STAGING, sh
from tests.kernel.program import execute, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdstill.process import Ended
    from tests.kernel.disks import Arena, Disk

ODD_NAMES = {
    "space": "a b",
    "quotes": 'it\'s "so"',
    "newline": "new\nline",
    "tab": "a\tb",
    "backslash": "back\\slash\\040",
    "hash": "#hash",
    "not UTF-8": os.fsdecode(b"caf\xe9\xff"),
    "percent": "%s%n",
    "dash": "-rf",
    "dollar": "$(touch x)`id`",
    "unicode": "žluťoučký 🐎",
}

FREEZE_THEN_READ = 'echo ready; read -r _; cat "$@"'


def frozen_content(path: str, *files: str, change: tuple[str, ...] = ()) -> str:
    """Return what the files say in a view of `path` after they were changed on the host."""
    with started(path, "sh", "-c", FREEZE_THEN_READ, "sh", *files) as run:
        assert run.line() == "ready"
        for name in change or files:
            Path(name).write_text("after\n", encoding="utf-8")
        run.let_go()
        done = run.finish()
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_any_name_works_as_a_mount_point(disk: Disk, name: str) -> None:
    """Names are bytes: what mountinfo escapes and what it does not is found all the same."""
    source = disk.source(at=disk.arena.unique() + name)
    assert frozen_content(source, f"{source}/file") == "before\n"


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_any_name_works_as_a_directory_in_a_subvolume(source: str, name: str) -> None:
    """The directory is frozen through its subvolume."""
    inner = f"{source}/{name}/{name}"
    os.makedirs(inner)
    Path(inner, "file").write_text("before\n", encoding="utf-8")
    assert frozen_content(inner, f"{inner}/file") == "before\n"


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_any_name_works_as_a_bound_directory_and_as_a_nested_subvolume(
    disk: Disk, source: str, name: str
) -> None:
    """Paths inside a subvolume come from the kernel as bytes, too."""
    os.mkdir(f"{source}/{name}")
    sh("btrfs", "subvolume", "create", "--", f"{source}/{name}/{name}")
    target = disk.arena.directory()
    sh("mount", "--bind", f"{source}/{name}", target)
    Path(target, name, "file").write_text("before\n", encoding="utf-8")
    inner = f"{target}/{name}"
    assert frozen_content(inner, f"{inner}/file") == "before\n"


def test_a_directory_is_frozen_and_so_is_its_whole_mount(source: str) -> None:
    """A snapshot is of a subvolume: what lies beside the named directory is frozen with it."""
    for name in ("inner", "beside"):
        os.mkdir(f"{source}/{name}")
        Path(source, name, "file").write_text("before\n", encoding="utf-8")
    files = (f"{source}/inner/file", f"{source}/beside/file")
    assert frozen_content(f"{source}/inner", *files) == "before\nbefore\n"


def test_a_nested_subvolume_can_be_named(source: str) -> None:
    """It is frozen inside its parent's snapshot."""
    nested = f"{source}/dir/nested"
    os.mkdir(f"{source}/dir")
    sh("btrfs", "subvolume", "create", nested)
    Path(nested, "file").write_text("before\n", encoding="utf-8")
    files = (f"{nested}/file", f"{source}/file")
    assert frozen_content(nested, *files) == "before\nbefore\n"


def test_a_subvolume_three_levels_down_can_be_named(source: str) -> None:
    """Every subvolume on the way is frozen, parents first."""
    path = source
    for name in ("a", "b", "c"):
        path += f"/{name}"
        sh("btrfs", "subvolume", "create", path)
    Path(path, "file").write_text("before\n", encoding="utf-8")
    assert frozen_content(path, f"{path}/file") == "before\n"


def test_parent_and_nested_subvolume_can_both_be_named(disk: Disk, source: str) -> None:
    """Then nothing is left out, in whatever order they are named."""
    nested = f"{source}/nested"
    sh("btrfs", "subvolume", "create", nested)
    Path(nested, "file").write_text("in nested\n", encoding="utf-8")
    for paths in ([source, nested], [nested, source]):
        done = execute(paths, "cat", f"{source}/file", f"{nested}/file")
        assert (done.stdout, done.stderr) == ("before\nin nested\n", "")
    assert disk.runs() == []


@pytest.mark.parametrize("make", [("mkdir",), ("btrfs", "subvolume", "create")])
def test_a_path_below_a_mounted_top_level_is_frozen(disk: Disk, make: tuple[str, ...]) -> None:
    """The run's own snapshots show beside it meanwhile, and are no subvolume that was made."""
    path = f"{disk.top}/{disk.arena.unique('below')}"
    sh(*make, path)
    Path(path, "file").write_text("before\n", encoding="utf-8")
    assert frozen_content(path, f"{path}/file") == "before\n"


@pytest.mark.parametrize("attribute", ["i", "a"])
def test_a_subvolume_that_must_not_be_changed(disk: Disk, source: str, attribute: str) -> None:
    """Its snapshot has `chattr +i` from it, and goes all the same; the subvolume keeps it."""
    nested = f"{source}/nested"
    sh("btrfs", "subvolume", "create", nested)
    for path in (nested, source):
        sh("chattr", f"+{attribute}", path)
    try:
        done = execute(source, "ls", source)
        assert (done.returncode, done.stdout, done.stderr) == (0, "file\nnested\n", "")
        assert disk.runs() == []
        assert all(attribute in sh("lsattr", "-d", path).split()[0] for path in (nested, source))
        powerless = ("setpriv", "--bounding-set=-linux_immutable")
        done = execute(source, "true", wrapper=powerless)
        assert done.returncode == 125
        assert "CAP_LINUX_IMMUTABLE" in done.stderr
        assert execute(source, "true").returncode == 0  # what was left is removed
        assert disk.runs() == []
    finally:
        for path in (source, nested):
            sh("chattr", f"-{attribute}", path)


def test_a_bind_mount_of_a_directory_is_frozen(disk: Disk, source: str) -> None:
    """Its mount shows the directory's frozen copy, and only that."""
    os.mkdir(f"{source}/inner")
    Path(source, "inner", "file").write_text("before\n", encoding="utf-8")
    target = disk.arena.directory()
    sh("mount", "--bind", f"{source}/inner", target)
    assert frozen_content(target, f"{target}/file") == "before\n"
    assert execute(target, "ls", target).stdout == "file\n"


def test_a_mounted_directory_of_a_subvolume_is_frozen(disk: Disk, source: str) -> None:
    """Also where it was mounted by device, and its directory lies deep."""
    os.makedirs(f"{source}/x/y/z")
    Path(source, "x/y/z/file").write_text("before\n", encoding="utf-8")
    target = disk.arena.directory()
    sh("mount", "--bind", f"{source}/x/y", target)
    assert frozen_content(f"{target}/z", f"{target}/z/file") == "before\n"


def test_a_read_only_bind_mount_of_a_writable_file_system_is_frozen(
    disk: Disk, source: str
) -> None:
    """The mount is read-only, the file system is not: others go on writing."""
    target = disk.arena.directory()
    sh("mount", "--bind", source, target)
    sh("mount", "-o", "remount,bind,ro", target)
    change = (f"{source}/file",)
    assert frozen_content(target, f"{target}/file", change=change) == "before\n"


def test_a_subvolume_mounted_twice_is_frozen_once(disk: Disk) -> None:
    """Both mounts show the same snapshot; the one that is not named stays live."""
    name = disk.arena.unique("@")
    first = disk.source(name)
    second = disk.mount(name)
    files = (f"{first}/file", f"{second}/file")
    with started([first, second], "sh", "-c", FREEZE_THEN_READ, "sh", *files) as run:
        assert run.line() == "ready"
        assert len(disk.snapshots()) == 1
        Path(first, "file").write_text("after\n", encoding="utf-8")
        run.let_go()
        assert run.finish().stdout == "before\nbefore\n"


def test_the_same_subvolume_elsewhere_stays_live(disk: Disk) -> None:
    """Only the named path is frozen."""
    name = disk.arena.unique("@")
    first = disk.source(name)
    second = disk.mount(name)
    files = (f"{first}/file", f"{second}/file")
    assert frozen_content(first, *files, change=files[:1]) == "before\nafter\n"


def test_mounts_on_top_of_each_other_freeze_the_one_that_shows(disk: Disk) -> None:
    """What is hidden below stays hidden."""
    lower, upper = disk.source(), disk.source()
    sh("mount", "--bind", upper, lower)
    Path(lower, "file").write_text("upper\n", encoding="utf-8")
    assert frozen_content(lower, f"{lower}/file") == "upper\n"


def test_data_in_the_top_level_is_frozen(arena: Arena) -> None:
    """A file system without subvolumes of its own works; our directory in it is our own."""
    top = arena.disk(128).top
    Path(top, "file").write_text("before\n", encoding="utf-8")
    assert frozen_content(top, f"{top}/file") == "before\n"
    assert sorted(os.listdir(top)) == [STAGING, "file"]


def test_what_is_not_in_the_view_is_named(arena: Arena, source: str) -> None:
    """Other mounts below a source, and the snapshots of others, each with the reason."""
    sh("btrfs", "subvolume", "create", f"{source}/.snapshots")
    os.mkdir(f"{source}/mounted")
    arena.mount_tmpfs(f"{source}/mounted")
    for place in (".snapshots", "mounted"):
        Path(source, place, "hidden").write_text("live\n", encoding="utf-8")
    done = execute(source, "ls", f"{source}/.snapshots", f"{source}/mounted")
    assert "hidden" not in done.stdout
    said = f"holdstill: warning: {source}/{{}} is not in the view: {{}}"
    assert done.stderr.splitlines() == [
        said.format(".snapshots", "snapshots that snapper keeps"),
        said.format("mounted", "another mount (tmpfs)"),
    ]


def test_only_what_lies_below_the_source_is_named(disk: Disk, source: str) -> None:
    """A neighbour whose name begins alike, and one beside the named directory, are no matter."""
    for name in ("dir", "dir2"):
        os.mkdir(f"{source}/{name}")
        sh("btrfs", "subvolume", "create", f"{source}/{name}/.snapshots")
    disk.source(at=f"{source}2")
    warnings = execute(f"{source}/dir", "true").stderr.splitlines()
    assert len(warnings) == 1
    assert f"{source}/dir/.snapshots" in warnings[0]


def test_hostile_names_cannot_forge_a_warning(source: str) -> None:
    """A newline in a subvolume's name stays inside its line."""
    os.mkdir(f"{source}/.snapshots")
    sh("btrfs", "subvolume", "create", f"{source}/.snapshots/x\nholdstill: error: forged")
    done = execute(source, "true")
    assert len(done.stderr.splitlines()) == 1
    assert "\\x0aholdstill" in done.stderr


def test_many_mounts_are_no_trouble(arena: Arena, source: str) -> None:
    """A mountinfo of many pages is read whole: the view is found to be whole afterwards."""
    beside = arena.directory()
    script = """
        name=$(printf 'x%.0s' $(seq 120))
        for n in $(seq 300); do
            mkdir -p "$0/$name-$n" && mount -t tmpfs none "$0/$name-$n" || exit 1
        done
    """
    sh("sh", "-c", script, beside)
    assert len(Path("/proc/self/mountinfo").read_bytes()) > 50_000
    done = execute(source, "cat", f"{source}/file")
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\n", "")


def test_the_host_never_sees_a_mount(arena: Arena, disk: Disk, source: str) -> None:
    """The host's table is the same before, during and after, on shared propagation, too."""
    before = arena.rows()
    with started(
        source, "sh", "-c", "echo ready; read -r _; grep -c . /proc/self/mountinfo"
    ) as run:
        assert run.line() == "ready"
        assert arena.rows() == before
        assert len(disk.snapshots()) == 1
        run.let_go()
        assert run.finish().returncode == 0
    assert arena.rows() == before
    options = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    assert any("shared:" in row for row in options.splitlines() if f" {source} " in row)


def test_no_timestamp_in_the_source_moves(source: str) -> None:
    """Not even an access time, although the command has read everything."""
    _populate(source)
    before = _timestamps(source)
    done = execute(source, "sh", "-c", 'find "$0" -type f -exec cat {} + ; ls -lR "$0"', source)
    assert done.returncode == 0
    assert _timestamps(source) == before


def test_no_timestamp_moves_above_a_nested_source_or_a_bound_directory(
    disk: Disk, source: str
) -> None:
    """The directories on the way are looked up, never listed."""
    _populate(source)
    sh("btrfs", "subvolume", "create", f"{source}/a/nested")
    target = disk.arena.directory()
    sh("mount", "--bind", f"{source}/a", target)
    _age(source)
    before = _timestamps(source)
    assert execute([f"{source}/a/nested", target], "find", source, target).returncode == 0
    assert _timestamps(source) == before


def test_no_timestamp_moves_where_the_data_lie_in_the_top_level(arena: Arena) -> None:
    """The first run makes the staging directory and puts the time back; later ones find it."""
    top = arena.disk(128).top
    _populate(top)
    made = os.stat(top)
    assert execute(top, "find", top).returncode == 0
    first = os.stat(top)
    assert (first.st_mtime_ns, first.st_atime_ns) == (made.st_mtime_ns, made.st_atime_ns)
    before = _timestamps(top)
    assert execute(top, "find", top).returncode == 0
    assert _timestamps(top) == before


def test_python_freezes_and_runs(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    """`with holdstill.frozen(...) as view` is the same without a command line."""
    monkeypatch.chdir(tmp_path)
    with holdstill.frozen([source]) as view:
        Path(source, "file").write_text("after\n", encoding="utf-8")
        assert len(disk.snapshots()) == 1
        for copy in ("one", "two"):
            ended: Ended = view.run(["cp", f"{source}/file", copy])
            assert (ended.status, ended.signal) == (0, None)
    assert disk.runs() == []
    assert (tmp_path / "one").read_text(encoding="utf-8") == "before\n"
    assert (tmp_path / "two").read_text(encoding="utf-8") == "before\n"


def test_python_takes_paths_of_pathlib(source: str) -> None:
    """As other functions that take paths do."""
    with holdstill.frozen([Path(source)]) as view:
        assert view.run(["test", "-e", f"{source}/file"]).status == 0


@pytest.mark.parametrize("paths", [[], "", "/srv/data"])
def test_python_is_told_that_paths_are_a_list(paths: Sequence[str]) -> None:
    """A text would be frozen letter by letter."""
    with pytest.raises(SourceError, match="a list of paths is needed"), holdstill.frozen(paths):
        pass


def test_python_reads_the_output_by_lines(source: str) -> None:
    """Callbacks take what the command says."""
    lines: list[bytes] = []
    errors: list[bytes] = []
    with holdstill.frozen([source]) as view:
        ended = view.run(
            ["sh", "-c", f"cat {source}/file; echo two; echo oops >&2; exit 4"],
            on_stdout=lines.append,
            on_stderr=errors.append,
        )
    assert (ended.status, lines, errors) == (4, [b"before", b"two"], [b"oops"])


def test_python_cleans_up_when_the_body_raises(disk: Disk, source: str) -> None:
    """The body's error comes through, the snapshot goes."""

    def body() -> None:
        with holdstill.frozen([source]):
            assert len(disk.snapshots()) == 1
            raise RuntimeError(source)

    with pytest.raises(RuntimeError, match=source):
        body()
    assert disk.runs() == []


def test_python_warns_of_nothing_it_need_not(source: str, caplog: pytest.LogCaptureFixture) -> None:
    """A clean run logs no word."""
    with holdstill.frozen([source]) as view:
        view.run(["true"])
    assert caplog.records == []


def test_a_run_imports_neither_the_configuration_nor_the_terminal() -> None:
    """What `exec` does not use, it does not load: start-up time counts."""
    packages = os.path.dirname(os.path.dirname(holdstill.__file__))
    program = (
        f"import sys; sys.path.append({packages!r}); import holdstill.cli.main as main\n"
        "main.parse(['exec', '/x', '--', 'true'])\n"
        "import holdstill.freeze, holdstill.linux.signals\n"
        "slow = {'msgspec', 'rich', 'urllib.request', 'sqlite3', 'json', 'typing'}\n"
        "print(*sorted(slow & sys.modules.keys()))"
    )
    # Without site: what it imports for the development environment is not the program's.
    assert sh(sys.executable, "-IS", "-c", program).strip() == ""


def _populate(directory: str) -> None:
    os.makedirs(f"{directory}/a/b")
    for place in ("", "a", "a/b"):
        Path(directory, place, "data").write_text("x", encoding="utf-8")
    _age(directory)


def _age(directory: str) -> None:
    """Make every access time older than its modification: any reading would renew it."""
    paths = [directory, *(path for path, _ in _walk(directory))]
    for path in reversed(paths):
        os.utime(path, (1_000_000_000, 1_100_000_000))


def _timestamps(directory: str) -> dict[str, tuple[int, int, int]]:
    entries = [(directory, os.stat(directory)), *_walk(directory)]
    return {path: (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns) for path, s in entries}


def _walk(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything below a directory but our own, moving no access time."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
    names = sorted(os.listdir(descriptor))
    os.close(descriptor)
    for name in names:
        path = f"{directory}/{name}"
        found = os.lstat(path)
        if name == STAGING:
            continue
        yield path, found
        if os.path.isdir(path):
            yield from _walk(path)
