"""Disks that tests share or have for themselves, and the proof that nothing of them stays."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.kernel.disks import Arena, Disk
from tests.kernel.guardian import unmount

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def whole_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Open the only place where tests mount; fail the run if anything of theirs outlives it."""
    opened = Arena(os.path.realpath(tmp_path_factory.mktemp("arena")))
    opened.open()
    try:
        yield opened
    finally:
        left = opened.close()
    assert left == [], "the tests left something behind"


@pytest.fixture(scope="session")
def session_disk(whole_arena: Arena) -> Disk:
    """One file system for all tests that do not harm it."""
    return whole_arena.disk()


@pytest.fixture
def arena(whole_arena: Arena) -> Iterator[Arena]:
    """Lend a place to mount in. Whatever a test did, nothing of it stays, or the test fails."""
    before = whole_arena.rows()
    shared = list(whole_arena.disks)
    yield whole_arena
    left = whole_arena.left_behind()
    for mount in reversed([row for row in whole_arena.rows() if row not in before]):
        with suppress(OSError):  # gone with its parent
            unmount(mount.mount_point)
    whole_arena.disks[:] = shared
    assert left == [], "the test left something behind"


@pytest.fixture
def disk(session_disk: Disk, arena: Arena) -> Disk:
    """Lend the shared file system, on which a test makes its own subvolumes."""
    assert session_disk in arena.disks
    return session_disk


@pytest.fixture
def source(disk: Disk) -> str:
    """Return a mounted subvolume with a file `file` that says `before`."""
    return disk.source()


@pytest.fixture
def swap_alone() -> Iterator[None]:
    """Keep the swap files of other tests away: all of the machine sees them, whoever runs those."""
    path = os.path.join(tempfile.gettempdir(), "holdstill-tests-swap.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)
