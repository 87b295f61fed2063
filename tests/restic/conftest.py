"""Every restic at hand: the system's, and those of newer Debian suites that the tools unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdstill import process
from holdstill.process import Child, Ended, OnLine
from holdstill.restic.binary import Binary
from holdstill.restic.client import Client
from holdstill.restic.commands import Target
from holdstill.restic.versions import parse
from tests.quick_keys import make_quick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CACHED = Path(__file__).parents[2] / ".cache" / "restic"


@cache
def binaries() -> tuple[Binary, ...]:
    """Return one restic per version, the system's first."""
    system = shutil.which("restic")
    paths = [Path(system)] if system else []
    found: dict[str, Binary] = {}
    for path in paths + sorted(CACHED.glob("*/restic")):
        said = subprocess.run([path, "version"], capture_output=True, text=True, check=True).stdout
        version = parse(said)
        assert version is not None, f"{path} says {said!r}"
        found.setdefault(str(version), Binary(str(path), version))
    return tuple(found.values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what takes `binary` with every version."""
    if "binary" in metafunc.fixturenames:
        metafunc.parametrize(
            "binary",
            binaries(),
            ids=[str(binary.version) for binary in binaries()],
            scope="session",
        )


@pytest.fixture
def system_binary() -> str | None:
    """Return the restic that a user of this machine has."""
    return shutil.which("restic")


def plainly(
    argv: Sequence[str], *, environment: Mapping[str, str], on_stdout: OnLine, on_stderr: OnLine
) -> Ended:
    """Run a program as it is, outside of any view."""
    child = Child(environment=environment, on_stdout=on_stdout, on_stderr=on_stderr)
    return process.run(argv, child)


@pytest.fixture
def client(binary: Binary) -> Client:
    """Return a client of this version."""
    return Client(plainly, binary, {"PATH": os.environ["PATH"], "HOME": "/nonexistent"})


@pytest.fixture(scope="session")
def _fresh(binary: Binary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one empty repository per version, with a key that is quick to derive."""
    place = tmp_path_factory.mktemp(f"restic-{binary.version}")
    password = "correct horse"
    (place / "password").write_text(f"{password}\n")
    environment = {
        "RESTIC_REPOSITORY": str(place / "repository"),
        "RESTIC_PASSWORD_FILE": str(place / "password"),
        "RESTIC_CACHE_DIR": str(place / "cache"),
    }
    subprocess.run([binary.path, "init"], env=environment, capture_output=True, check=True)
    make_quick(str(place / "repository"), password)
    return place


@pytest.fixture
def target(_fresh: Path, tmp_path: Path) -> Target:
    """Return an empty repository of this test's own."""
    shutil.copytree(_fresh, tmp_path / "restic")
    return Target(
        name="nas",
        url=str(tmp_path / "restic" / "repository"),
        reach="holdstill restic home",
        cache_directory=str(tmp_path / "restic" / "cache"),
        password_file=str(tmp_path / "restic" / "password"),
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with one file."""
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "file").write_text("content")
    return directory


@pytest.fixture
def fake(tmp_path: Path, client: Client) -> Callable[[str], Client]:
    """Return a maker of clients whose restic is a shell script."""

    def make(script: str) -> Client:
        path = tmp_path / "fake-restic"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return client._replace(binary=Binary(str(path), client.binary.version))

    return make
