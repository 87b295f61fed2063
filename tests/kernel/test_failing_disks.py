"""Disks that give up: no half instant, no false success, and words that help.

Nothing is simulated: a loop device fails for real when what its image lies on does.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from holdstill.linux import loop
from tests.kernel.backups import only
from tests.kernel.disks import sh
from tests.kernel.guardian import unmount
from tests.kernel.program import execute, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.backups import Site
    from tests.kernel.disks import Arena

pytest_plugins = ["tests.kernel.backup_fixtures"]

SIZE = 512 << 20


class Failing(NamedTuple):
    """A mounted btrfs with a nested subvolume, and what makes its disk fail."""

    source: str
    fail: Callable[[], None]


def _file_system_in(arena: Arena, directory: str) -> tuple[str, int]:
    """Make a btrfs on an image in a directory; return where a subvolume of it is mounted."""
    image = os.open(f"{directory}/image", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    os.truncate(image, SIZE)
    opened, device = loop.attach(image)
    sh("mkfs.btrfs", "-q", "-m", "single", device)
    top, source = arena.directory(), arena.directory()
    sh("mount", "-o", "subvolid=5", device, top)
    os.close(opened)
    sh("btrfs", "subvolume", "create", f"{top}/@")
    sh("btrfs", "subvolume", "create", f"{top}/@/inner")
    sh("mount", "-o", "subvol=@", device, source)
    return source, image


@pytest.fixture
def filling(arena: Arena) -> Iterator[Failing]:
    """Lend a disk that takes no more writes: btrfs then makes itself read-only, for good."""
    below = arena.directory()
    sh("mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", below)
    source, image = _file_system_in(arena, below)
    Path(source, "file").write_text("before\n", encoding="utf-8")
    sh("sync", "-f", source)

    def fail() -> None:
        filler = os.open(f"{below}/filler", os.O_WRONLY | os.O_CREAT)
        free = os.fstatvfs(filler).f_bavail * os.fstatvfs(filler).f_frsize
        os.posix_fallocate(filler, 0, free)
        os.close(filler)

    yield Failing(source, fail)
    os.close(image)


@pytest.fixture
def vanishing(arena: Arena) -> Iterator[Failing]:
    """Lend a disk that is pulled out: every read and write fails from then on."""
    with _served(arena) as (through, pull):
        source, image = _file_system_in(arena, through)
        Path(source, "file").write_bytes(os.urandom(4 << 20))
        sh("sync", "-f", source)

        def fail() -> None:
            os.fsync(image)
            os.posix_fadvise(image, 0, 0, os.POSIX_FADV_DONTNEED)
            pull()

        yield Failing(source, fail)
        os.close(image)


@contextmanager
def _served(arena: Arena) -> Iterator[tuple[str, Callable[[], None]]]:
    """Serve a directory by a process of our own (FUSE), and yield what kills it."""
    behind, through = arena.directory(), arena.directory()
    with subprocess.Popen(["bindfs", "-f", behind, through]) as server:

        def pull() -> None:
            server.kill()
            server.wait()

        try:
            while not os.path.ismount(through):
                assert server.poll() is None
                time.sleep(0.01)
            yield through, pull
        finally:
            pull()
            unmount(through)


def test_a_disk_that_was_pulled_out_is_not_frozen(vanishing: Failing) -> None:
    """No command is started on half of the subvolumes."""
    vanishing.fail()
    done = execute(vanishing.source, "echo", "started")
    assert (done.returncode, done.stdout) == (125, "")
    assert "Input/output error" in done.stderr
    assert "dmesg" in done.stderr
    assert "Traceback" not in done.stderr
    assert "[Errno" not in done.stderr


def test_a_disk_that_is_pulled_out_during_a_backup(site: Site, vanishing: Failing) -> None:
    """What could not be read is no complete backup: nothing is forgotten for it."""
    site.job["paths"] = [vanishing.source]
    site.job["keep"] = {"last": 1}
    with site.paused("backup", "--json") as process:
        vanishing.fail()
        site.let_go()
        out, err = process.communicate()
    record = json.loads(out)
    assert "Traceback" not in err
    assert record["outcome"] in {"partial", "failed"}
    assert only(record)["outcome"] in {"partial", "failed"}
    assert "input/output error" in str(record).lower()
    assert site.calls("forget") == []


def test_a_file_system_that_goes_read_only_before_the_freeze(filling: Failing) -> None:
    """The snapshots are what makes it fail: none of the set is used."""
    filling.fail()
    done = execute(filling.source, "echo", "started")
    assert (done.returncode, done.stdout) == (125, "")
    assert "error: cannot " in done.stderr.splitlines()[0]
    assert "dmesg" in done.stderr
    assert "Traceback" not in done.stderr
    assert "[Errno" not in done.stderr
    again = execute(filling.source, "echo", "started")
    assert "the file system is read-only: it takes no snapshot" in again.stderr


def test_a_file_system_that_goes_read_only_in_the_middle(filling: Failing) -> None:
    """The command has read its snapshot to the end; what cannot be removed is an error."""
    file = f"{filling.source}/file"
    with started(filling.source, "sh", "-c", 'echo ready; read -r _; cat "$0"', file) as run:
        assert run.line() == "ready"
        filling.fail()
        with pytest.raises(OSError, match="sync"):
            _write_until_it_fails(filling.source)
        run.let_go()
        done = run.finish()
    assert (done.returncode, done.stdout) == (125, "before\n")
    assert "left alone in .holdstill/" in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


def _write_until_it_fails(source: str) -> None:
    Path(source, "more").write_bytes(os.urandom(8 << 20))
    sh("sync", "-f", source)
