"""The staging directory: what is ours is removed when its run is dead, and nothing else ever is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.errors import FreezeError
from holdstill.linux import btrfs as kernel
from holdstill.snapshots import btrfs, staging, turn
from tests.kernel.disks import STAGING, sh
from tests.kernel.program import execute, started

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdstill.snapshots.model import Leftover
    from tests.kernel.disks import Arena, Disk
    from tests.kernel.program import Running

TURN = turn.Turn()
DEAD_RUN = "20200101T000000Z-abcdef"
STUBBORN = "trap '' TERM; echo ready; read -r _; cat \"$0\"; echo done"


def sweep(disk: Disk, *, remove: bool = True) -> tuple[list[Leftover], tuple[str, ...]]:
    """Sweep a disk; return what was found dead, and what was left alone."""
    dead: list[Leftover] = []
    return dead, staging.sweep(disk.device, dead.append, remove=remove)


def subvolume_uuid(path: str) -> str:
    """Return the uuid of the subvolume at a path."""
    with btrfs.opened(path) as descriptor:
        return kernel.subvolume_info(descriptor).uuid


def left_by_a_dead_run(disk: Disk, source: str) -> str:
    """Kill holdstill and its command; return the name of the run that they leave."""
    with started(source, "sh", "-c", "echo ready; exec sleep 60") as run:
        assert run.line() == "ready"
        os.killpg(run.pid, signal.SIGKILL)
        run.finish()
    (name,) = disk.runs()
    assert len(disk.snapshots()) == 1
    return name


def kill_holdstill(run: Running) -> None:
    """SIGKILL: no clean-up happens."""
    os.kill(run.pid, signal.SIGKILL)
    run.process.wait()


def test_the_staging_directory_is_roots_alone(disk: Disk, source: str) -> None:
    """Nobody else can look into a snapshot while it exists, not even into world-readable files."""
    script = 'stat -c "%a %u" "$0" "$0"/* "$0"/*/0'
    done = execute(source, "sh", "-c", script, f"{disk.top}/{STAGING}")
    assert done.stdout == "700 0\n" * 3


def test_the_next_run_removes_what_a_killed_one_left(disk: Disk, source: str) -> None:
    """With a warning that names the run; then it does its own work."""
    name = left_by_a_dead_run(disk, source)
    done = execute(source, "cat", f"{source}/file")
    assert (done.returncode, done.stdout) == (0, "before\n")
    warning = f"removing what the dead run {name} left on {disk.device}: 1 snapshot"
    assert done.stderr == f"holdstill: warning: {warning}\n"
    assert disk.runs() == disk.snapshots() == []


def test_an_orphaned_command_keeps_its_snapshot(disk: Disk, source: str) -> None:
    """Holdstill is killed, the command goes on reading: the run is alive until it has ended."""
    with started(source, "sh", "-c", STUBBORN, f"{source}/file") as run:
        assert run.line() == "ready"
        kill_holdstill(run)
        assert sweep(disk) == ([], ())
        assert execute(source, "true").stderr == ""
        assert len(disk.snapshots()) == 1
        run.let_go()
        assert run.finish().stdout == "before\ndone\n"
    dead, problems = sweep(disk)
    assert (len(dead), problems, disk.runs()) == (1, (), [])


def test_the_command_is_asked_to_end_when_holdstill_is_killed(disk: Disk, source: str) -> None:
    """Nobody would believe its result any more."""
    with started(source, "sh", "-c", "trap 'echo told; exit' TERM; echo ready; read -r _") as run:
        assert run.line() == "ready"
        kill_holdstill(run)
        assert run.finish().stdout == "told\n"
    assert len(sweep(disk)[0]) == 1


def test_a_living_run_is_never_swept(disk: Disk, source: str) -> None:
    """Its lock is held."""
    with started(source, "sh", "-c", "echo ready; read -r _") as run:
        assert run.line() == "ready"
        assert sweep(disk) == ([], ())
        assert len(disk.snapshots()) == 1
        run.let_go()
        assert run.finish().stderr == ""


def test_a_sweep_can_only_look(disk: Disk, source: str) -> None:
    """What would be removed is reported, and stays."""
    name = left_by_a_dead_run(disk, source)
    dead, problems = sweep(disk, remove=False)
    assert [(found.run, found.device) for found in dead] == [(name, disk.device)]
    assert dead[0].snapshots == (f"0/{subvolume_uuid(source)}",)
    assert problems == ()
    assert disk.runs() == [name]
    sweep(disk)
    assert disk.runs() == []


def test_sweeping_again_finds_nothing(disk: Disk, source: str) -> None:
    """Nor does it where holdstill has never been."""
    left_by_a_dead_run(disk, source)
    sweep(disk)
    assert sweep(disk) == ([], ())


def test_a_sweep_of_a_fresh_file_system_makes_nothing(arena: Arena) -> None:
    """Looking leaves no staging directory behind."""
    fresh = arena.disk(128)
    assert sweep(fresh) == ([], ())
    assert os.listdir(fresh.top) == []


@pytest.mark.parametrize("made", [[], ["lock"], ["lock", "0/"], ["0/", "1/"]], ids=str)
def test_a_run_that_died_half_made_is_removed(disk: Disk, made: list[str]) -> None:
    """Killed between any two steps of its beginning or its end."""
    run = Path(disk.staging(), DEAD_RUN)
    run.mkdir(mode=0o700)
    for name in made:
        if name.endswith("/"):
            (run / name).mkdir()
        else:
            (run / name).touch()
    dead, problems = sweep(disk)
    assert ([found.run for found in dead], problems, disk.runs()) == ([DEAD_RUN], (), [])


def _writable_copy(disk: Disk, source: str, run: str) -> str:
    os.makedirs(f"{run}/0")
    target = f"{run}/0/{subvolume_uuid(source)}"
    sh("btrfs", "subvolume", "snapshot", f"{disk.top}/{_name_of(source)}", target)
    return target


def _copy_of_another(disk: Disk, source: str, run: str) -> str:
    os.makedirs(f"{run}/0")
    other = disk.source()
    target = f"{run}/0/{subvolume_uuid(source)}"
    sh("btrfs", "subvolume", "snapshot", "-r", other, target)
    return target


def _no_copy_at_all(_: Disk, source: str, run: str) -> str:
    os.makedirs(f"{run}/0")
    target = f"{run}/0/{subvolume_uuid(source)}"
    sh("btrfs", "subvolume", "create", target)
    sh("btrfs", "property", "set", target, "ro", "true")
    return target


def _copy_under_another_name(_: Disk, source: str, run: str) -> str:
    os.makedirs(f"{run}/0")
    sh("btrfs", "subvolume", "snapshot", "-r", source, f"{run}/0/precious")
    return f"{run}/0/precious"


def _copy_elsewhere_in_the_run(_: Disk, source: str, run: str) -> str:
    os.makedirs(run)
    target = f"{run}/{subvolume_uuid(source)}"
    sh("btrfs", "subvolume", "snapshot", "-r", source, target)
    return target


def _plain_directory(_: Disk, source: str, run: str) -> str:
    target = f"{run}/0/{subvolume_uuid(source)}"
    os.makedirs(target)
    Path(target, "file").touch()
    return target


def _plain_file(_: Disk, source: str, run: str) -> str:
    os.makedirs(f"{run}/0")
    target = f"{run}/0/{subvolume_uuid(source)}"
    Path(target).touch()
    return target


def _symlink_to_a_snapshot(disk: Disk, source: str, run: str) -> str:
    os.makedirs(f"{run}/0")
    own = f"{disk.top}/{disk.arena.unique('mine')}"
    sh("btrfs", "subvolume", "snapshot", "-r", source, own)
    target = f"{run}/0/{subvolume_uuid(source)}"
    os.symlink(own, target)
    return target


def _symlink_for_a_number(disk: Disk, source: str, run: str) -> str:
    os.makedirs(run)
    own = f"{disk.top}/{disk.arena.unique('mine')}"
    os.mkdir(own)
    target = f"{own}/{subvolume_uuid(source)}"
    sh("btrfs", "subvolume", "snapshot", "-r", source, target)
    os.symlink(own, f"{run}/0")
    return target


def _symlink_for_a_run(disk: Disk, source: str, run: str) -> str:
    own = f"{disk.top}/{disk.arena.unique('mine')}"
    os.makedirs(f"{own}/0")
    target = f"{own}/0/{subvolume_uuid(source)}"
    sh("btrfs", "subvolume", "snapshot", "-r", source, target)
    os.symlink(own, run)
    return target


def _file_for_a_run(_disk: Disk, _source: str, run: str) -> str:
    Path(run).touch()
    return run


def _file_for_a_number(_disk: Disk, _source: str, run: str) -> str:
    os.makedirs(run)
    Path(run, "0").touch()
    return f"{run}/0"


def _symlink_for_a_lock(_disk: Disk, source: str, run: str) -> str:
    os.makedirs(run)
    os.symlink(f"{source}/file", f"{run}/lock")
    return f"{source}/file"


def _something_beside(_disk: Disk, _source: str, run: str) -> str:
    os.makedirs(run)
    Path(run, "notes").touch()
    return f"{run}/notes"


def _name_of(source: str) -> str:
    return sh("findmnt", "-n", "-o", "FSROOT", source).strip().lstrip("/")


FOREIGN = [
    _writable_copy,
    _copy_of_another,
    _no_copy_at_all,
    _copy_under_another_name,
    _copy_elsewhere_in_the_run,
    _plain_directory,
    _plain_file,
    _symlink_to_a_snapshot,
    _symlink_for_a_number,
    _symlink_for_a_run,
    _file_for_a_run,
    _file_for_a_number,
    _symlink_for_a_lock,
    _something_beside,
]


@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__.strip("_"))
def test_what_is_not_ours_stays_and_is_reported(
    disk: Disk, source: str, make: Callable[[Disk, str, str], str]
) -> None:
    """A name like ours proves nothing; and it does not keep a run from working either."""
    run = f"{disk.staging()}/{DEAD_RUN}"
    precious = make(disk, source, run)
    for _ in range(2):
        _, problems = sweep(disk)
        assert os.path.lexists(precious)
        assert len(problems) == 1, "it must be reported, each time"
        assert DEAD_RUN in problems[0]
    done = execute(source, "cat", f"{source}/file")
    assert (done.returncode, done.stdout) == (0, "before\n")
    assert "warning" in done.stderr
    assert DEAD_RUN in done.stderr
    assert "Traceback" not in done.stderr
    assert os.path.lexists(precious)
    disk.scrub()


@pytest.mark.parametrize("name", ["mine", "20200101T000000Z-ABCDEF", "20200101T000000Z-abcdef.bak"])
def test_other_names_are_nobodys_business(disk: Disk, source: str, name: str) -> None:
    """Only what is called like a run is looked at at all."""
    path = f"{disk.staging()}/{name}"
    sh("btrfs", "subvolume", "snapshot", "-r", source, path)
    assert sweep(disk) == ([], ())
    assert os.path.exists(f"{path}/file")
    disk.scrub()


def test_a_snapshot_beside_something_foreign_is_removed_all_the_same(
    disk: Disk, source: str
) -> None:
    """One problem does not keep the rest from being cleaned up."""
    name = left_by_a_dead_run(disk, source)
    foreign = f"{disk.staging()}/{name}/1"
    os.mkdir(foreign)
    Path(foreign, "keep").touch()
    _, problems = sweep(disk)
    assert disk.snapshots() == []
    assert os.path.exists(f"{foreign}/keep")
    assert len(problems) == 1
    assert "1/keep" in problems[0]
    disk.scrub()


def _of_somebody_else(path: str) -> None:
    os.mkdir(path, 0o700)
    os.chown(path, 65534, 65534)


def _open_to_others(path: str) -> None:
    os.mkdir(path)
    os.chmod(path, 0o740)


def _a_symlink(path: str) -> None:
    os.mkdir(f"{path}-real", 0o700)
    os.symlink(f"{path}-real", path)


def _a_file(path: str) -> None:
    Path(path).touch(mode=0o600)


UNSAFE = [_of_somebody_else, _open_to_others, _a_symlink, _a_file]


@pytest.mark.parametrize("make", UNSAFE, ids=lambda make: make.__name__.strip("_"))
def test_an_unsafe_staging_directory_is_refused(arena: Arena, make: Callable[[str], None]) -> None:
    """Whoever else can write there could exchange a snapshot: nothing is started or swept."""
    own = arena.disk(128)
    source = own.source("@data")
    make(f"{own.top}/{STAGING}")
    done = execute(source, "echo", "started")
    assert (done.returncode, done.stdout) == (125, "")
    assert f"{STAGING} at the top level of {own.device} is not safe" in done.stderr
    assert "  remove it" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(FreezeError, match="is not safe"):
        sweep(own)
    assert own.snapshots() == []


def test_a_staging_directory_that_stays_locked_is_an_error(
    disk: Disk, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped holdstill is named as the likely cause, and nothing is swept meanwhile."""
    monkeypatch.setattr(turn, "SECONDS", 0.05)
    left_by_a_dead_run(disk, source)
    own = os.getpid()
    with btrfs.opened(disk.staging()) as directory, staging._guarded(directory, disk.device, TURN):
        began = time.monotonic()
        with pytest.raises(
            FreezeError, match=rf"another holdstill has locked .* \(process {own}\)"
        ):
            sweep(disk)
        assert time.monotonic() - began < 5
    assert len(disk.snapshots()) == 1
    sweep(disk)
    assert disk.snapshots() == []
