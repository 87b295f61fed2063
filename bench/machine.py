"""The machine that the figures are of, and the restics that it has."""

from __future__ import annotations

import os
import platform
import shutil
from glob import glob

from bench.contenders import PYTHON
from bench.process import tool
from holdstill.restic.versions import Version, parse

_UNPACKED = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ".cache/restic/*/restic"
)


def restics() -> dict[Version, str]:
    """Return every restic at hand, oldest first: the system's, and those of `make setup-test`."""
    found = {}
    for program in (*glob(_UNPACKED), shutil.which("restic")):
        version = parse(tool(program, "version")) if program else None
        if program and version is not None:
            found[version] = program
    return dict(sorted(found.items()))


def described(restic: Version) -> str:
    """Return one line."""
    return ", ".join(
        [
            f"Linux {platform.release()}",
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            tool(PYTHON, "--version").strip(),
            f"restic {restic}",
            tool("btrfs", "--version").strip().splitlines()[0].replace(" v", " "),
        ]
    )
