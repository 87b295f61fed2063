"""The view: least power for the command, never a live file, and no belief in a broken one."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill.linux import inotify, privileges
from tests.kernel.disks import sh
from tests.kernel.program import execute, started
from tests.kernel.refusing import NEW_MOUNT_CALLS, wrapper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kernel.disks import Arena, Disk
    from tests.kernel.program import Finished

SNAP_CREATE_V2 = "ioctl=0x50009417"
SNAP_DESTROY_V2 = "ioctl=0x5000943F"
SET_NO_NEW_PRIVS = "prctl=38"
DROP_FROM_BOUNDING_SET = "prctl=24"
DIE_WITH_PARENT = "prctl=1"


def test_the_command_has_no_capability_to_mount(source: str) -> None:
    """Nor to trace, load code or touch raw devices: in no set, so that nothing brings it back."""
    done = execute(source, "grep", "^Cap", "/proc/self/status")
    sets = dict(line.split(":\t") for line in done.stdout.splitlines())
    assert sets.keys() == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    for name, value in sets.items():
        for capability, number in privileges.DANGEROUS.items():
            assert not int(value, 16) >> number & 1, f"cap_{capability} in {name}"


def test_the_command_still_reads_every_file(source: str) -> None:
    """A backup program needs that much power."""
    os.chmod(f"{source}/file", 0)
    os.chown(f"{source}/file", 1234, 1234)
    assert execute(source, "cat", f"{source}/file").stdout == "before\n"


def test_the_command_gets_no_new_privileges(source: str) -> None:
    """Set-uid programs and file capabilities have no effect."""
    done = execute(source, "grep", "NoNewPrivs", "/proc/self/status")
    assert done.stdout.split() == ["NoNewPrivs:", "1"]


def test_the_view_is_read_only_without_devices_and_set_user_ids(source: str) -> None:
    """So is the mount of a nested subvolume."""
    sh("btrfs", "subvolume", "create", f"{source}/nested")
    done = execute(source, "cat", "/proc/self/mountinfo")
    rows = [row.split() for row in done.stdout.splitlines()]
    options = {row[4]: set(row[5].split(",")) for row in rows if row[4].startswith(source)}
    assert options.keys() == {source, f"{source}/nested"}
    assert all({"ro", "nosuid", "nodev"} <= of_one for of_one in options.values())


@pytest.mark.parametrize(
    "attempt",
    [
        'umount "$0"',
        'umount -l "$0"',
        'mount -o remount,bind,rw "$0"',
        'mount -t tmpfs none "$0"',
        'mount --bind /tmp "$0"',
        "mount --make-rshared /",
        'nsenter -t 1 -m cat "$0/file"',
        'cat "/proc/$PPID/root/$0/file"',
        'unshare -m umount "$0"',
        'unshare -rm umount "$0"',
        'unshare -rm mount -o remount,bind,rw "$0"',
    ],
)
def test_the_command_cannot_get_at_the_live_files(source: str, attempt: str) -> None:
    """Not by unmounting, not through another process, not even from a user namespace of its own."""
    script = f'echo ready; read -r _; ({attempt}); echo "status $?"; cat "$0/file"'
    with started(source, "sh", "-c", script, source) as run:
        assert run.line() == "ready"
        Path(source, "file").write_text("live\n", encoding="utf-8")
        run.let_go()
        done = run.finish()
    assert done.stdout.splitlines()[-1] == "before"
    assert "live" not in done.stdout
    assert "status 0" not in done.stdout
    assert Path(source, "file").read_text(encoding="utf-8") == "live\n"


def test_the_command_inherits_no_descriptor_but_the_lock(source: str) -> None:
    """A descriptor of the live tree would lead out of the view."""
    live = os.open(source, os.O_RDONLY)
    try:
        script = (
            "import os; print(*(os.readlink(f'/proc/self/fd/{n}') for n in range(3, 64) if "
            "os.path.islink(f'/proc/self/fd/{n}')), sep='\\n')"
        )
        done = execute(source, sys.executable, "-ISc", script, keep_open=[live])
    finally:
        os.close(live)
    names = done.stdout.split()
    assert [os.path.basename(name) for name in names] == ["lock"]


def test_two_file_systems_are_two_locks(arena: Arena, disk: Disk) -> None:
    """One for each staging directory, and nothing else."""
    paths = [disk.source(), arena.disk(128).source()]
    done = execute(paths, "sh", "-c", "ls -l /proc/self/fd | grep -c lock")
    assert done.stdout == "2\n"


@pytest.mark.parametrize(
    "rules",
    [
        [SNAP_CREATE_V2],
        ["unshare"],
        ["move_mount"],
        ["fsmount"],
        ["fsconfig"],
        ["capset"],
        [SET_NO_NEW_PRIVS],
        [DROP_FROM_BOUNDING_SET],
        [DIE_WITH_PARENT],
        ["mount"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_a_step_that_fails_starts_no_command(
    disk: Disk, source: str, rules: list[str], number: int
) -> None:
    """Whatever the kernel refuses on the way: 125, the reason, no snapshot, no live file."""
    done = execute(source, "cat", f"{source}/file", wrapper=wrapper(number, *rules))
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("holdstill: error: ")
    assert os.strerror(number) in done.stderr
    assert "Traceback" not in done.stderr
    assert disk.runs() == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
def test_without_any_way_to_mount_no_command_is_started(
    disk: Disk, source: str, number: int
) -> None:
    """Where the new calls and mount(2) are both refused there is no fallback to live files."""
    done = execute(
        source, "cat", f"{source}/file", wrapper=wrapper(number, *NEW_MOUNT_CALLS, "mount")
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert "Traceback" not in done.stderr
    assert disk.runs() == []


def test_a_view_whose_builder_is_killed_is_an_error(disk: Disk, source: str) -> None:
    """Nothing was run, and holdstill says so."""
    done = execute(source, "echo", "ran", wrapper=wrapper(None, "mount"))
    assert (done.returncode, done.stdout) == (125, "")
    assert "was killed while it built the view" in done.stderr
    assert disk.runs() == []


def test_a_full_disk_at_the_snapshot_says_what_to_do(source: str) -> None:
    """The kernel's ENOSPC comes with a remedy."""
    done = execute(source, "true", wrapper=wrapper(errno.ENOSPC, SNAP_CREATE_V2))
    assert "cannot take a snapshot of subvolume" in done.stderr
    assert "free some space" in done.stderr


def test_a_snapshot_that_cannot_be_deleted_is_an_error(disk: Disk, source: str) -> None:
    """The command has run; what stays is named, and the next run removes it."""
    done = execute(source, "echo", "ran", wrapper=wrapper(errno.EIO, SNAP_DESTROY_V2))
    assert (done.returncode, done.stdout) == (125, "ran\n")
    assert "left alone in .holdstill/" in done.stderr
    assert "Input/output error" in done.stderr
    assert len(disk.snapshots()) == 1
    done = execute(source, "echo", "again")
    assert (done.returncode, done.stdout) == (0, "again\n")
    assert "warning: removing what the dead run" in done.stderr
    assert disk.runs() == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "calls", [NEW_MOUNT_CALLS, ("move_mount",), ("fsopen",)], ids=["all", "move", "open"]
)
def test_everything_works_through_mount_2(
    arena: Arena, disk: Disk, source: str, number: int, calls: tuple[str, ...]
) -> None:
    """Older kernels lack the newer calls, containers pretend to: with all its promises."""
    os.mkdir(f"{source}/inner")
    Path(source, "inner", "file").write_text("before\n", encoding="utf-8")
    bound = arena.directory()
    sh("mount", "--bind", f"{source}/inner", bound)
    before = arena.rows()
    script = (
        'touch "$0/new" 2>/dev/null || cat "$0/file" "$1/file"; grep -c . /proc/self/mountinfo >&2'
    )
    done = execute(
        [source, bound], "sh", "-c", script, source, bound, wrapper=wrapper(number, *calls)
    )
    assert (done.returncode, done.stdout) == (0, "before\nbefore\n")
    assert arena.rows() == before
    assert disk.runs() == []


def test_a_mount_that_is_taken_away_while_the_command_runs_is_noticed(source: str) -> None:
    """What it read after that was live: its success is not believed."""
    with started(source, "sh", "-c", "echo ready; echo $$; read -r _") as run:
        assert run.line() == "ready"
        sh("nsenter", "-t", run.line(), "-m", "umount", "-l", source)
        run.let_go()
        done = run.finish()
    assert done.returncode == 125
    assert f"the view lost its snapshot at {source} while the command ran" in done.stderr


def test_a_mount_that_is_covered_while_the_command_runs_is_noticed(source: str) -> None:
    """Something else on top of the snapshot is as bad as no snapshot."""
    with started(source, "sh", "-c", "echo ready; echo $$; read -r _") as run:
        assert run.line() == "ready"
        sh("nsenter", "-t", run.line(), "-m", "mount", "-t", "tmpfs", "none", source)
        run.let_go()
        done = run.finish()
    assert done.returncode == 125
    assert source in done.stderr


def test_a_snapshot_that_is_deleted_while_the_command_runs_is_noticed(
    disk: Disk, source: str
) -> None:
    """The kernel allows it, and the command then reads an empty directory."""
    with started(source, "sh", "-c", "echo ready; read -r _; ls") as run:
        assert run.line() == "ready"
        sh("btrfs", "subvolume", "delete", f"{disk.top}/{disk.snapshots()[0]}")
        run.let_go()
        done = run.finish()
    assert done.returncode == 125
    assert f"the view lost its snapshot at {source} while the command ran" in done.stderr


def test_moving_things_on_the_host_does_not_move_the_view(disk: Disk, source: str) -> None:
    """A directory in the way of a nested source is renamed: the command goes on in its snapshot."""
    os.makedirs(f"{source}/a/b")
    nested = f"{source}/a/b/nested"
    sh("btrfs", "subvolume", "create", nested)
    Path(nested, "file").write_text("before\n", encoding="utf-8")
    with started(nested, "sh", "-c", 'echo ready; read -r _; cat "$0"', f"{nested}/file") as run:
        assert run.line() == "ready"
        os.rename(f"{source}/a", f"{source}/moved")
        os.makedirs(nested)
        Path(nested, "file").write_text("live\n", encoding="utf-8")
        run.let_go()
        done = run.finish()
    assert (done.stdout, done.returncode) == ("before\n", 0)
    assert disk.runs() == []


def _read_what_takes_its_place(
    source: str, moved: str, before: Sequence[str] = ("true",), around: Sequence[str] = ()
) -> Finished:
    """Rename a directory and back while a command reads, which then finds something live."""
    script = 'echo ready; read -r _; cat "$0"; echo read; read -r _'
    with started(source, "sh", "-c", script, f"{source}/file", wrapper=around) as run:
        assert run.line() == "ready"
        sh(*before)
        os.rename(moved, f"{moved}.away")
        os.makedirs(source)
        Path(source, "file").write_text("live\n", encoding="utf-8")
        run.let_go()
        assert (run.line(), run.line()) == ("live", "read")
        shutil.rmtree(moved)
        os.rename(f"{moved}.away", moved)
        run.let_go()
        return run.finish()


@pytest.mark.parametrize("refused", [(), NEW_MOUNT_CALLS], ids=["", "mount-2"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_directory_above_that_is_renamed_and_back_is_noticed(
    arena: Arena, disk: Disk, refused: tuple[str, ...], depth: int
) -> None:
    """The mounts move along, the command reads what took their place, and all looks well after."""
    top = arena.directory()
    source = disk.source(at=f"{top}/one/two/source")
    moved = os.path.join(top, *("one", "two")[:depth])
    around = wrapper(errno.ENOSYS, *refused) if refused else ()
    done = _read_what_takes_its_place(source, moved, around=around)
    assert done.returncode == 125
    assert "a directory above the view's snapshots was renamed while the command ran" in done.stderr


def test_a_mount_point_that_is_unmounted_and_renamed_is_noticed(arena: Arena, disk: Disk) -> None:
    """Once the host has let go of the mount, the directory below it can be renamed, too."""
    source = disk.source(at=f"{arena.directory()}/source")
    done = _read_what_takes_its_place(source, source, before=("umount", source))
    assert done.returncode == 125
    assert "was renamed while the command ran" in done.stderr


def test_what_is_renamed_beside_a_source_is_nobodys_business(arena: Arena, disk: Disk) -> None:
    """Nor what is renamed in it, nor new files in the directories above it."""
    top = arena.directory()
    source = disk.source(at=f"{top}/source")
    with started(source, "sh", "-c", "echo ready; read -r _") as run:
        assert run.line() == "ready"
        os.mkdir(f"{top}/other")
        os.rename(f"{top}/other", f"{top}/another")
        os.rename(f"{source}/file", f"{source}/renamed")
        run.let_go()
        assert run.finish().returncode == 0


def test_without_a_watch_no_command_is_started(source: str) -> None:
    """A machine that has used up its inotify instances is told which limit to raise."""
    done = execute(source, "echo", "ran", wrapper=wrapper(errno.EMFILE, "inotify_init1"))
    assert (done.returncode, done.stdout) == (125, "")
    assert "raise fs.inotify.max_user_instances" in done.stderr


@pytest.mark.parametrize("are_removed", [False, True])
def test_a_watch_ends_without_a_wait(tmp_path: Path, *, are_removed: bool) -> None:
    """Its watches are let go of before, those of directories that are gone by themselves."""
    watch = inotify.begin()
    for name in ("a", "b"):
        directory = tmp_path / name
        directory.mkdir()
        descriptor = os.open(directory, os.O_PATH)
        inotify.add(watch, descriptor)
        os.close(descriptor)
        if are_removed:
            directory.rmdir()
    kept = os.dup(watch)
    inotify.end(watch)
    assert "inotify" not in Path(f"/proc/self/fdinfo/{kept}").read_text(encoding="utf-8")
    os.close(kept)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(watch)


def test_unmounting_the_source_on_the_host_does_not_end_the_view(arena: Arena, source: str) -> None:
    """Private propagation works in both directions."""
    with started(source, "sh", "-c", 'echo ready; read -r _; cat "$0"', f"{source}/file") as run:
        assert run.line() == "ready"
        sh("umount", source)
        run.let_go()
        done = run.finish()
    assert (done.stdout, done.returncode) == ("before\n", 0)
    assert arena.rows()
