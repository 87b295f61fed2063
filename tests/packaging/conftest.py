"""What is built once for all tests of installing, and fresh machines to install it on."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.guardian import unmount
from tests.kernel.private_root import CHECKOUT
from tests.packaging.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SYSTEM = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with what is built here, `dist`, and what that needs: `wheels`, `bin`."""
    return _made_once(tmp_path_factory, "packages", _build)


@pytest.fixture(scope="session")
def deb(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the Debian package from that; return its path."""
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages / "wheels")}
    dist = str(packages / "dist")
    _made_once(tmp_path_factory, "deb", lambda _: _run("tools/deb", dist, **offline))
    (path,) = packages.glob("dist/*.deb")
    return str(path)


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Let the first of pytest's workers make a directory; the others wait for it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    place = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            place.mkdir()
            make(place)
            (place / "complete").touch()
    return place


def _build(place: Path) -> None:
    python = _run("tools/setup", "--python", PATH=_SYSTEM).strip()
    interpreter = shutil.which(python, path=_SYSTEM)
    assert interpreter is not None
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place / "dist"))
    required = ("-r", "requirements/run.txt", "-r", "requirements/build.txt")
    pip = (sys.executable, "-m", "pip", "--python", interpreter, "wheel", "--quiet")
    _run(*pip, "--require-hashes", "--wheel-dir", str(place / "wheels"), *required)
    (place / "bin").mkdir()
    for name in ("pipx", "uv"):
        (place / "bin" / name).symlink_to(Path(sys.prefix, "bin", name))


def _run(*argv: str, **environment: str) -> str:
    done = subprocess.run(
        argv,
        cwd=CHECKOUT,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def machine(packages: Path, tmp_path: Path) -> Iterator[Machine]:
    """Lend a machine on which nothing of holdstill is installed."""
    base = os.path.realpath(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", base], check=True)
    try:
        for name in ("upper", "work", "root"):
            os.mkdir(f"{base}/{name}")
        yield Machine(base, str(packages))
    finally:
        unmount(base)
