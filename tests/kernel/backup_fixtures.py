"""The fixtures of tests of jobs: a plugin that each of their modules names."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.kernel.backups import NEWEST, PASSWORD, RESTICS, Site, make_site
from tests.kernel.disks import sh
from tests.kernel.guardian import unmount, unmount_below
from tests.quick_keys import make_quick

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.disks import Arena


@pytest.fixture(scope="session")
def template_repository(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make an empty repository that every version reads, and whose key is quick to derive."""
    path = str(tmp_path_factory.mktemp("template") / "repository")
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": path}
    oldest = next(iter(RESTICS.values()))
    subprocess.run([oldest, "init", "--quiet", "--no-cache"], env=environment, check=True)
    make_quick(path, PASSWORD)
    return path


@pytest.fixture
def restic_path() -> str:
    """Use the newest restic; `each_restic` runs a test with every one."""
    return NEWEST


@pytest.fixture
def site(tmp_path: Path, source: str, restic_path: str, template_repository: str) -> Site:
    """Set up a machine on which `holdstill backup data` works, with an empty repository."""
    made = make_site(tmp_path, source, restic_path, template_repository)
    made.add_repository("main")
    return made


@pytest.fixture(scope="session")
def quiet_place() -> Iterator[str]:
    """Cover a directory of the root by one that only these tests see, and write to."""
    os.makedirs("/srv", exist_ok=True)
    sh("mount", "-t", "tmpfs", "tmpfs", "/srv")
    yield "/srv"
    unmount("/srv")


@pytest.fixture
def quiet(arena: Arena, quiet_place: str) -> Iterator[str]:
    """Make a directory whose ancestors nobody touches: their metadata is part of every snapshot.

    Unmounts what a test has mounted in it.
    """
    assert arena.base  # whose disks the test mounts here
    path = tempfile.mkdtemp(prefix="holdstill-test-", dir=quiet_place)
    yield path
    unmount_below(path)
    for name in os.listdir(path):
        os.rmdir(f"{path}/{name}")
    os.rmdir(path)
