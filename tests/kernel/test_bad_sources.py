"""Sources that cannot be frozen: nothing is started, nothing is changed, and the words help."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from holdstill.errors import SourceError
from holdstill.freeze import plan
from tests.kernel.disks import STAGING, sh, swapping
from tests.kernel.program import EXEC, execute

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from tests.kernel.disks import Arena, Disk

OTHER_FILE_SYSTEMS = ["ext4", "tmpfs", "overlay"]
if shutil.which("mkfs.xfs"):
    OTHER_FILE_SYSTEMS.append("xfs")


def refused(
    paths: str | Sequence[str], *, wrapper: Sequence[str] = (), cwd: str | None = None
) -> str:
    """Return what holdstill says when it refuses paths, having started nothing."""
    done: subprocess.CompletedProcess[str]
    done = execute(paths, "echo", "started", wrapper=wrapper, cwd=cwd)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("holdstill: error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def remedy(said: str) -> str:
    """Return the line that says what to do."""
    first, second = said.splitlines()
    assert first.startswith("holdstill: error: ")
    assert second.startswith("  ")
    return second.strip()


def test_a_path_that_does_not_exist(source: str) -> None:
    """Perhaps its disk is not mounted."""
    said = refused(f"{source}/nowhere")
    assert f"{source}/nowhere cannot be looked at: No such file or directory" in said
    assert "mounted" in remedy(said)


def test_a_file(source: str) -> None:
    """Its directory is what can be frozen."""
    said = refused(f"{source}/file")
    assert f"{source}/file is not a directory" in said
    assert remedy(said) == f"name its directory, {source}"


@pytest.mark.parametrize("inside", ["", "/inner"], ids=["itself", "on the way"])
def test_a_symlink(source: str, inside: str) -> None:
    """The backup program would record the link: the real path is named instead."""
    os.makedirs(f"{source}/real/inner")
    os.symlink("real", f"{source}/link")
    said = refused(f"{source}/link{inside}")
    assert f"{source}/link{inside} leads through a symlink to {source}/real{inside}" in said
    assert remedy(said) == f"name {source}/real{inside} instead"


def test_a_symlink_that_leads_nowhere(source: str) -> None:
    """Also an error, not a crash."""
    os.symlink("missing", f"{source}/link")
    assert "symlink" in refused(f"{source}/link")


def test_a_relative_path_in_a_job(source: str) -> None:
    """A job has no working directory; `exec` has one, and completes the path itself."""
    with pytest.raises(SourceError, match="not an absolute path") as caught:
        plan([os.path.relpath(source)])
    assert caught.value.remedy == f"name it as {source}"


@pytest.mark.parametrize("fs_type", OTHER_FILE_SYSTEMS)
def test_a_file_system_without_snapshots(arena: Arena, fs_type: str) -> None:
    """The file system and where it is mounted are named; the live files are never read instead."""
    path = arena.other(fs_type)
    said = refused(path)
    assert f"{path} is on {fs_type} (mounted at {path}), which has no snapshots" in said
    assert remedy(said) == "only paths on btrfs can be frozen"


def test_a_file_system_of_another_kind_below_btrfs(arena: Arena, source: str) -> None:
    """What counts is where the path itself lies."""
    os.mkdir(f"{source}/mounted")
    arena.mount_tmpfs(f"{source}/mounted")
    os.mkdir(f"{source}/mounted/inner")
    assert f"(mounted at {source}/mounted)" in refused(f"{source}/mounted/inner")


def test_the_machines_own_proc() -> None:
    """A pseudo file system has no snapshots either."""
    assert "/proc is on proc" in refused("/proc")


def test_a_name_that_is_no_text_is_named_in_one_line(source: str) -> None:
    """No byte of a path can forge a line or break the terminal's encoding."""
    said = refused(os.fsdecode(os.fsencode(source) + b"/x\n\xff\x1b[2J"))
    assert "/x\\x0a\\xff\\x1b[2J' cannot be looked at" in said
    assert len(said.splitlines()) == 2


def test_one_bad_path_of_several_starts_nothing(disk: Disk, source: str) -> None:
    """Good company does not help: the command would see a live path."""
    assert "cannot be looked at" in refused([source, f"{source}/nowhere"])
    assert disk.runs() == []


def test_a_read_only_file_system_stays_read_only(arena: Arena) -> None:
    """It is refused, and above all not made writable on the way."""
    source = arena.disk(128).source("@data")
    sh("mount", "-o", "remount,ro", source)
    before = arena.rows()
    assert [row.read_only_file_system for row in before if row.mount_point == source] == [True]
    said = refused(source)
    assert "the file system is read-only: it takes no snapshot" in said
    assert "remount it writable" in remedy(said)
    assert arena.rows() == before


def test_a_full_file_system_says_what_to_do(arena: Arena) -> None:
    """No snapshot fits, nothing is started, nothing is left, and the next run works again."""
    tiny = arena.disk(32, "--mixed")
    source = tiny.source("@data")
    _fill(source)
    said = refused(source)
    assert "No space left on device" in said
    assert "free some space" in remedy(said)
    assert tiny.runs() == []
    for name in os.listdir(source):
        os.unlink(f"{source}/{name}")
    sh("btrfs", "filesystem", "sync", source)
    assert execute(source, "true").returncode == 0


@pytest.mark.usefixtures("swap_alone")
def test_an_active_swap_file_is_named(arena: Arena) -> None:
    """The kernel refuses a subvolume with one; the error says which file it is."""
    own = arena.disk(256)
    source = own.source("@data")
    swap = f"{source}/swap file"
    with swapping(swap):
        said = refused(source)
    assert "cannot take a snapshot of subvolume" in said
    assert "Text file busy" in said
    assert "active swap file" in remedy(said)
    assert f"'{swap}'" in remedy(said)
    assert execute(source, "true").returncode == 0


def test_somebody_who_is_not_root(source: str) -> None:
    """Snapshots and mounts are root's."""
    # Without coverage, which could not write its data as nobody, and would say so.
    unmeasured = ("env", "-u", "COVERAGE_PROCESS_CONFIG", "-u", "COVERAGE_PROCESS_START")
    nobody = (*unmeasured, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    said = refused("/", wrapper=nobody, cwd="/")
    assert "taking snapshots and mounting them need root (CAP_SYS_ADMIN)" in said
    assert remedy(said) == "run it with sudo"
    assert source


def test_root_without_the_capability(disk: Disk, source: str) -> None:
    """As in a container: the capability is named, not the user."""
    said = refused(source, wrapper=("setpriv", "--bounding-set", "-sys_admin"))
    assert "CAP_SYS_ADMIN" in said
    assert disk.runs() == []


def test_root_of_a_user_namespace(disk: Disk, source: str) -> None:
    """All capabilities, and none of them over the file system."""
    said = refused(source, wrapper=("unshare", "--user", "--map-root-user"))
    assert "Operation not permitted" in said
    assert disk.runs() == []


def test_a_device_that_is_gone_from_dev(disk: Disk, source: str) -> None:
    """A container often has the mount and not its device."""
    hide = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh")
    said = refused(source, wrapper=hide)
    assert f"cannot reach the file system on {disk.device}: No such file or directory" in said
    assert remedy(said) == "the device is gone from /dev"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--",),
        ("--", "true"),
        ("/x",),
        ("/x", "--"),
        ("--no-such-option", "/x", "--", "true"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_is_125(words: tuple[str, ...]) -> None:
    """2 could be the command's own status."""
    with pytest.raises(OSError, match="status 125") as caught:
        sh(*EXEC, *words)
    assert "holdstill" in str(caught.value)


def test_help_is_no_failure() -> None:
    """It ends with the exit statuses, and says nothing on standard error."""
    said = sh(*EXEC, "--help")
    assert "usage: holdstill exec" in said
    assert "exit status:" in said


def _fill(directory: str) -> None:
    """Fill a file system, its metadata, too, to the last byte."""
    for size in (1 << 20, 1 << 16, 1 << 12, 1000, 1):
        try:
            for number in range(100_000):
                with open(f"{directory}/{size}-{number}", "wb", buffering=0) as file:
                    file.write(os.urandom(size))
                    os.fsync(file.fileno()) if size > 4096 else None
        except OSError:
            os.sync() if size == 1 else None
    assert not os.path.exists(f"{directory}/{STAGING}")
